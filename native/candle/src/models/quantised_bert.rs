//! BERT and XLM-RoBERTa with quantised layers. Our own, since those of candle-transformers are float32 only.

use candle_core::{D, Device, Module, Result, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::{Activation, Embedding, LayerNorm, VarBuilder, embedding, layer_norm};

use super::bert::Config;
use super::mask::padding;
use super::{Backbone, Input};
use crate::linear::{Layers, Linear};
use crate::pool::Output;

pub struct Encoder {
    words: Embedding,
    positions: Embedding,
    /// The one row of the table of token types that is ever used.
    token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    numbering: Numbering,
}

/// Which position each token has.
#[derive(Clone, Copy)]
enum Numbering {
    /// 0, 1, … on a row's own tokens and on its padding.
    FromZero,
    /// Tokens other than this id are counted from the one after it, which is the position of all that are this id.
    AfterPadding(u32),
}

struct Layer {
    attention: Attention,
    after_attention: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
    after_mlp: LayerNorm,
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    head_dim: usize,
}

pub fn bert(config: &Config<Activation>, variables: VarBuilder<'_>, layers: &Layers) -> Result<Encoder> {
    Encoder::load(config, Numbering::FromZero, variables, layers)
}

pub fn xlm_roberta(config: &Config<Activation>, variables: VarBuilder<'_>, layers: &Layers) -> Result<Encoder> {
    Encoder::load(config, Numbering::AfterPadding(config.pad_token_id), variables, layers)
}

impl Encoder {
    fn load(config: &Config<Activation>, numbering: Numbering, variables: VarBuilder<'_>, layers: &Layers) -> Result<Encoder> {
        let (hidden, tables) = (config.hidden_size, variables.pp("embeddings"));
        let token_types = tables.get((config.type_vocab_size, hidden), "token_type_embeddings.weight")?;
        let stack = variables.pp("encoder.layer");
        let stack = (0..config.num_hidden_layers).map(|index| Layer::load(config, stack.pp(index), layers));
        Ok(Encoder {
            words: embedding(config.vocab_size, hidden, tables.pp("word_embeddings"))?,
            positions: embedding(config.max_position_embeddings, hidden, tables.pp("position_embeddings"))?,
            token_type: token_types.narrow(0, 0, 1)?,
            norm: layer_norm(hidden, config.layer_norm_eps, tables.pp("LayerNorm"))?,
            layers: stack.collect::<Result<_>>()?,
            numbering,
        })
    }
}

impl Backbone for Encoder {
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, lengths) = input.text()?;
        let tokens = ids.dim(1)?;
        let positions = self.positions.forward(&self.numbering.positions(ids)?)?;
        let embedded = (self.words.forward(ids)? + positions)?.broadcast_add(&self.token_type)?;
        let mut hidden = self.norm.forward(&embedded)?;
        let mask = padding(lengths, tokens)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, mask.as_ref())?;
        }
        Ok(Output::Tokens(hidden))
    }
}

impl Numbering {
    /// Both (rows, tokens).
    fn positions(self, ids: &Tensor) -> Result<Tensor> {
        let mut values = Vec::with_capacity(ids.elem_count());
        for row in ids.to_vec2::<i64>()? {
            let mut counted = 0;
            values.extend(row.into_iter().enumerate().map(|(column, id)| match self {
                Numbering::FromZero => column as u32,
                Numbering::AfterPadding(padding) if id == i64::from(padding) => padding,
                Numbering::AfterPadding(padding) => {
                    counted += 1;
                    padding + counted
                }
            }));
        }
        Tensor::from_vec(values, ids.shape(), &Device::Cpu)
    }
}

impl Layer {
    fn load(config: &Config<Activation>, variables: VarBuilder<'_>, layers: &Layers) -> Result<Layer> {
        let (hidden, between) = (config.hidden_size, config.intermediate_size);
        let norm = |name: &str| layer_norm(hidden, config.layer_norm_eps, variables.pp(name));
        Ok(Layer {
            attention: Attention::load(config, variables.pp("attention"), layers)?,
            after_attention: norm("attention.output.LayerNorm")?,
            up: layers.load(hidden, between, true, variables.pp("intermediate.dense"))?,
            activation: config.hidden_act,
            down: layers.load(between, hidden, true, variables.pp("output.dense"))?,
            after_mlp: norm("output.LayerNorm")?,
        })
    }

    fn forward(&self, hidden: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let attended = self.attention.forward(hidden, mask)?;
        let hidden = self.after_attention.forward(&(attended + hidden)?)?;
        let fed = self.down.forward(&self.activation.forward(&self.up.forward(&hidden)?)?)?;
        self.after_mlp.forward(&(fed + hidden)?)
    }
}

impl Attention {
    fn load(config: &Config<Activation>, variables: VarBuilder<'_>, layers: &Layers) -> Result<Attention> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let linear = |name: &str| layers.load(hidden, hidden, true, variables.pp(name));
        Ok(Attention {
            query: linear("self.query")?,
            key: linear("self.key")?,
            value: linear("self.value")?,
            output: linear("output.dense")?,
            heads,
            head_dim: hidden / heads,
        })
    }

    fn forward(&self, hidden: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let query = (self.split(&self.query.forward(hidden)?)? * (self.head_dim as f64).powf(-0.5))?;
        let key = self.split(&self.key.forward(hidden)?)?;
        let value = self.split(&self.value.forward(hidden)?)?;
        let scores = query.matmul(&key.t()?)?;
        let scores = match mask {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        let mixed = softmax_last_dim(&scores)?.matmul(&value)?.transpose(1, 2)?;
        self.output.forward(&mixed.flatten_from(D::Minus2)?)
    }

    /// (rows, tokens, heads × head_dim) → (rows, heads, tokens, head_dim)
    fn split(&self, states: &Tensor) -> Result<Tensor> {
        let (rows, tokens, _) = states.dims3()?;
        states.reshape((rows, tokens, self.heads, self.head_dim))?.transpose(1, 2)?.contiguous()
    }
}
