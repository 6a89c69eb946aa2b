//! BERT, as candle-transformers has it.

use candle_core::Result;
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};

use super::{Backbone, Input};
use crate::pool::Output;

pub struct Bert(BertModel);

pub fn load(config: &Config, variables: VarBuilder<'_>) -> Result<Bert> {
    Ok(Bert(BertModel::load(variables, config)?))
}

impl Backbone for Bert {
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, mask, _) = input.text()?;
        Ok(Output::Tokens(self.0.forward(ids, &ids.zeros_like()?, Some(mask))?))
    }
}
