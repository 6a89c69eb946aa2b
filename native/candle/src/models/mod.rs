//! One file per architecture.

mod bert;
mod clip_text;
mod clip_vision;
mod gemma3_embedding;
mod grouped;
mod mask;
mod quantised_bert;
mod quantised_qwen3;
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

use crate::linear::Layers;
use crate::pool::Output;

/// Loads the backbone that `model_type` names from the variables under `backbone.`, which have the names of transformers' module; none
/// if no file here has it in the format of `layers`.
pub fn load(model_type: &str, config: &Value, variables: VarBuilder<'_>, layers: &Layers) -> Option<Result<Box<dyn Backbone>>> {
    Some(match (model_type, layers.quantised()) {
        ("gemma3_embedding", _) => with_config(config, |config| gemma3_embedding::load(config, variables, layers)),
        ("bert", true) => with_config(config, |config| quantised_bert::bert(config, variables, layers)),
        ("xlm_roberta", true) => with_config(config, |config| quantised_bert::xlm_roberta(config, variables, layers)),
        ("qwen3", true) => with_config(config, |config| quantised_qwen3::load(config, variables, layers)),
        ("bert", false) => with_config(config, |config| bert::load(config, variables)),
        ("xlm_roberta", false) => with_config(config, |config| xlm_roberta::load(config, variables)),
        ("qwen3", false) => with_config(config, |config| qwen3::load(config, variables)),
        ("clip_text", false) => with_config(config, |config| clip_text::load(config, variables)),
        ("clip_vision", false) => with_config(config, |config| clip_vision::load(config, variables)),
        ("siglip_text", false) => with_config(config, |config| siglip_text::load(config, variables)),
        ("siglip_vision", false) => with_config(config, |config| siglip_vision::load(config, variables)),
        _ => return None,
    })
}

/// Reads an architecture's own config, and loads by it.
fn with_config<C: DeserializeOwned, B: Backbone + 'static>(
    config: &Value,
    load: impl FnOnce(&C) -> candle_core::Result<B>,
) -> Result<Box<dyn Backbone>> {
    let config = C::deserialize(config).context("the config of its backbone")?;
    Ok(Box::new(load(&config)?))
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
