//! ONNX Runtime from Rust: everything as the runtime sets it, but for the thread count and the knobs that are asked for.

mod graph;
mod knobs;
mod library;

use std::process::ExitCode;

use harness::{BUILT_BY, Engine, Loaded, Options, Stop, Version, locked};

use crate::graph::Graph;
use crate::knobs::Knobs;

fn main() -> ExitCode {
    harness::main::<OnnxRuntime>()
}

struct OnnxRuntime;

impl Engine for OnnxRuntime {
    const NAME: &'static str = "onnx-rust";
    type Knobs = Knobs;
    type Session = Graph;

    fn set(knobs: &mut Knobs, key: &str, value: &str) -> Result<(), String> {
        knobs.set(key, value)
    }

    fn version() -> Result<Version, Stop> {
        let library = library::load()?;
        Ok(Version {
            framework: OnnxRuntime::NAME,
            language: "rust",
            runtime: "onnxruntime".to_owned(),
            version: library.version,
            build: format!("ort {}, {BUILT_BY}; {}: {}", locked("ort"), library.path.display(), ort::info()),
        })
    }

    fn load(options: &Options, knobs: &Knobs) -> Result<Loaded<Graph>, Stop> {
        let library = library::load()?;
        if knobs.shared == Some(true) {
            // ort's `Session::run` borrows the session for itself alone
            return Err(Stop::NotApplicable("shared: a session of the ort crate has one caller at a time".to_owned()));
        }
        graph::load(&library.environment, options, *knobs)
    }
}
