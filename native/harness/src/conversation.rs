//! The answers of a loaded model to the lines of its parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};

use crate::clock::now_ns;
use crate::engine::{Batch, Session};
use crate::plan_file::{Elements, PlanFile, Row};
use crate::slice::{Sessions, Slice, SliceFailed, nanoseconds, panic_message};
use crate::stop::one_line;

/// A loaded model and the plans that it has mapped, each once.
pub struct Conversation<S> {
    sessions: Sessions<S>,
    plans: HashMap<PathBuf, PlanFile>,
}

impl<S: Session> Conversation<S> {
    pub fn new(sessions: Sessions<S>) -> Conversation<S> {
        Conversation { sessions, plans: HashMap::new() }
    }

    /// The answer to one line. Whatever goes wrong becomes `failed N reason`, and the worker stays usable.
    pub fn answer(&mut self, line: &str) -> String {
        // a mistake in reading or writing files must not end the process either
        let answer = catch_unwind(AssertUnwindSafe(|| match line.split(' ').next() {
            Some("loop") => self.baseline_loop(line).map(|ns| format!("looped {ns}")).map_err(before),
            _ => self.serve(line).map(|rows| format!("served {rows}")),
        }));
        let answer = answer.unwrap_or_else(|panic| Err(SliceFailed { rows: 0, reason: panic_message(panic.as_ref()) }));
        answer.unwrap_or_else(|SliceFailed { rows, reason }| format!("failed {rows} {}", one_line(&reason)))
    }

    /// Serves one slice and writes OUT; returns the number of rows served.
    fn serve(&mut self, line: &str) -> Result<usize, SliceFailed> {
        let order = Serve::parse(line).map_err(before)?;
        let plan = plan(&mut self.plans, &order.plan).map_err(before)?;
        let rows = rows_of(plan, &order.plan, order.first, order.count).map_err(before)?;
        let guard_ns = nanoseconds(order.seconds);
        let slice = Slice { elements: plan.elements(), rows, rate: order.rate, batch: order.batch, guard_ns };
        let counts = self.sessions.serve(slice)?;
        let written = self.sessions.recorder.write(&order.out, order.first, counts.rows, self.sessions.dim, counts.batches);
        written.map_err(|error| SliceFailed { rows: counts.rows, reason: format!("{error:#}") })?;
        Ok(counts.rows)
    }

    /// `loop PLAN FIRST COUNT`: the ns that the framework takes for these rows one by one, called in a plain loop that records nothing.
    fn baseline_loop(&mut self, line: &str) -> Result<u64> {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["loop", path, first, count] = fields[..] else {
            return Err(anyhow!("not understood: {line:?}; `loop PLAN FIRST COUNT` is wanted"));
        };
        let path = Path::new(path);
        let plan = plan(&mut self.plans, path)?;
        let rows = rows_of(plan, path, number("FIRST", first)?, number("COUNT", count)?)?;
        let ones = vec![1; rows.iter().map(|row| row.length).max().unwrap_or(0)];
        let lengths: Vec<[usize; 1]> = rows.iter().map(|row| [row.length]).collect();
        let single = |(row, length)| single_row(plan.elements(), row, length, &ones);
        let batches: Vec<Batch<'_>> = rows.iter().zip(&lengths).map(single).collect();
        let (session, _) = &mut self.sessions.each[0];
        let start_ns = now_ns();
        for batch in batches {
            session.embed(batch)?;
        }
        Ok(now_ns() - start_ns)
    }
}

/// One row as a batch, as it lies in the plan.
fn single_row<'a>(elements: Elements<'a>, row: &Row, lengths: &'a [usize; 1], ones: &'a [i64]) -> Batch<'a> {
    let place = row.offset..row.offset + row.length;
    match elements {
        Elements::Tokens(all) => Batch::Tokens { ids: &all[place], mask: &ones[..row.length], lengths, width: row.length },
        Elements::Pixels(all) => Batch::Pixels { values: &all[place], rows: 1 },
    }
}

/// A failure before the first row.
fn before(error: anyhow::Error) -> SliceFailed {
    SliceFailed { rows: 0, reason: format!("{error:#}") }
}

/// The plan of this path, mapped once and kept.
fn plan<'a>(plans: &'a mut HashMap<PathBuf, PlanFile>, path: &Path) -> Result<&'a PlanFile> {
    match plans.entry(path.to_owned()) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => Ok(new.insert(PlanFile::open(path)?)),
    }
}

fn rows_of<'a>(plan: &'a PlanFile, path: &Path, first: usize, count: usize) -> Result<&'a [Row]> {
    let rows = first.checked_add(count).and_then(|end| plan.rows.get(first..end));
    rows.with_context(|| format!("{} has {} rows, not {first} + {count}", path.display(), plan.rows.len()))
}

/// `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT`
#[derive(Debug, PartialEq)]
struct Serve {
    plan: PathBuf,
    first: usize,
    count: usize,
    rate: f64,
    batch: usize,
    seconds: f64,
    out: PathBuf,
}

impl Serve {
    fn parse(line: &str) -> Result<Serve> {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["serve", plan, first, count, rate, batch, seconds, out] = fields[..] else {
            return Err(anyhow!("not understood: {line:?}; `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit` is wanted"));
        };
        let order = Serve {
            plan: plan.into(),
            first: number("FIRST", first)?,
            count: number("COUNT", count)?,
            rate: number("RATE", rate)?,
            batch: number("BATCH", batch)?,
            seconds: number("SECONDS", seconds)?,
            out: out.into(),
        };
        ensure!(order.rate.is_finite() && order.rate >= 0.0, "RATE {rate} is not 0 or more");
        ensure!(order.batch > 0, "BATCH is 0; at least 1 is wanted");
        ensure!(order.count > 0, "COUNT is 0; at least 1 is wanted");
        ensure!(order.seconds.is_finite() && order.seconds > 0.0, "SECONDS {seconds} is not more than 0");
        ensure!(!order.out.exists(), "{} exists; name a new folder", order.out.display());
        Ok(order)
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| anyhow!("{name} {text:?} is not a number of its kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serve_line_is_read_field_by_field() {
        let order = Serve::parse("serve p 3 5 0.5 8 2.5 out/x").unwrap();
        let expected = Serve { plan: "p".into(), first: 3, count: 5, rate: 0.5, batch: 8, seconds: 2.5, out: "out/x".into() };
        assert_eq!(order, expected);
    }

    #[test]
    fn a_wrong_serve_line_is_refused() {
        let wrong = [
            "",
            "serve",
            "serve p 0 1 0 1 1",
            "serve p -1 1 0 1 1 o",
            "serve p 0 1 -1 1 1 o",
            "serve p 0 1 0 0 1 o",
            "serve p 0 1 nan 1 1 o",
            "serve p 0 1 0 1 inf o",
        ];
        for line in wrong {
            assert!(Serve::parse(line).is_err(), "{line}");
        }
    }
}
