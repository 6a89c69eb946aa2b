//! The traits that a framework implements: the border between the loop and the engines.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::args::Options;
use crate::stop::Stop;
use crate::version::Version;

/// A framework: its name, its knobs and how it loads a model.
pub trait Engine {
    /// The framework's name in the catalogue.
    const NAME: &'static str;
    /// The switches that `--set` can change.
    type Knobs: Default;
    type Session: Session;

    /// Sets one knob. The error is one line that names the keys or values that exist; it ends the process with status 2.
    fn set(knobs: &mut Self::Knobs, key: &str, value: &str) -> Result<(), String>;

    /// Loads the runtime (no model) and returns its name, version and build.
    fn version() -> Result<Version, Stop>;

    /// Loads the model of `options.model` into `options.sessions` sessions of `options.threads` threads each.
    fn load(options: &Options, knobs: &Self::Knobs) -> Result<Loaded<Self::Session>, Stop>;
}

/// One loaded model with its own threads, used by one thread at a time.
pub trait Session: Send {
    /// Turns a batch into `rows × dim` float32, row by row, each row of length 1 (L2). The answer is dropped after the clock has been
    /// read, so freeing it is not service time.
    fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>>;
}

/// The tensors of one call, as slices.
#[derive(Clone, Copy, Debug)]
pub enum Batch<'a> {
    /// `ids` and `mask` are `lengths.len() × width`, padded on the right; `mask` is 1 on a row's own `lengths[row]` ids and 0 elsewhere.
    Tokens { ids: &'a [i64], mask: &'a [i64], lengths: &'a [usize], width: usize },
    /// `values` are `rows` images of 3 × height × width, normalised as the model wants them.
    Pixels { values: &'a [f32], rows: usize },
}

impl Batch<'_> {
    pub fn rows(&self) -> usize {
        match self {
            Batch::Tokens { lengths, .. } => lengths.len(),
            Batch::Pixels { rows, .. } => *rows,
        }
    }
}

/// A model that is ready to serve.
pub struct Loaded<S> {
    /// As many as `--sessions` asked for.
    pub sessions: Vec<S>,
    /// Length of a vector.
    pub dim: usize,
    /// The input of the first and second call.
    pub example: Example,
    /// Settings read back from the runtime; `precision` and `threads` at least. The worker adds `sessions` and every `--set` key.
    pub settings: Map<String, Value>,
}

/// The input of the two timed calls after loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    /// One row of the ids 1, 2, …, n.
    Tokens(usize),
    /// One image of n zeros.
    Pixels(usize),
}
