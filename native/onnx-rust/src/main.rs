//! ONNX Runtime from Rust: everything as the runtime sets it, but for the thread count.

mod graph;
mod library;

use std::process::ExitCode;

use harness::{BUILT_BY, Engine, Loaded, Options, Stop, Version, locked};

use crate::graph::{Graph, Spinning};

fn main() -> ExitCode {
    harness::main::<OnnxRuntime>()
}

struct OnnxRuntime;

impl Engine for OnnxRuntime {
    const NAME: &'static str = "onnx-rust";
    type Knobs = Spinning;
    type Session = Graph;

    fn set(knobs: &mut Spinning, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("spinning", "0" | "1") => *knobs = Spinning(Some(value == "1")),
            ("spinning", _) => return Err("0 or 1 is wanted".to_owned()),
            _ => return Err("spinning is the only key".to_owned()),
        }
        Ok(())
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

    fn load(options: &Options, spinning: &Spinning) -> Result<Loaded<Graph>, Stop> {
        if options.precision != "fp32" {
            return Err(Stop::NotApplicable(format!("precision {}: this worker serves fp32 graphs", options.precision)));
        }
        let library = library::load()?;
        graph::load(&library.environment, options, *spinning)
    }
}
