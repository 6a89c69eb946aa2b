//! The worker protocol (bench/WORKER.md) and the loop that serves rows of a plan.
//!
//! A framework implements [`Engine`] and [`Session`] and hands itself to [`main`]. It sees slices of ids, masks or pixels and returns
//! vectors; everything that has to do with clocks, plans, files and the conversation stays in here.

#[cfg(target_endian = "big")]
compile_error!("plans and vectors are little-endian and mapped as they are");

mod args;
mod clock;
mod engine;
mod output;
mod pad;
mod plan;
mod process;
mod queue;
mod serve;
mod version;
mod worker;

pub use args::Options;
pub use engine::{Batch, Cure, Engine, Loaded, Probe, Session, Stop};
pub use version::{BUILT_BY, Version, locked};
pub use worker::main;
