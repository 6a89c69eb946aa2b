//! The rows of a slice that no session has taken yet, and the places for their answers.

use std::mem::take;

use crate::plan_file::Row;
use crate::recorder::Sample;

/// When rows come due.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals<'a> {
    /// Always the next rows, due when they are taken.
    BackToBack,
    /// Row *i* is due this many ns after the start.
    At(&'a [u64]),
}

/// Rows that one session has taken, with the places for their samples and vectors.
#[derive(Debug)]
pub struct Taken<'a> {
    pub rows: &'a [Row],
    pub samples: &'a mut [Sample],
    pub vectors: &'a mut [f32],
}

/// What a session does next.
#[derive(Debug)]
pub enum Next<'a> {
    Serve(Taken<'a>),
    WaitUntil(u64),
    Done,
}

/// Rows in plan order. Sessions share it behind a lock; each take hands out slices that nobody else has.
pub struct Queue<'a> {
    arrivals: Arrivals<'a>,
    start_ns: u64,
    /// No request is taken after this.
    last_ns: u64,
    batch: usize,
    dim: usize,
    taken: usize,
    rows: &'a [Row],
    samples: &'a mut [Sample],
    vectors: &'a mut [f32],
    failure: Option<String>,
}

impl<'a> Queue<'a> {
    pub fn new(
        arrivals: Arrivals<'a>,
        batch: usize,
        guard_ns: u64,
        rows: &'a [Row],
        samples: &'a mut [Sample],
        vectors: &'a mut [f32],
    ) -> Queue<'a> {
        let dim = if rows.is_empty() { 0 } else { vectors.len() / rows.len() };
        Queue { arrivals, start_ns: 0, last_ns: guard_ns, batch, dim, taken: 0, rows, samples, vectors, failure: None }
    }

    /// Due times and the guard count from here.
    pub fn start(&mut self, now_ns: u64) {
        self.start_ns = now_ns;
        self.last_ns = self.last_ns.saturating_add(now_ns);
    }

    /// When due times and the guard began to count.
    pub fn started(&self) -> u64 {
        self.start_ns
    }

    /// Takes the rows that may be taken at `now_ns` and fills in their due times and starts.
    #[inline]
    pub fn take(&mut self, now_ns: u64) -> Next<'a> {
        if self.rows.is_empty() || self.failure.is_some() || now_ns > self.last_ns {
            return Next::Done;
        }
        let count = match self.arrivals {
            Arrivals::BackToBack => self.batch.min(self.rows.len()),
            Arrivals::At(offsets) => {
                let waiting = &offsets[self.taken..];
                let due = waiting.iter().take(self.batch).take_while(|&&offset| self.start_ns + offset <= now_ns).count();
                if due == 0 {
                    let next_ns = self.start_ns + waiting[0];
                    return if next_ns > self.last_ns { Next::Done } else { Next::WaitUntil(next_ns) };
                }
                due
            }
        };
        let (rows, rest) = self.rows.split_at(count);
        self.rows = rest;
        let (samples, rest) = take(&mut self.samples).split_at_mut(count);
        self.samples = rest;
        let (vectors, rest) = take(&mut self.vectors).split_at_mut(count * self.dim);
        self.vectors = rest;
        for (index, sample) in samples.iter_mut().enumerate() {
            sample.start_ns = now_ns;
            sample.due_ns = match self.arrivals {
                Arrivals::BackToBack => now_ns,
                Arrivals::At(offsets) => self.start_ns + offsets[self.taken + index],
            };
        }
        self.taken += count;
        Next::Serve(Taken { rows, samples, vectors })
    }

    /// Ends the slice for every session; the first reason stays.
    pub fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }

    /// The number of rows taken, or the reason of the failure.
    pub fn finish(self) -> Result<usize, String> {
        self.failure.map_or(Ok(self.taken), Err)
    }
}

/// The times at which rows are due, in ns after the start: the sum of the gaps so far over the rate (per second).
pub fn due_offsets(rows: &[Row], rate: f64) -> Vec<u64> {
    let mut gaps = 0.0;
    rows.iter()
        .map(|row| {
            gaps += row.gap;
            (gaps / rate * 1e9).round() as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(gaps: &[f64]) -> Vec<Row> {
        gaps.iter().enumerate().map(|(index, &gap)| Row { gap, offset: index, length: 1 }).collect()
    }

    /// Runs `check` on a queue of these rows with vectors of 2, started at 1000 ns.
    fn with_queue(rows: &[Row], arrivals: Arrivals<'_>, batch: usize, guard_ns: u64, check: impl FnOnce(&mut Queue<'_>)) {
        let (mut samples, mut vectors) = (vec![Sample::default(); rows.len()], vec![0.0; 2 * rows.len()]);
        let mut queue = Queue::new(arrivals, batch, guard_ns, rows, &mut samples, &mut vectors);
        queue.start(1000);
        check(&mut queue);
    }

    fn offsets_taken(next: Next<'_>) -> Vec<usize> {
        match next {
            Next::Serve(taken) => {
                assert_eq!((taken.samples.len(), taken.vectors.len()), (taken.rows.len(), 2 * taken.rows.len()));
                taken.rows.iter().map(|row| row.offset).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn due_times_are_the_sum_of_gaps_over_the_rate() {
        assert_eq!(due_offsets(&rows(&[0.5, 1.0, 0.25]), 1000.0), [500_000, 1_500_000, 1_750_000]);
        assert_eq!(due_offsets(&rows(&[1.0]), 0.1), [10_000_000_000]);
    }

    #[test]
    fn back_to_back_takes_full_batches_in_order() {
        with_queue(&rows(&[9.0; 5]), Arrivals::BackToBack, 2, 1_000_000, |queue| {
            let Next::Serve(taken) = queue.take(1007) else { panic!() };
            assert_eq!(taken.samples, [Sample { due_ns: 1007, start_ns: 1007, end_ns: 0 }; 2]);
            assert_eq!(offsets_taken(queue.take(1008)), [2, 3]);
            assert_eq!(offsets_taken(queue.take(1009)), [4]);
            assert!(matches!(queue.take(1010), Next::Done));
        });
    }

    #[test]
    fn what_is_due_is_taken_together_up_to_the_batch() {
        with_queue(&rows(&[1.0; 5]), Arrivals::At(&[10, 20, 30, 40, 90]), 3, 1_000_000, |queue| {
            assert!(matches!(queue.take(1005), Next::WaitUntil(1010)));
            assert_eq!(offsets_taken(queue.take(1010)), [0]);
            let Next::Serve(taken) = queue.take(1050) else { panic!() };
            let due: Vec<u64> = taken.samples.iter().map(|sample| sample.due_ns).collect();
            assert_eq!(due, [1020, 1030, 1040]);
            assert!(matches!(queue.take(1050), Next::WaitUntil(1090)));
        });
    }

    #[test]
    fn the_guard_takes_nothing_later() {
        with_queue(&rows(&[1.0; 3]), Arrivals::BackToBack, 1, 50, |queue| {
            assert_eq!(offsets_taken(queue.take(1050)), [0]);
            assert!(matches!(queue.take(1051), Next::Done));
        });
        with_queue(&rows(&[1.0; 2]), Arrivals::At(&[10, 60]), 1, 50, |queue| {
            assert_eq!(offsets_taken(queue.take(1010)), [0]);
            // row 1 comes due after the guard: nobody waits for it
            assert!(matches!(queue.take(1011), Next::Done));
        });
    }

    #[test]
    fn a_failure_ends_it_for_all() {
        let (mut samples, mut vectors, rows) = ([Sample::default(); 2], [0.0; 2], rows(&[1.0; 2]));
        let mut queue = Queue::new(Arrivals::BackToBack, 1, 1_000, &rows, &mut samples, &mut vectors);
        queue.start(1000);
        assert_eq!(queue.taken, 0);
        queue.take(1001);
        queue.fail("first".to_owned());
        queue.fail("second".to_owned());
        assert!(matches!(queue.take(1002), Next::Done));
        assert_eq!(queue.finish(), Err("first".to_owned()));
    }
}
