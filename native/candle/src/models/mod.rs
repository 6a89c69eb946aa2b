//! One file per architecture.

mod bert;

use anyhow::{Context, Result};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::pool::Output;

/// The loader of an architecture: its own config and the variables under `backbone.`, which have the names of transformers' module.
type Load<C, B> = fn(&C, VarBuilder<'_>) -> candle_core::Result<B>;

/// Loads the backbone that `model_type` names; none if there is no file for it here.
pub fn load(model_type: &str, config: &Value, variables: VarBuilder<'_>) -> Option<Result<Box<dyn Backbone>>> {
    Some(match model_type {
        "bert" => with_config(bert::load, config, variables),
        _ => return None,
    })
}

fn with_config<C: DeserializeOwned, B: Backbone + 'static>(
    load: Load<C, B>,
    config: &Value,
    variables: VarBuilder<'_>,
) -> Result<Box<dyn Backbone>> {
    let config = C::deserialize(config).context("the config of its backbone")?;
    Ok(Box::new(load(&config, variables)?))
}

/// One batch as tensors.
pub enum Input {
    /// Both (rows, tokens) int64; `mask` is 1 on a row's own tokens. `lengths` are the rows' own tokens.
    Text { ids: Tensor, mask: Tensor, lengths: Vec<usize> },
    /// (rows, 3, height, width) float32.
    Image(Tensor),
}

pub trait Backbone: Send + Sync {
    fn forward(&self, input: &Input) -> candle_core::Result<Output>;
}

impl Input {
    /// Ids, mask and lengths.
    pub fn text(&self) -> candle_core::Result<(&Tensor, &Tensor, &[usize])> {
        match self {
            Input::Text { ids, mask, lengths } => Ok((ids, mask, lengths)),
            Input::Image(_) => candle_core::bail!("this model takes tokens, and the plan holds images"),
        }
    }
}
