//! CLIP's image tower, as candle-transformers has it.

use candle_core::{Module, Result, bail};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use serde::Deserialize;

use super::{Backbone, Input};
use crate::pool::Output;

/// The published config, without what only training needs.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    details: Details,
    hidden_size: usize,
    image_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    patch_size: usize,
}

/// What candle-transformers has written into its code, for both towers.
#[derive(Debug, Deserialize)]
pub struct Details {
    #[serde(default = "quick_gelu")]
    hidden_act: String,
    #[serde(default = "published_eps")]
    layer_norm_eps: f64,
}

fn quick_gelu() -> String {
    "quick_gelu".to_owned()
}

fn published_eps() -> f64 {
    1e-5
}

impl Details {
    pub fn check(&self) -> Result<()> {
        if self.hidden_act == quick_gelu() && self.layer_norm_eps == published_eps() {
            return Ok(());
        }
        bail!("candle-transformers' CLIP has quick_gelu and 1e-5 only, not {} and {}", self.hidden_act, self.layer_norm_eps)
    }
}

pub struct ClipVision(ClipVisionTransformer);

pub fn load(config: &Config, variables: VarBuilder<'_>) -> Result<ClipVision> {
    config.details.check()?;
    let config = ClipVisionConfig {
        embed_dim: config.hidden_size,
        activation: Activation::QuickGelu,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        projection_dim: 0,
        num_channels: 3,
        image_size: config.image_size,
        patch_size: config.patch_size,
    };
    Ok(ClipVision(ClipVisionTransformer::new(variables, &config)?))
}

impl Backbone for ClipVision {
    /// The class token, normed.
    fn forward(&self, input: &Input) -> Result<Output> {
        Ok(Output::Pooled(self.0.forward(input.image()?)?))
    }
}
