//! Why a worker ends before it serves, as one line and an exit status.

use std::error::Error;
use std::fmt::Display;

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

/// Turns an error into a [`Stop`] by adding the cure.
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
    /// The exit status of the process.
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

/// `text` with every run of white space as one space: messages of runtimes span lines, an answer of the protocol is one.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
