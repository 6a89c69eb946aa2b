//! CLIP's text tower, as candle-transformers has it.

use candle_core::Result;
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig, ClipTextTransformer};
use serde::Deserialize;

use super::clip_vision::Details;
use super::{Backbone, Input};
use crate::pool::Output;

/// The published config, without what only training needs.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    details: Details,
    hidden_size: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    vocab_size: usize,
}

pub struct ClipText(ClipTextTransformer);

pub fn load(config: &Config, variables: VarBuilder<'_>) -> Result<ClipText> {
    config.details.check()?;
    let config = ClipTextConfig {
        vocab_size: config.vocab_size,
        embed_dim: config.hidden_size,
        activation: Activation::QuickGelu,
        intermediate_size: config.intermediate_size,
        max_position_embeddings: config.max_position_embeddings,
        pad_with: None,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        projection_dim: 0,
    };
    Ok(ClipText(ClipTextTransformer::new(variables, &config)?))
}

impl Backbone for ClipText {
    /// Causal: padding on the right cannot reach a row's own tokens, the last of which stands for it.
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, _) = input.text()?;
        Ok(Output::Tokens(self.0.forward_with_mask(ids, usize::MAX)?))
    }
}
