//! The worker protocol (bench/WORKER.md) and the loop that serves rows of a plan.
//!
//! A framework implements [`Engine`] and [`Session`] and hands itself to [`main`]. It sees slices of ids, masks or pixels and returns
//! vectors; everything that has to do with clocks, plans, files and the conversation stays in here.

#[cfg(target_endian = "big")]
compile_error!("plans and vectors are little-endian and mapped as they are");

mod args;
mod clock;
mod conversation;
mod engine;
mod padded_session;
mod padder;
mod plan_file;
mod process;
mod queue;
mod recorder;
mod shared_memory;
mod slice;
mod stop;
mod version;
mod worker;

pub use args::Options;
pub use engine::{Batch, Engine, Example, Loaded, Session};
pub use stop::{Cure, Stop};
pub use version::{BUILT_BY, Version, locked};
pub use worker::main;
