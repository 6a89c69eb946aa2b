//! A worker process from its first act to its exit status.

use std::fs::File;
use std::io::{BufRead, Write};
use std::panic::catch_unwind;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::args::{Command, Options, parse};
use crate::clock::now_ns;
use crate::conversation::Conversation;
use crate::engine::{Batch, Engine, Example, Loaded, Session};
use crate::process;
use crate::slice::{Sessions, panic_message};
use crate::stop::{Cure, Stop};

/// The whole life of a worker: flags, load, `ready`, then one answer for each line (bench/WORKER.md).
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
    let parent = process::prepare().cure("start the worker under Linux, with its stdout open, from a process that waits for it")?;
    match parse(std::env::args_os().skip(1))? {
        Command::Version => say(&parent, &serde_json::to_string(&E::version()?).cure("give the version as plain text")?),
        Command::Serve(options) => converse::<E>(&options, &parent),
    }
}

fn converse<E: Engine>(options: &Options, parent: &File) -> Result<(), Stop> {
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
    let start_ns = now_ns();
    let Loaded { mut sessions, dim, example, settings } = E::load(options, &knobs)?;
    let load_ns = now_ns() - start_ns;
    let first_ns = call_ns(&mut sessions[0], example, dim)?;
    let second_ns = call_ns(&mut sessions[0], example, dim)?;
    for session in &mut sessions[1..] {
        call_ns(session, example, dim)?;
    }
    let settings = with_flags(settings, options);
    let ready = json!({"load_ns": load_ns, "first_ns": first_ns, "second_ns": second_ns, "dim": dim, "settings": settings});
    say(parent, &format!("ready {ready}"))?;
    let mut conversation = Conversation::new(Sessions::new(sessions, dim, options.pad_id, options.fault));
    conversation.converse(std::io::stdin().lock().lines(), &|line: &str| say(parent, line))
}

/// The time of one call of a session on the example, in ns.
fn call_ns<S: Session>(session: &mut S, example: Example, dim: usize) -> Result<u64, Stop> {
    let cure = "export the model again; if it stays so, the runtime cannot run this model";
    let (ids, mask, pixels, lengths);
    let batch = match example {
        Example::Tokens(width) => {
            ids = (1..=width as i64).collect::<Vec<_>>();
            mask = vec![1; width];
            lengths = [width];
            Batch::Tokens { ids: &ids, mask: &mask, lengths: &lengths, width }
        }
        Example::Pixels(count) => {
            pixels = vec![0.0; count];
            Batch::Pixels { values: &pixels, rows: 1 }
        }
    };
    let start_ns = now_ns();
    let vector = session.embed(batch).cure(cure)?;
    let spent_ns = now_ns() - start_ns;
    let length = vector.as_ref().len();
    if length != dim {
        return Err(Stop::Error { thing: format!("a vector of {length} numbers came back, not {dim}"), cure: cure.to_owned() });
    }
    Ok(spent_ns)
}

/// Adds the settings that every worker reports: sessions, the knobs, and the faults, so that no measured arm can hide one.
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

/// Writes one line with one call, so that lines of several threads do not mix.
fn say(mut parent: &File, line: &str) -> Result<(), Stop> {
    parent.write_all(format!("{line}\n").as_bytes()).cure("keep the worker's stdout open until it has ended")
}
