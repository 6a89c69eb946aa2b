//! The conversation of a worker with its parent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Map, Value, json};

use crate::args::{Command, Options, parse};
use crate::clock::now_ns;
use crate::engine::one_line;
use crate::engine::{Batch, Cure, Engine, Loaded, Probe, Session, Stop};
use crate::output;
use crate::plan::{Elements, Plan, Row};
use crate::process;
use crate::serve::{Failed, Request, Sessions, nanoseconds, panic_message};

/// The whole life of a worker. The status says how it ended (bench/WORKER.md).
pub fn main<E: Engine>() -> ExitCode {
    match catch_unwind(run::<E>).unwrap_or_else(|panic| Err(panicked(&panic_message(panic.as_ref())))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("{stop}");
            ExitCode::from(stop.status())
        }
    }
}

fn panicked(message: &str) -> Stop {
    Stop::Error { thing: message.to_owned(), cure: "see the lines above; this is a mistake of the worker or its runtime".to_owned() }
}

fn run<E: Engine>() -> Result<(), Stop> {
    let mut parent = process::prepare().cure("start the worker under Linux, with its stdout open, from a process that waits for it")?;
    match parse(std::env::args_os().skip(1))? {
        Command::Version => say(&mut parent, &serde_json::to_string(&E::version()?).cure("give the version as plain text")?),
        Command::Serve(options) => converse::<E>(&options, &mut parent),
    }
}

fn converse<E: Engine>(options: &Options, parent: &mut File) -> Result<(), Stop> {
    let mut knobs = E::Knobs::default();
    for (key, value) in &options.set {
        E::set(&mut knobs, key, value).map_err(|what| Stop::Usage(format!("--set {key}={value}: {what}")))?;
    }
    if !options.model.is_dir() {
        return Err(Stop::Error {
            thing: format!("{} is no folder", options.model.display()),
            cure: "give --model an artefact folder, as `invoke export` makes them".to_owned(),
        });
    }
    let begin_ns = now_ns();
    let Loaded { sessions, dim, probe, settings } = E::load(options, &knobs)?;
    let load_ns = now_ns() - begin_ns;
    let mut worker = Worker { sessions: Sessions::new(sessions, dim, options.pad_id, options.fault), dim, plans: HashMap::new() };
    let first_ns = worker.call(0, probe)?;
    let second_ns = worker.call(0, probe)?;
    for session in 1..options.sessions {
        worker.call(session, probe)?;
    }
    let settings = with_flags(settings, options);
    let ready = json!({"load_ns": load_ns, "first_ns": first_ns, "second_ns": second_ns, "dim": dim, "settings": settings});
    say(parent, &format!("ready {ready}"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.cure("send plain lines of text")?;
        if line.trim() == "quit" {
            break;
        }
        say(parent, &worker.answer(&line))?;
    }
    Ok(())
}

/// Adds what every worker reports: sessions, the knobs, and the faults, so that no measured arm can hide one.
fn with_flags(mut settings: Map<String, Value>, options: &Options) -> Map<String, Value> {
    settings.insert("sessions".to_owned(), json!(options.sessions));
    for (key, value) in &options.set {
        // what the runtime read back stands above what was asked for
        settings.entry(key.as_str()).or_insert_with(|| json!(value));
    }
    if let Some(factor) = options.fault.slow {
        settings.insert("fault_slow".to_owned(), json!(factor));
    }
    if let Some(stall) = options.fault.stall {
        settings.insert("fault_stall".to_owned(), json!(format!("{}:{}", stall.at_s, stall.for_s)));
    }
    settings
}

fn say(parent: &mut File, line: &str) -> Result<(), Stop> {
    writeln!(parent, "{line}").and_then(|()| parent.flush()).cure("keep the worker's stdout open until it has ended")
}

struct Worker<S> {
    sessions: Sessions<S>,
    dim: usize,
    plans: HashMap<PathBuf, Plan>,
}

impl<S: Session> Worker<S> {
    /// The time of one call of a session on the probe, in ns.
    fn call(&mut self, session: usize, probe: Probe) -> Result<u64, Stop> {
        let cure = "export the model again; if it stays so, the runtime cannot run this model";
        let (ids, mask, pixels, lengths);
        let batch = match probe {
            Probe::Tokens(width) => {
                ids = (1..=width as i64).collect::<Vec<_>>();
                mask = vec![1; width];
                lengths = [width];
                Batch::Tokens { ids: &ids, mask: &mask, lengths: &lengths, width }
            }
            Probe::Pixels(count) => {
                pixels = vec![0.0; count];
                Batch::Pixels { values: &pixels, rows: 1 }
            }
        };
        let start_ns = now_ns();
        let vector = self.sessions.get(session).embed(batch).cure(cure)?;
        let spent_ns = now_ns() - start_ns;
        if vector.as_ref().len() != self.dim {
            return Err(Stop::Error {
                thing: format!("a vector of {} numbers came back, not {}", vector.as_ref().len(), self.dim),
                cure: cure.to_owned(),
            });
        }
        Ok(spent_ns)
    }

    /// One line in, one line out. Whatever goes wrong is said, and the worker stays usable.
    fn answer(&mut self, line: &str) -> String {
        if line.starts_with("loop ") {
            return self
                .bare(line)
                .map_or_else(|error| format!("failed 0 {}", one_line(&format!("{error:#}"))), |ns| format!("looped {ns}"));
        }
        // a mistake in reading or writing files must not end the process either
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve(line)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Failed { rows: 0, reason: panic_message(panic.as_ref()) }));
        match outcome {
            Ok(rows) => format!("served {rows}"),
            Err(Failed { rows, reason }) => format!("failed {rows} {}", one_line(&reason)),
        }
    }

    /// `loop PLAN FIRST COUNT`: the ns that the framework takes for these rows one by one, called in a plain loop that records nothing.
    fn bare(&mut self, line: &str) -> Result<u64> {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["loop", path, first, count] = fields[..] else {
            return Err(anyhow!("not understood: {line:?}; `loop PLAN FIRST COUNT` is wanted"));
        };
        let (first, count): (usize, usize) = (number("FIRST", first)?, number("COUNT", count)?);
        let plan = plan(&mut self.plans, Path::new(path))?;
        let rows = first.checked_add(count).and_then(|end| plan.rows.get(first..end));
        let rows = rows.with_context(|| format!("{path} has {} rows, not {first} + {count}", plan.rows.len()))?;
        let ones = vec![1; rows.iter().map(|row| row.length).max().unwrap_or(0)];
        let lengths: Vec<[usize; 1]> = rows.iter().map(|row| [row.length]).collect();
        let batch = |(row, length)| alone(plan.elements(), row, length, &ones);
        let batches: Vec<Batch<'_>> = rows.iter().zip(&lengths).map(batch).collect();
        let session = self.sessions.get(0);
        let start_ns = now_ns();
        for batch in batches {
            session.embed(batch)?;
        }
        Ok(now_ns() - start_ns)
    }

    fn serve(&mut self, line: &str) -> Result<usize, Failed> {
        let order = Order::parse(line).map_err(before)?;
        let plan = plan(&mut self.plans, &order.plan).map_err(before)?;
        let rows = order.rows(plan).map_err(before)?;
        let request =
            Request { elements: plan.elements(), rows, rate: order.rate, batch: order.batch, guard_ns: nanoseconds(order.seconds) };
        let served = self.sessions.serve(request)?;
        let (samples, vectors) = (&self.sessions.samples[..served.rows], &self.sessions.vectors[..served.rows * self.dim]);
        output::write(&order.out, order.first, samples, vectors, self.dim, served.batches)
            .map_err(|error| Failed { rows: served.rows, reason: format!("{error:#}") })?;
        Ok(served.rows)
    }
}

/// One row as a batch, as it lies in the plan.
fn alone<'a>(elements: Elements<'a>, row: &Row, lengths: &'a [usize; 1], ones: &'a [i64]) -> Batch<'a> {
    let place = row.offset..row.offset + row.length;
    match elements {
        Elements::Tokens(all) => Batch::Tokens { ids: &all[place], mask: &ones[..row.length], lengths, width: row.length },
        Elements::Pixels(all) => Batch::Pixels { values: &all[place], rows: 1 },
    }
}

/// A failure before the first row.
fn before(error: anyhow::Error) -> Failed {
    Failed { rows: 0, reason: format!("{error:#}") }
}

/// The plan of this path, mapped once and kept.
fn plan<'a>(plans: &'a mut HashMap<PathBuf, Plan>, path: &Path) -> Result<&'a Plan> {
    match plans.entry(path.to_owned()) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => Ok(new.insert(Plan::open(path)?)),
    }
}

/// `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT`
#[derive(Debug, PartialEq)]
struct Order {
    plan: PathBuf,
    first: usize,
    count: usize,
    rate: f64,
    batch: usize,
    seconds: f64,
    out: PathBuf,
}

impl Order {
    fn parse(line: &str) -> Result<Order> {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["serve", plan, first, count, rate, batch, seconds, out] = fields[..] else {
            return Err(anyhow!("not understood: {line:?}; `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit` is wanted"));
        };
        let order = Order {
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
        ensure!(order.seconds > 0.0, "SECONDS {seconds} is not more than 0");
        ensure!(!order.out.exists(), "{} exists; name a new folder", order.out.display());
        Ok(order)
    }

    fn rows<'a>(&self, plan: &'a Plan) -> Result<&'a [Row]> {
        let end = self.first.checked_add(self.count).filter(|&end| end <= plan.rows.len());
        let end =
            end.with_context(|| format!("{} has {} rows, not {} + {}", self.plan.display(), plan.rows.len(), self.first, self.count))?;
        Ok(&plan.rows[self.first..end])
    }
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| anyhow!("{name} {text:?} is not a number of its kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_field_by_field() {
        let order = Order::parse("serve p 3 5 0.5 8 2.5 out/x").unwrap();
        let expected = Order { plan: "p".into(), first: 3, count: 5, rate: 0.5, batch: 8, seconds: 2.5, out: "out/x".into() };
        assert_eq!(order, expected);
    }

    #[test]
    fn a_wrong_order_is_refused() {
        let wrong = [
            "",
            "serve",
            "serve p 0 1 0 1 1",
            "serve p -1 1 0 1 1 o",
            "serve p 0 1 -1 1 1 o",
            "serve p 0 1 0 0 1 o",
            "serve p 0 1 nan 1 1 o",
        ];
        for line in wrong {
            assert!(Order::parse(line).is_err(), "{line}");
        }
    }
}
