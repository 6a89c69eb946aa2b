//! What `--set` can change. What is not set stays as the runtime has it.

use anyhow::{Result, anyhow};
use ort::ep;
use ort::session::builder::{BuilderResult, GraphOptimizationLevel, SessionBuilder};

/// The switches of a session; unset ones are not touched.
#[derive(Clone, Copy, Default)]
pub struct Knobs {
    spinning: Option<bool>,
    arena: Option<bool>,
    mem_pattern: Option<bool>,
    optimization: Option<Level>,
    pub shared: Option<bool>,
}

#[derive(Clone, Copy)]
enum Level {
    Disabled,
    Basic,
    Extended,
    All,
}

impl Knobs {
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "spinning" => self.spinning = Some(switch(value)?),
            "arena" => self.arena = Some(switch(value)?),
            "mem_pattern" => self.mem_pattern = Some(switch(value)?),
            "shared" => self.shared = Some(switch(value)?),
            "optimization" => self.optimization = Some(level(value)?),
            _ => return Err("the keys are spinning, arena, mem_pattern, optimization and shared".to_owned()),
        }
        Ok(())
    }

    /// The name of the graph optimisation level, as Python's extension has it. `All` is what Python defaults to.
    pub fn level_name(self) -> &'static str {
        match self.optimization {
            Some(Level::Disabled) => "ORT_DISABLE_ALL",
            Some(Level::Basic) => "ORT_ENABLE_BASIC",
            Some(Level::Extended) => "ORT_ENABLE_EXTENDED",
            Some(Level::All) | None => "ORT_ENABLE_ALL",
        }
    }

    /// Hands the switches to the builder of a session.
    pub fn configure(self, builder: SessionBuilder) -> Result<SessionBuilder> {
        // ort's levels 1 and 2 are the runtime's basic and extended
        let level = match self.optimization {
            Some(Level::Disabled) => GraphOptimizationLevel::Disable,
            Some(Level::Basic) => GraphOptimizationLevel::Level1,
            Some(Level::Extended) => GraphOptimizationLevel::Level2,
            Some(Level::All) | None => GraphOptimizationLevel::All,
        };
        let mut builder = words_of(builder.with_optimization_level(level))?;
        if let Some(spin) = self.spinning {
            builder = words_of(builder.with_intra_op_spinning(spin))?;
        }
        if let Some(enable) = self.mem_pattern {
            builder = words_of(builder.with_memory_pattern(enable))?;
        }
        if let Some(enable) = self.arena {
            builder = words_of(builder.with_execution_providers([ep::CPU::default().with_arena_allocator(enable).build()]))?;
        }
        Ok(builder)
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("0 or 1 is wanted".to_owned()),
    }
}

fn level(value: &str) -> Result<Level, String> {
    match value {
        "disabled" => Ok(Level::Disabled),
        "basic" => Ok(Level::Basic),
        "extended" => Ok(Level::Extended),
        "all" => Ok(Level::All),
        _ => Err("disabled, basic, extended or all is wanted".to_owned()),
    }
}

/// A builder's error holds the builder, which cannot cross threads: only its words are kept.
pub fn words_of(result: BuilderResult) -> Result<SessionBuilder> {
    result.map_err(|error| anyhow!("{error}"))
}
