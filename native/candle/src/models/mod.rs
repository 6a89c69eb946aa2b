//! One file per architecture.

mod bert;
mod clip_text;
mod clip_vision;
mod gemma3_embedding;
mod qwen3;
mod rope;
mod siglip_text;
mod siglip_vision;
mod xlm_roberta;

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
        "xlm_roberta" => with_config(xlm_roberta::load, config, variables),
        "gemma3_embedding" => with_config(gemma3_embedding::load, config, variables),
        "qwen3" => with_config(qwen3::load, config, variables),
        "clip_text" => with_config(clip_text::load, config, variables),
        "clip_vision" => with_config(clip_vision::load, config, variables),
        "siglip_text" => with_config(siglip_text::load, config, variables),
        "siglip_vision" => with_config(siglip_vision::load, config, variables),
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
    /// (rows, 3, height, width)
    pub fn image(&self) -> candle_core::Result<&Tensor> {
        match self {
            Input::Image(pixels) => Ok(pixels),
            Input::Text { .. } => candle_core::bail!("this model takes images, and the plan holds tokens"),
        }
    }
}
