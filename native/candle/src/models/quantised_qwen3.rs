//! Qwen3 with quantised layers. Our own, since the quantised one in candle-transformers reads GGUF files and gives logits.

use candle_core::{Module, Result, Tensor, bail};
use candle_nn::attention::{AttnMask, flash_attn};
use candle_nn::{Activation, Embedding, RmsNorm, VarBuilder, embedding, rms_norm};

use super::grouped::Projections;
use super::qwen3::Config;
use super::rope::Tables;
use super::{Backbone, Input};
use crate::linear::{Layers, Linear};
use crate::pool::Output;

pub struct Decoder {
    embeddings: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    rope: Tables,
}

struct Layer {
    before_attention: RmsNorm,
    projections: Projections,
    before_mlp: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

pub fn load(config: &Config, variables: VarBuilder<'_>, layers: &Layers) -> Result<Decoder> {
    if config.use_sliding_window {
        bail!("sliding windows are not supported");
    }
    let stack = variables.pp("layers");
    let stack = (0..config.num_hidden_layers).map(|index| Layer::load(config, stack.pp(index), layers));
    Ok(Decoder {
        embeddings: embedding(config.vocab_size, config.attention.hidden_size, variables.pp("embed_tokens"))?,
        layers: stack.collect::<Result<_>>()?,
        norm: rms_norm(config.attention.hidden_size, config.rms_norm_eps, variables.pp("norm"))?,
        rope: Tables::new(config.rope.theta()?, config.attention.head_dim, config.max_position_embeddings)?,
    })
}

impl Backbone for Decoder {
    /// Causal and without a mask: padding on the right cannot reach a row's own tokens.
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, lengths) = input.text()?;
        if lengths.contains(&0) {
            bail!("a row without tokens has no last token");
        }
        let mut hidden = self.embeddings.forward(ids)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &self.rope)?;
        }
        Ok(Output::Tokens(self.norm.forward(&hidden)?))
    }
}

impl Layer {
    fn load(config: &Config, variables: VarBuilder<'_>, layers: &Layers) -> Result<Layer> {
        let (hidden, between) = (config.attention.hidden_size, config.intermediate_size);
        let norm = |name: &str| rms_norm(hidden, config.rms_norm_eps, variables.pp(name));
        let head_norm = |variables: VarBuilder<'_>| rms_norm(config.attention.head_dim, config.rms_norm_eps, variables);
        Ok(Layer {
            before_attention: norm("input_layernorm")?,
            projections: Projections::load(config.attention, head_norm, variables.pp("self_attn"), layers)?,
            before_mlp: norm("post_attention_layernorm")?,
            gate: layers.load(hidden, between, false, variables.pp("mlp.gate_proj"))?,
            up: layers.load(hidden, between, false, variables.pp("mlp.up_proj"))?,
            down: layers.load(between, hidden, false, variables.pp("mlp.down_proj"))?,
            activation: config.hidden_act,
        })
    }

    fn forward(&self, hidden: &Tensor, rope: &Tables) -> Result<Tensor> {
        let hidden = (hidden + attention(&self.projections, &self.before_attention.forward(hidden)?, rope)?)?;
        let normed = self.before_mlp.forward(&hidden)?;
        let gate = self.activation.forward(&self.gate.forward(&normed)?)?;
        hidden + self.down.forward(&(gate * self.up.forward(&normed)?)?)?
    }
}

/// Causal attention over the heads' own projections.
fn attention(own: &Projections, hidden: &Tensor, rope: &Tables) -> Result<Tensor> {
    let (rows, tokens, _) = hidden.dims3()?;
    let (heads, key_heads, head_dim) = (own.shape.num_attention_heads, own.shape.num_key_value_heads, own.shape.head_dim);
    let split = |states: Tensor, heads: usize| states.reshape((rows, tokens, heads, head_dim));
    let query = own.query_norm.forward(&split(own.query.forward(hidden)?, heads)?)?;
    let key = own.key_norm.forward(&split(own.key.forward(hidden)?, key_heads)?)?;
    let value = split(own.value.forward(hidden)?, key_heads)?;
    // positions turn with the heads outside, attention wants them inside
    let rotate = |states: Tensor| rope.rotate(&states.transpose(1, 2)?.contiguous()?)?.transpose(1, 2)?.contiguous();
    let scale = (head_dim as f32).powf(-0.5);
    let mixed = flash_attn::<f32>(&rotate(query)?, &rotate(key)?, &value, scale, AttnMask::causal_with_offset(0), None, None)?;
    own.output.forward(&mixed.transpose(1, 2)?.reshape((rows, tokens, heads * head_dim))?)
}
