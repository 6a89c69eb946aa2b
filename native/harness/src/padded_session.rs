//! A session with its padder: rows in, vectors out.

use anyhow::{Result, ensure};

use crate::clock::now_ns;
use crate::engine::Session;
use crate::padder::Padder;
use crate::plan_file::{Elements, Row};

/// A session that pads its own batches. One thread uses it at a time.
pub struct PaddedSession<S> {
    pub session: S,
    pub padder: Padder,
}

impl<S: Session> PaddedSession<S> {
    pub fn new(session: S, pad_id: i64) -> PaddedSession<S> {
        PaddedSession { session, padder: Padder::new(pad_id) }
    }

    /// Embeds `rows` together into `vectors` (rows × dim); returns the time at which the vectors were there. `delay` is called just before
    /// the clock is read.
    #[inline]
    pub fn embed(&mut self, elements: Elements<'_>, rows: &[Row], vectors: &mut [f32], delay: impl FnOnce()) -> Result<u64> {
        let answer = self.session.embed(self.padder.batch(elements, rows)?)?;
        delay();
        let end_ns = now_ns();
        let answer = answer.as_ref();
        ensure!(answer.len() == vectors.len(), "{} numbers came back, not {}", answer.len(), vectors.len());
        vectors.copy_from_slice(answer);
        Ok(end_ns)
    }
}
