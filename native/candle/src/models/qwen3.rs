//! Qwen3, as candle-transformers has it.

use candle_core::{Result, bail};
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::qwen3::{self, Model};
use serde::Deserialize;

use super::grouped::Shape;
use super::rope::Rope;
use super::{Backbone, Input};
use crate::pool::Output;

/// The published config, without what only generation and training need.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub attention: Shape,
    pub hidden_act: Activation,
    pub intermediate_size: usize,
    pub max_position_embeddings: usize,
    pub num_hidden_layers: usize,
    pub rms_norm_eps: f64,
    #[serde(flatten)]
    pub rope: Rope,
    #[serde(default)]
    pub use_sliding_window: bool,
    pub vocab_size: usize,
}

pub struct Qwen3(Model);

pub fn load(config: &Config, variables: VarBuilder<'_>) -> Result<Qwen3> {
    let config = qwen3::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.attention.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.attention.num_attention_heads,
        head_dim: config.attention.head_dim,
        attention_bias: config.attention.attention_bias,
        num_key_value_heads: config.attention.num_key_value_heads,
        max_position_embeddings: config.max_position_embeddings,
        sliding_window: None,
        max_window_layers: config.num_hidden_layers,
        tie_word_embeddings: true,
        rope_theta: config.rope.theta()?,
        rms_norm_eps: config.rms_norm_eps,
        use_sliding_window: config.use_sliding_window,
        hidden_act: config.hidden_act,
    };
    // The library looks for `model.*`, as in a file with a language-model head; ours holds the bare module. The name that comes in
    // is whole, and what goes out is read below the builder's own prefix.
    let whole = format!("{}.model.", variables.prefix());
    let variables = variables.rename_f(move |name| name.strip_prefix(&whole).unwrap_or(name).to_owned());
    Ok(Qwen3(Model::new(&config, variables)?))
}

impl Backbone for Qwen3 {
    /// Causal and without a mask: padding on the right cannot reach a row's own tokens.
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, lengths) = input.text()?;
        if lengths.contains(&0) {
            bail!("a row without tokens has no last token");
        }
        // The model appends to a cache at every call and its reset is private: each call gets a clone, which shares the weights.
        Ok(Output::Tokens(self.0.clone().forward(ids, 0)?))
    }
}
