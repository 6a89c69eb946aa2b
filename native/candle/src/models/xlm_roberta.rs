//! XLM-RoBERTa (BGE-M3), as candle-transformers has it.

use candle_core::Result;
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::xlm_roberta::{self, XLMRobertaModel};

use super::bert::Config;
use super::{Backbone, Input};
use crate::pool::Output;

pub struct XlmRoberta(XLMRobertaModel);

pub fn load(config: &Config<Activation>, variables: VarBuilder<'_>) -> Result<XlmRoberta> {
    let config = xlm_roberta::Config {
        hidden_size: config.hidden_size,
        layer_norm_eps: config.layer_norm_eps,
        attention_probs_dropout_prob: 0.0,
        hidden_dropout_prob: 0.0,
        num_attention_heads: config.num_attention_heads,
        position_embedding_type: "absolute".to_owned(),
        intermediate_size: config.intermediate_size,
        hidden_act: config.hidden_act,
        num_hidden_layers: config.num_hidden_layers,
        vocab_size: config.vocab_size,
        max_position_embeddings: config.max_position_embeddings,
        type_vocab_size: config.type_vocab_size,
        pad_token_id: config.pad_token_id,
    };
    Ok(XlmRoberta(XLMRobertaModel::new(&config, variables)?))
}

impl Backbone for XlmRoberta {
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, mask, _) = input.text()?;
        Ok(Output::Tokens(self.0.forward(ids, mask, &ids.zeros_like()?, None, None, None)?))
    }
}
