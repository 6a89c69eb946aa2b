//! The flags of a worker.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

use crate::stop::Stop;

const PRECISIONS: [&str; 5] = ["fp32", "fp16", "bf16", "int8", "int4"];

/// The flags of a worker that serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The artefact folder.
    pub model: PathBuf,
    /// One of fp32, fp16, bf16, int8, int4.
    pub precision: String,
    pub sessions: usize,
    /// Threads of each session.
    pub threads: usize,
    pub pad_id: i64,
    /// Every `--set`, in order.
    pub set: Vec<(String, String)>,
    pub fault: Fault,
}

/// Planted faults for the controls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fault {
    /// Every service takes this many times as long.
    pub slow: Option<f64>,
    pub stall: Option<Stall>,
}

/// The first request that starts `at_s` or more after the start of a `serve` takes `for_s` longer, once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    pub at_s: f64,
    pub for_s: f64,
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Command {
    Version,
    Serve(Options),
}

/// Reads the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command, Stop> {
    parse_flags(lexopt::Parser::from_args(args)).map_err(|error| Stop::Usage(error.to_string()))
}

fn parse_flags(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (mut model, mut precision, mut sessions, mut threads, mut pad_id) = (None, None, None, None, None);
    let (mut set, mut fault, mut version) = (Vec::new(), Fault::default(), false);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("version") => version = true,
            Long("model") => model = Some(PathBuf::from(parser.value()?)),
            Long("precision") => precision = Some(parser.value()?.parse_with(known_precision)?),
            Long("sessions") => sessions = Some(parser.value()?.parse_with(at_least_one)?),
            Long("threads") => threads = Some(parser.value()?.parse_with(at_least_one)?),
            Long("pad-id") => pad_id = Some(parser.value()?.parse()?),
            Long("set") => set.push(parser.value()?.parse_with(key_and_value)?),
            Long("fault") => fault = parser.value()?.parse_with(parse_fault)?,
            _ => return Err(arg.unexpected()),
        }
    }
    if version {
        return Ok(Command::Version);
    }
    Ok(Command::Serve(Options {
        model: model.ok_or("--model FOLDER is missing")?,
        precision: precision.ok_or("--precision P is missing")?,
        sessions: sessions.ok_or("--sessions S is missing")?,
        threads: threads.ok_or("--threads T is missing")?,
        pad_id: pad_id.ok_or("--pad-id I is missing")?,
        set,
        fault,
    }))
}

fn known_precision(text: &str) -> Result<String, String> {
    match PRECISIONS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("one of {} is wanted", PRECISIONS.join(", "))),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number >= 1).ok_or_else(|| "a whole number of 1 or more is wanted".to_owned())
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is wanted")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    match text.split_once('=') {
        Some(("slow", factor)) => Ok(Fault { slow: Some(number_from(factor, 1.0)?), stall: None }),
        Some(("stall", at_and_for)) => {
            let (at_s, for_s) = at_and_for.split_once(':').ok_or("stall=AT_S:FOR_S is wanted")?;
            Ok(Fault { slow: None, stall: Some(Stall { at_s: number_from(at_s, 0.0)?, for_s: number_from(for_s, 0.0)? }) })
        }
        _ => Err("slow=F or stall=AT_S:FOR_S is wanted".to_owned()),
    }
}

fn number_from(text: &str, least: f64) -> Result<f64, String> {
    f64::from_str(text)
        .ok()
        .filter(|number| number.is_finite() && *number >= least)
        .ok_or_else(|| format!("a number of {least} or more is wanted, not {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [&str; 10] = ["--model", "m", "--precision", "fp32", "--sessions", "1", "--threads", "2", "--pad-id", "0"];

    fn with(more: &[&str]) -> Result<Command, Stop> {
        parse(FLAGS.iter().chain(more).copied())
    }

    fn options(more: &[&str]) -> Options {
        match with(more) {
            Ok(Command::Serve(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_flags() {
        let options = options(&["--set", "a=b=c", "--set", "d=", "--fault", "stall=2:0.5"]);
        assert_eq!((options.sessions, options.threads, options.pad_id), (1, 2, 0));
        assert_eq!(options.set, [("a".to_owned(), "b=c".to_owned()), ("d".to_owned(), String::new())]);
        assert_eq!(options.fault, Fault { slow: None, stall: Some(Stall { at_s: 2.0, for_s: 0.5 }) });
    }

    #[test]
    fn version_needs_nothing_else() {
        assert_eq!(parse(["--version"]).unwrap(), Command::Version);
    }

    #[test]
    fn wrong_flags_are_usage() {
        let wrong: [&[&str]; 9] = [
            &["--fault", "slow=0.9"],
            &["--fault", "slow=inf"],
            &["--fault", "slower=2"],
            &["--fault", "stall=1"],
            &["--set", "spinning"],
            &["--sessions", "0"],
            &["--threads", "-1"],
            &["--precision", "fp8"],
            &["model"],
        ];
        for more in wrong {
            assert_eq!(with(more).unwrap_err().status(), 2, "{more:?}");
        }
        for missing in 0..5 {
            let mut flags = FLAGS.to_vec();
            flags.drain(2 * missing..2 * missing + 2);
            assert_eq!(parse(flags).unwrap_err().status(), 2);
        }
    }
}
