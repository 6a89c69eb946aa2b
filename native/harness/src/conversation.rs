//! The answers of a loaded model to the lines of its parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use crate::clock::now_ns;
use crate::engine::{Batch, Session};
use crate::padded_session::PaddedSession;
use crate::plan_file::{Elements, PlanFile, Row};
use crate::shared_memory::{Kind, SharedMemory};
use crate::slice::{Sessions, Slice, SliceFailed, nanoseconds, panic_message};
use crate::stop::{Cure, Stop, one_line};

/// A loaded model, and the plans and the memory that it has mapped, each once.
pub struct Conversation<S> {
    sessions: Sessions<S>,
    plans: HashMap<PathBuf, PlanFile>,
    /// Of each session.
    memories: Vec<Memories>,
}

type Memories = HashMap<PathBuf, SharedMemory>;

impl<S: Session> Conversation<S> {
    pub fn new(sessions: Sessions<S>) -> Conversation<S> {
        let memories = sessions.each.iter().map(|_| Memories::new()).collect();
        Conversation { sessions, plans: HashMap::new(), memories }
    }

    /// Answers lines until `quit` or their end.
    pub fn converse(
        &mut self,
        mut lines: impl Iterator<Item = io::Result<String>>,
        say: &(impl Fn(&str) -> Result<(), Stop> + Sync),
    ) -> Result<(), Stop> {
        let mut line = next(&mut lines)?;
        while let Some(text) = line {
            line = if is_embed(&text) && self.sessions.each.len() > 1 {
                self.embed_side_by_side(text, &mut lines, say)?
            } else {
                say(&self.answer(&text))?;
                next(&mut lines)?
            };
        }
        Ok(())
    }

    /// The answer to one line. Whatever goes wrong becomes an answer too, and the worker stays usable.
    fn answer(&mut self, line: &str) -> String {
        if is_embed(line) {
            let (session, memories) = (&mut self.sessions.each[0], &mut self.memories[0]);
            return Embed::parse(line, 1).map_or_else(failed, |order| embed_answer(session, memories, &order, self.sessions.dim));
        }
        // a mistake in reading or writing files must not end the process either
        let answer = catch_unwind(AssertUnwindSafe(|| match line.split(' ').next() {
            Some("loop") => self.baseline_loop(line).map(|ns| format!("looped {ns}")).map_err(before),
            _ => self.serve(line).map(|rows| format!("served {rows}")),
        }));
        let answer = answer.unwrap_or_else(|panic| Err(SliceFailed { rows: 0, reason: panic_message(panic.as_ref()) }));
        answer.unwrap_or_else(|SliceFailed { rows, reason }| format!("failed {rows} {}", one_line(&reason)))
    }

    /// Answers `embed` lines with a thread for each session, until another line comes; returns that.
    fn embed_side_by_side(
        &mut self,
        first: String,
        lines: &mut impl Iterator<Item = io::Result<String>>,
        say: &(impl Fn(&str) -> Result<(), Stop> + Sync),
    ) -> Result<Option<String>, Stop> {
        let dim = self.sessions.dim;
        thread::scope(|scope| {
            let mut orders = Vec::new();
            for (session, memories) in self.sessions.each.iter_mut().zip(&mut self.memories) {
                let (sender, receiver): (_, Receiver<Embed>) = channel();
                orders.push(sender);
                let answer_all = move || {
                    for order in receiver {
                        // a parent that has closed the pipe ends the conversation when its next line is missing
                        let _ = say(&embed_answer(session, memories, &order, dim));
                    }
                };
                thread::Builder::new().spawn_scoped(scope, answer_all).cure("raise the limit of threads, or ask for fewer sessions")?;
            }
            let mut line = Some(first);
            while let Some(text) = line.take_if(|text| is_embed(text)) {
                match Embed::parse(&text, orders.len()) {
                    Ok(order) => orders[order.session].send(order).cure("report this: a session's thread has ended by itself")?,
                    Err(error) => say(&failed(error))?,
                }
                line = next(lines)?;
            }
            Ok(line)
        })
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
        let session = &mut self.sessions.each[0].session;
        let start_ns = now_ns();
        for batch in batches {
            session.embed(batch)?;
        }
        Ok(now_ns() - start_ns)
    }
}

/// The next line; none after `quit`.
fn next(lines: &mut impl Iterator<Item = io::Result<String>>) -> Result<Option<String>, Stop> {
    let line = lines.next().transpose().cure("send plain lines of text")?;
    Ok(line.filter(|line| line.trim() != "quit"))
}

fn is_embed(line: &str) -> bool {
    line.starts_with("embed ")
}

fn failed(error: anyhow::Error) -> String {
    format!("failed 0 {}", one_line(&format!("{error:#}")))
}

/// Embeds the rows of one line; the answer to it.
fn embed_answer<S: Session>(session: &mut PaddedSession<S>, memories: &mut Memories, order: &Embed, dim: usize) -> String {
    let outcome = catch_unwind(AssertUnwindSafe(|| embed(session, memories, order, dim)));
    let outcome = outcome.unwrap_or_else(|panic| Err(anyhow!(panic_message(panic.as_ref()))));
    match outcome {
        Ok(service_ns) => format!("embedded {} {service_ns}", order.session),
        Err(error) => format!("not-embedded {} {}", order.session, one_line(&format!("{error:#}"))),
    }
}

/// The service time in ns, as `serve` takes it; the vectors are in the shared memory then.
fn embed<S: Session>(session: &mut PaddedSession<S>, memories: &mut Memories, order: &Embed, dim: usize) -> Result<u64> {
    let memory = match memories.entry(order.shared.clone()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(SharedMemory::open(&order.shared)?),
    };
    let (vectors, rows, elements) = memory.parts(order.kind, order.rows, dim)?;
    session.padder.reserve(elements, &rows, rows.len());
    let start_ns = now_ns();
    Ok(session.embed(elements, &rows, vectors, || ())? - start_ns)
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

/// `embed SESSION KIND ROWS SHARED`
#[derive(Debug, PartialEq)]
struct Embed {
    session: usize,
    kind: Kind,
    rows: usize,
    shared: PathBuf,
}

impl Embed {
    fn parse(line: &str, sessions: usize) -> Result<Embed> {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["embed", session, kind, rows, shared] = fields[..] else {
            return Err(anyhow!("not understood: {line:?}; `embed SESSION KIND ROWS SHARED` is wanted"));
        };
        let kind = [Kind::Tokens, Kind::Pixels].into_iter().find(|known| known.name() == kind);
        let kind = kind.context("KIND is neither tokens nor pixels")?;
        let order = Embed { session: number("SESSION", session)?, kind, rows: number("ROWS", rows)?, shared: shared.into() };
        ensure!(order.session < sessions, "there are {sessions} sessions, counted from 0, and no {session}");
        ensure!(order.rows > 0, "ROWS is 0; at least 1 is wanted");
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

    #[test]
    fn an_embed_line_is_read_field_by_field() {
        let order = Embed::parse("embed 1 pixels 3 /dev/fd/5", 2).unwrap();
        assert_eq!(order, Embed { session: 1, kind: Kind::Pixels, rows: 3, shared: "/dev/fd/5".into() });
        for line in ["embed", "embed 2 tokens 1 m", "embed 0 words 1 m", "embed 0 tokens 0 m", "embed 0 tokens 1", "embed 0 tokens 1 m m"] {
            assert!(Embed::parse(line, 2).is_err(), "{line}");
        }
    }
}
