//! What grouped-query attention with a norm on queries and keys is made of: in Gemma 3 and in Qwen3.

use candle_core::Result;
use candle_nn::{RmsNorm, VarBuilder};
use serde::Deserialize;

use crate::linear::{Layers, Linear};

/// What a published config says of its attention.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Shape {
    #[serde(default)]
    pub attention_bias: bool,
    pub head_dim: usize,
    pub hidden_size: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
}

pub struct Projections {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub output: Linear,
    pub query_norm: RmsNorm,
    pub key_norm: RmsNorm,
    pub shape: Shape,
}

impl Projections {
    /// `norm` loads one over a head, as the architecture stores its weights.
    pub fn load(
        shape: Shape,
        norm: impl Fn(VarBuilder<'_>) -> Result<RmsNorm>,
        variables: VarBuilder<'_>,
        layers: &Layers,
    ) -> Result<Projections> {
        let (hidden, bias) = (shape.hidden_size, shape.attention_bias);
        let (queries, keys) = (shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim);
        Ok(Projections {
            query: layers.load(hidden, queries, bias, variables.pp("q_proj"))?,
            key: layers.load(hidden, keys, bias, variables.pp("k_proj"))?,
            value: layers.load(hidden, keys, bias, variables.pp("v_proj"))?,
            output: layers.load(queries, hidden, bias, variables.pp("o_proj"))?,
            query_norm: norm(variables.pp("q_norm"))?,
            key_norm: norm(variables.pp("k_norm"))?,
            shape,
        })
    }
}
