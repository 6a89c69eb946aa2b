//! EmbeddingGemma: Gemma 3's text model with bidirectional attention. Our own, since the one in candle-transformers is causal,
//! knows no padding and gives logits.

use candle_core::{D, Module, Result, Tensor, bail};
use candle_nn::ops::softmax_last_dim;
use candle_nn::{Embedding, RmsNorm, VarBuilder, embedding};
use serde::Deserialize;

use super::grouped::{Projections, Shape};
use super::mask::{mask, padding};
use super::rope::{Rope, Tables};
use super::{Backbone, Input};
use crate::linear::{Layers, Linear};
use crate::pool::Output;

/// The published config, without what only generation and training need.
#[derive(Debug, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    attention: Shape,
    attn_logit_softcapping: Option<f64>,
    hidden_activation: String,
    intermediate_size: usize,
    layer_types: Vec<LayerType>,
    max_position_embeddings: usize,
    num_hidden_layers: usize,
    query_pre_attn_scalar: f64,
    rms_norm_eps: f64,
    #[serde(flatten)]
    rope: Rope,
    sliding_window: usize,
    use_bidirectional_attention: bool,
    vocab_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayerType {
    SlidingAttention,
    FullAttention,
}

pub struct Gemma3 {
    embeddings: Embedding,
    /// Embeddings are multiplied by the square root of their width.
    scale: f64,
    layers: Vec<Layer>,
    norm: RmsNorm,
    sliding_rope: Tables,
    full_rope: Tables,
    /// A sliding layer sees tokens that are less than this far away.
    window: usize,
}

struct Layer {
    layer_type: LayerType,
    before_attention: RmsNorm,
    attention: Attention,
    after_attention: RmsNorm,
    before_mlp: RmsNorm,
    mlp: Mlp,
    after_mlp: RmsNorm,
}

struct Attention {
    projections: Projections,
    scale: f64,
}

struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// What is added to the scores of each kind of layer; none where everything is seen.
struct Masks {
    /// (rows, 1, 1, tokens)
    full: Option<Tensor>,
    /// (rows, 1, tokens, tokens), or that of `full` where a text is shorter than the window.
    sliding: Option<Tensor>,
}

pub fn load(config: &Config, variables: VarBuilder<'_>, layers: &Layers) -> Result<Gemma3> {
    if !config.use_bidirectional_attention || config.attn_logit_softcapping.is_some() || config.hidden_activation != "gelu_pytorch_tanh" {
        bail!("only bidirectional attention without soft capping and with gelu_pytorch_tanh is supported");
    }
    if config.layer_types.len() != config.num_hidden_layers {
        bail!("layer_types names {} layers, not {}", config.layer_types.len(), config.num_hidden_layers);
    }
    let below = variables.pp("layers");
    let stack = config.layer_types.iter().enumerate();
    let stack = stack.map(|(index, &layer_type)| Layer::load(config, layer_type, below.pp(index), layers));
    let tables = |theta| Tables::new(theta, config.attention.head_dim, config.max_position_embeddings);
    Ok(Gemma3 {
        embeddings: embedding(config.vocab_size, config.attention.hidden_size, variables.pp("embed_tokens"))?,
        scale: (config.attention.hidden_size as f64).sqrt(),
        layers: stack.collect::<Result<_>>()?,
        norm: norm(config.attention.hidden_size, config, variables.pp("norm"))?,
        sliding_rope: tables(config.rope.sliding_theta()?)?,
        full_rope: tables(config.rope.full_theta()?)?,
        // the published window counts both sides
        window: config.sliding_window / 2 + 1,
    })
}

/// Gemma stores the weights of a norm less 1.
fn norm(size: usize, config: &Config, variables: VarBuilder<'_>) -> Result<RmsNorm> {
    Ok(RmsNorm::new((variables.get(size, "weight")? + 1.0)?, config.rms_norm_eps))
}

impl Backbone for Gemma3 {
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, lengths) = input.text()?;
        let masks = Masks::new(lengths, ids.dim(1)?, self.window)?;
        let mut hidden = (self.embeddings.forward(ids)? * self.scale)?;
        for layer in &self.layers {
            let (rope, mask) = match layer.layer_type {
                LayerType::SlidingAttention => (&self.sliding_rope, masks.sliding.as_ref()),
                LayerType::FullAttention => (&self.full_rope, masks.full.as_ref()),
            };
            hidden = layer.forward(&hidden, rope, mask)?;
        }
        Ok(Output::Tokens(self.norm.forward(&hidden)?))
    }
}

impl Layer {
    fn load(config: &Config, layer_type: LayerType, variables: VarBuilder<'_>, layers: &Layers) -> Result<Layer> {
        let norm = |name| norm(config.attention.hidden_size, config, variables.pp(name));
        Ok(Layer {
            layer_type,
            before_attention: norm("input_layernorm")?,
            attention: Attention::load(config, variables.pp("self_attn"), layers)?,
            after_attention: norm("post_attention_layernorm")?,
            before_mlp: norm("pre_feedforward_layernorm")?,
            mlp: Mlp::load(config, variables.pp("mlp"), layers)?,
            after_mlp: norm("post_feedforward_layernorm")?,
        })
    }

    fn forward(&self, hidden: &Tensor, rope: &Tables, mask: Option<&Tensor>) -> Result<Tensor> {
        let attended = self.attention.forward(&self.before_attention.forward(hidden)?, rope, mask)?;
        let hidden = (hidden + self.after_attention.forward(&attended)?)?;
        let fed = self.mlp.forward(&self.before_mlp.forward(&hidden)?)?;
        hidden + self.after_mlp.forward(&fed)?
    }
}

impl Attention {
    fn load(config: &Config, variables: VarBuilder<'_>, layers: &Layers) -> Result<Attention> {
        let norm = |variables: VarBuilder<'_>| norm(config.attention.head_dim, config, variables);
        Ok(Attention {
            projections: Projections::load(config.attention, norm, variables, layers)?,
            scale: config.query_pre_attn_scalar.powf(-0.5),
        })
    }

    fn forward(&self, hidden: &Tensor, rope: &Tables, mask: Option<&Tensor>) -> Result<Tensor> {
        let (rows, tokens, _) = hidden.dims3()?;
        let own = &self.projections;
        let (heads, key_heads, head_dim) = (own.shape.num_attention_heads, own.shape.num_key_value_heads, own.shape.head_dim);
        // (rows, tokens, heads × head_dim) → (rows, heads, tokens, head_dim)
        let split = |states: Tensor, heads: usize| states.reshape((rows, tokens, heads, head_dim))?.transpose(1, 2)?.contiguous();
        let query = split(own.query.forward(hidden)?, heads)?;
        let key = split(own.key.forward(hidden)?, key_heads)?;
        let value = split(own.value.forward(hidden)?, key_heads)?;
        let query = (rope.rotate(&own.query_norm.forward(&query)?)? * self.scale)?;
        let key = rope.rotate(&own.key_norm.forward(&key)?)?;

        // the queries that share a key head stand below each other, so that nothing is repeated
        let grouped = (rows, key_heads, heads / key_heads * tokens, ());
        let scores = query.reshape(grouped)?.matmul(&key.t()?)?.reshape((rows, heads, tokens, tokens))?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let mixed = softmax_last_dim(&scores)?.reshape(grouped)?.matmul(&value)?;
        let mixed = mixed.reshape((rows, heads, tokens, head_dim))?.transpose(1, 2)?.contiguous()?;
        own.output.forward(&mixed.flatten_from(D::Minus2)?)
    }
}

impl Mlp {
    fn load(config: &Config, variables: VarBuilder<'_>, layers: &Layers) -> Result<Mlp> {
        let (hidden, between) = (config.attention.hidden_size, config.intermediate_size);
        Ok(Mlp {
            gate: layers.load(hidden, between, false, variables.pp("gate_proj"))?,
            up: layers.load(hidden, between, false, variables.pp("up_proj"))?,
            down: layers.load(between, hidden, false, variables.pp("down_proj"))?,
        })
    }

    fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        // Candle's `gelu` is the one with tanh
        let gate = self.gate.forward(hidden)?.gelu()?;
        self.down.forward(&(gate * self.up.forward(hidden)?)?)
    }
}

impl Masks {
    fn new(lengths: &[usize], tokens: usize, window: usize) -> Result<Masks> {
        let full = padding(lengths, tokens)?;
        let sliding = match tokens > window {
            true => Some(mask(lengths, tokens, tokens, |query, key| query.abs_diff(key) < window)?),
            false => full.clone(),
        };
        Ok(Masks { full, sliding })
    }
}
