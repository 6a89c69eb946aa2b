//! What a framework has to be: the border between the loop and the engines.

use std::error::Error;
use std::fmt::Display;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::args::Options;
use crate::version::Version;

/// A framework: how it names itself, which knobs it takes and how it loads a model.
pub trait Engine {
    /// The framework's name in the catalogue.
    const NAME: &'static str;
    /// What `--set` can change.
    type Knobs: Default;
    type Session: Session;

    /// Sets one knob. The error is one line that says which keys or values exist; it ends the process with status 2.
    fn set(knobs: &mut Self::Knobs, key: &str, value: &str) -> Result<(), String>;

    /// Loads the runtime (no model) and says what it is.
    fn version() -> Result<Version, Stop>;

    /// Loads the model of `options.model` into `options.sessions` sessions of `options.threads` threads each.
    fn load(options: &Options, knobs: &Self::Knobs) -> Result<Loaded<Self::Session>, Stop>;
}

/// One loaded model with its own threads. Nobody shares it.
pub trait Session: Send {
    /// Turns a batch into `rows × dim` float32, row by row, each row of length 1 (L2). Whatever the answer borrows or owns is dropped
    /// after the clock has been read.
    fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>>;
}

/// The rows of one call, as plain slices.
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
    pub probe: Probe,
    /// What was read back from the runtime; `precision` and `threads` at least. The loop adds `sessions` and every `--set` key.
    pub settings: Map<String, Value>,
}

/// The input of the two timed calls after loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// One row of the ids 1, 2, …, n.
    Tokens(usize),
    /// One image of n zeros.
    Pixels(usize),
}

/// Why a worker ends before it serves.
#[derive(Debug)]
pub enum Stop {
    /// Wrong flags: status 2.
    Usage(String),
    /// The runtime cannot do this: status 3.
    NotApplicable(String),
    /// Something that can be mended: status 1, one line `error: THING: CURE`.
    Error { thing: String, cure: String },
}

/// Turns an error into a [`Stop`] by saying what mends it.
pub trait Cure<T> {
    fn cure(self, cure: impl Display) -> Result<T, Stop>;
}

impl<T, E: Display> Cure<T> for Result<T, E> {
    fn cure(self, cure: impl Display) -> Result<T, Stop> {
        // `{:#}` joins the whole chain of an anyhow error
        self.map_err(|error| Stop::Error { thing: format!("{error:#}"), cure: cure.to_string() })
    }
}

impl Stop {
    pub fn status(&self) -> u8 {
        match self {
            Stop::Error { .. } => 1,
            Stop::Usage(_) => 2,
            Stop::NotApplicable(_) => 3,
        }
    }
}

impl Display for Stop {
    /// One line, whatever the parts hold.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = match self {
            Stop::Usage(what) => format!("usage: {what}"),
            Stop::NotApplicable(reason) => format!("not-applicable {reason}"),
            Stop::Error { thing, cure } => format!("error: {thing}: {cure}"),
        };
        f.write_str(&one_line(&line))
    }
}

impl Error for Stop {}

/// Messages of runtimes span lines; the protocol has one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
