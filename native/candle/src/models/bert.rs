//! BERT, as candle-transformers has it.

use candle_core::Result;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{self, BertModel, HiddenAct, PositionEmbeddingType};
use serde::Deserialize;

use super::{Backbone, Input};
use crate::pool::Output;

/// The published config of BERT and its descendants, without what only training needs. `A` is an activation.
#[derive(Debug, Deserialize)]
pub struct Config<A> {
    pub hidden_act: A,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f64,
    pub max_position_embeddings: usize,
    pub num_attention_heads: usize,
    pub num_hidden_layers: usize,
    pub pad_token_id: u32,
    pub type_vocab_size: usize,
    pub vocab_size: usize,
}

pub struct Bert(BertModel);

pub fn load(config: &Config<HiddenAct>, variables: VarBuilder<'_>) -> Result<Bert> {
    let config = bert::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        intermediate_size: config.intermediate_size,
        hidden_act: config.hidden_act,
        hidden_dropout_prob: 0.0,
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        initializer_range: 0.0,
        layer_norm_eps: config.layer_norm_eps,
        pad_token_id: config.pad_token_id as usize,
        position_embedding_type: PositionEmbeddingType::Absolute,
        use_cache: false,
        classifier_dropout: None,
        model_type: None,
    };
    Ok(Bert(BertModel::load(variables, &config)?))
}

impl Backbone for Bert {
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, mask, _) = input.text()?;
        Ok(Output::Tokens(self.0.forward(ids, &ids.zeros_like()?, Some(mask))?))
    }
}
