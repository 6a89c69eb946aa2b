//! The loop: sessions take rows that are due, embed them and record when.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

use crate::args::Fault;
use crate::clock::{now_ns, wait_until};
use crate::engine::Session;
use crate::padded_session::PaddedSession;
use crate::plan_file::{Elements, Row};
use crate::queue::{Arrivals, Next, Queue, Taken, due_offsets};
use crate::recorder::Recorder;
use crate::stop::one_line;

/// The rows of one `serve` line and how to serve them.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    pub elements: Elements<'a>,
    pub rows: &'a [Row],
    /// Requests per second; 0 is back to back.
    pub rate: f64,
    /// Most rows that are taken together.
    pub batch: usize,
    /// No request is taken later than this after the start.
    pub guard_ns: u64,
}

/// How much of a slice was served. The recorder holds its first `rows` rows.
#[derive(Clone, Copy, Debug)]
pub struct SliceCounts {
    pub rows: usize,
    pub batches: usize,
}

/// A slice that a session or the disk ended early; `rows` rows were answered by then.
#[derive(Debug)]
pub struct SliceFailed {
    pub rows: usize,
    pub reason: String,
}

/// The sessions of a worker and the recorder of the last slice.
pub struct Sessions<S> {
    pub each: Vec<PaddedSession<S>>,
    pub dim: usize,
    faults: Faults,
    pub recorder: Recorder,
}

impl<S: Session> Sessions<S> {
    pub fn new(sessions: Vec<S>, dim: usize, pad_id: i64, fault: Fault) -> Sessions<S> {
        let each = sessions.into_iter().map(|session| PaddedSession::new(session, pad_id)).collect();
        let faults = Faults { fault, stalled: AtomicBool::new(false) };
        Sessions { each, dim, faults, recorder: Recorder::default() }
    }

    /// Serves a slice with all sessions, each in a thread of its own where there are several.
    pub fn serve(&mut self, slice: Slice<'_>) -> Result<SliceCounts, SliceFailed> {
        self.recorder.clear(slice.rows.len(), self.dim);
        for session in &mut self.each {
            session.padder.reserve(slice.elements, slice.rows, slice.batch);
        }
        let offsets = if slice.rate > 0.0 { due_offsets(slice.rows, slice.rate) } else { Vec::new() };
        let arrivals = if slice.rate > 0.0 { Arrivals::At(&offsets) } else { Arrivals::BackToBack };

        let Recorder { samples, vectors } = &mut self.recorder;
        let vectors = &mut vectors[..slice.rows.len() * self.dim];
        let queue = Mutex::new(Queue::new(arrivals, slice.batch, slice.guard_ns, slice.rows, samples, vectors));
        let batches = AtomicUsize::new(0);
        let work = Work { queue: &queue, batches: &batches, elements: slice.elements, faults: &self.faults };
        match self.each.as_mut_slice() {
            [session] => {
                lock(&queue).start(now_ns());
                work.run(session);
            }
            each => thread::scope(|scope| {
                // no session can take a row before the lock is free, so all begin together
                let mut starting = lock(&queue);
                for session in each {
                    if let Err(error) = thread::Builder::new().spawn_scoped(scope, || work.run(session)) {
                        starting.fail(format!("cannot start a thread: {error}"));
                    }
                }
                starting.start(now_ns());
            }),
        }
        match queue.into_inner().unwrap_or_else(PoisonError::into_inner).finish() {
            Ok(rows) => Ok(SliceCounts { rows, batches: batches.into_inner() }),
            Err(reason) => Err(SliceFailed { rows: self.recorder.answered(), reason }),
        }
    }
}

/// The parts that the sessions of one slice share.
#[derive(Clone, Copy)]
struct Work<'a, 'q> {
    queue: &'a Mutex<Queue<'q>>,
    batches: &'a AtomicUsize,
    elements: Elements<'a>,
    faults: &'a Faults,
}

impl Work<'_, '_> {
    /// Serves until nothing is left. An error or a panic fails the slice for all.
    fn run<S: Session>(&self, session: &mut PaddedSession<S>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.take_and_serve(session)));
        match outcome {
            Ok(Ok(batches)) => {
                self.batches.fetch_add(batches, Ordering::Relaxed);
            }
            Ok(Err(error)) => lock(self.queue).fail(one_line(&format!("{error:#}"))),
            Err(panic) => lock(self.queue).fail(one_line(&panic_message(panic.as_ref()))),
        }
    }

    fn take_and_serve<S: Session>(&self, session: &mut PaddedSession<S>) -> Result<usize> {
        let began_ns = lock(self.queue).started();
        let mut batches = 0;
        loop {
            let next = {
                let mut queue = lock(self.queue);
                queue.take(now_ns())
            };
            match next {
                Next::Serve(taken) => self.serve(session, taken, began_ns)?,
                Next::WaitUntil(due_ns) => {
                    wait_until(due_ns);
                    continue;
                }
                Next::Done => return Ok(batches),
            }
            batches += 1;
        }
    }

    #[inline]
    fn serve<S: Session>(&self, session: &mut PaddedSession<S>, taken: Taken<'_>, began_ns: u64) -> Result<()> {
        let start_ns = taken.samples[0].start_ns;
        let end_ns = session.embed(self.elements, taken.rows, taken.vectors, || self.faults.delay(began_ns, start_ns))?;
        taken.samples.iter_mut().for_each(|sample| sample.end_ns = end_ns);
        Ok(())
    }
}

/// The planted fault, and whether its stall has come.
struct Faults {
    fault: Fault,
    stalled: AtomicBool,
}

impl Faults {
    /// Waits for what the fault adds to a service that began at `start_ns` of a slice that began at `began_ns`.
    #[inline]
    fn delay(&self, began_ns: u64, start_ns: u64) {
        if let Some(factor) = self.fault.slow {
            wait_until(start_ns + ((now_ns() - start_ns) as f64 * factor) as u64);
        }
        if let Some(stall) = self.fault.stall
            && start_ns >= began_ns.saturating_add(nanoseconds(stall.at_s))
            && !self.stalled.swap(true, Ordering::Relaxed)
        {
            wait_until(now_ns().saturating_add(nanoseconds(stall.for_s)));
        }
    }
}

/// Seconds as whole ns; more than u64 holds becomes its largest.
pub fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// A panic never happens while the queue is half changed, so a poisoned lock is still good.
fn lock<'a, 'q>(queue: &'a Mutex<Queue<'q>>) -> MutexGuard<'a, Queue<'q>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", message.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::args::Stall;
    use crate::engine::Batch;

    /// Answers each row with its first id; fails or panics on request.
    struct Echo {
        fail_at: i64,
        panic_at: i64,
        answer: Vec<f32>,
    }

    impl Echo {
        fn new() -> Echo {
            Echo { fail_at: -1, panic_at: -1, answer: Vec::new() }
        }
    }

    impl Session for Echo {
        fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>> {
            let Batch::Tokens { ids, width, .. } = batch else { bail!("text only") };
            let firsts: Vec<i64> = ids.chunks(width).map(|row| row[0]).collect();
            assert!(!firsts.contains(&self.panic_at), "told to");
            if firsts.contains(&self.fail_at) {
                bail!("row {}\nis bad", self.fail_at);
            }
            self.answer = firsts.iter().map(|&first| first as f32).collect();
            Ok(&self.answer[..])
        }
    }

    fn rows(count: usize) -> Vec<Row> {
        (0..count).map(|offset| Row { gap: 1.0, offset, length: 1 }).collect()
    }

    fn serve(sessions: &mut Sessions<Echo>, count: usize, rate: f64, batch: usize, guard_ns: u64) -> Result<SliceCounts, SliceFailed> {
        let ids: Vec<i64> = (0..count as i64).collect();
        sessions.serve(Slice { elements: Elements::Tokens(&ids), rows: &rows(count), rate, batch, guard_ns })
    }

    #[test]
    fn every_row_gets_its_own_answer_with_any_number_of_sessions() {
        for count in [1, 3] {
            let mut sessions = Sessions::new((0..count).map(|_| Echo::new()).collect(), 1, 0, Fault::default());
            for (rate, batch) in [(0.0, 1), (0.0, 8), (50_000.0, 1), (50_000.0, 8)] {
                let served = serve(&mut sessions, 101, rate, batch, u64::MAX).unwrap();
                assert_eq!(served.rows, 101);
                assert!(served.batches >= 101_usize.div_ceil(batch));
                let expected: Vec<f32> = (0..101).map(|row| row as f32).collect();
                assert_eq!(sessions.recorder.vectors[..101], expected);
                for sample in &sessions.recorder.samples {
                    assert!(sample.due_ns <= sample.start_ns && sample.start_ns <= sample.end_ns);
                }
            }
        }
    }

    #[test]
    fn an_error_or_a_panic_fails_the_slice_and_the_next_one_works() {
        let mut sessions = Sessions::new(vec![Echo { fail_at: 5, ..Echo::new() }], 1, 0, Fault::default());
        let failed = serve(&mut sessions, 9, 0.0, 2, u64::MAX).unwrap_err();
        assert_eq!((failed.rows, failed.reason.as_str()), (4, "row 5 is bad"));
        sessions.each[0].session = Echo { panic_at: 3, ..Echo::new() };
        let failed = serve(&mut sessions, 9, 0.0, 1, u64::MAX).unwrap_err();
        assert_eq!((failed.rows, failed.reason.as_str()), (3, "panic: told to"));
        assert_eq!(serve(&mut sessions, 3, 0.0, 1, u64::MAX).unwrap().rows, 3);
    }

    #[test]
    fn the_guard_cuts_a_slice() {
        let mut sessions = Sessions::new(vec![Echo::new()], 1, 0, Fault::default());
        // due 1 s apart: only the first comes due within 1.5 s
        let served = serve(&mut sessions, 9, 1.0, 1, 1_500_000_000).unwrap();
        assert_eq!((served.rows, served.batches), (1, 1));
    }

    #[test]
    fn a_stall_comes_once_and_not_too_early() {
        let stall = Stall { at_s: 1.0, for_s: 0.3 };
        let faults = Faults { fault: Fault { slow: None, stall: Some(stall) }, stalled: AtomicBool::new(false) };
        let took_ns = |start_ns| {
            let before_ns = now_ns();
            faults.delay(0, start_ns);
            now_ns() - before_ns
        };
        assert!(took_ns(999_999_999) < 300_000_000);
        assert!(took_ns(1_000_000_000) >= 300_000_000);
        assert!(took_ns(1_000_000_000) < 300_000_000);
    }

    #[test]
    fn slow_lengthens_a_service_by_its_factor() {
        let faults = Faults { fault: Fault { slow: Some(3.0), stall: None }, stalled: AtomicBool::new(false) };
        let start_ns = now_ns();
        wait_until(start_ns + 1_000_000);
        faults.delay(start_ns, start_ns);
        assert!(now_ns() >= start_ns + 3_000_000);
    }
}
