//! Candle: loads an artefact of kind `safetensors` and embeds with it.

mod artefact;
mod embedder;
mod linear;
mod models;
mod pool;
mod session;

use std::process::ExitCode;

use candle_core::{DType, Device, Tensor};
use harness::{BUILT_BY, Cure, Engine, Loaded, Options, Stop, Version, locked};

use crate::linear::Format;
use crate::session::Session;

fn main() -> ExitCode {
    harness::main::<Candle>()
}

struct Candle;

impl Engine for Candle {
    const NAME: &'static str = "candle";
    type Knobs = ();
    type Session = Session;

    fn set(_: &mut (), _: &str, _: &str) -> Result<(), String> {
        Err("this worker takes no keys".to_owned())
    }

    fn version() -> Result<Version, Stop> {
        // the library is part of this program: that it loads means that it multiplies
        let ones = Tensor::ones((2, 2), DType::F32, &Device::Cpu).and_then(|ones| ones.matmul(&ones));
        ones.cure("build the worker again with `invoke build`")?;
        let kernels = if cfg!(feature = "x86-v4") { "x86-v4" } else { "default" };
        Ok(Version {
            framework: Candle::NAME,
            language: "rust",
            runtime: "candle".to_owned(),
            version: locked("candle-core").to_owned(),
            build: format!(
                "candle-transformers {}, gemm {} ({kernels} kernels), {BUILT_BY}",
                locked("candle-transformers"),
                locked("gemm")
            ),
        })
    }

    fn load(options: &Options, _: &()) -> Result<Loaded<Session>, Stop> {
        let Some(format) = Format::of(&options.precision) else {
            return Err(Stop::NotApplicable(format!("precision {}: this worker serves fp32, int8 and int4", options.precision)));
        };
        session::load(options, format)
    }
}
