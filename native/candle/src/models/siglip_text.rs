//! SigLIP's text tower, as candle-transformers has it.

use candle_core::{Module, Result, bail};
use candle_nn::VarBuilder;
use candle_transformers::models::siglip::{TextConfig, TextModel};

use super::{Backbone, Input};
use crate::pool::Output;

pub struct SiglipText(TextModel);

pub fn load(config: &TextConfig, variables: VarBuilder<'_>) -> Result<SiglipText> {
    Ok(SiglipText(TextModel::new(config, variables)?))
}

impl Backbone for SiglipText {
    /// The last token through the head. There is no mask: the model was made for rows that carry their own padding.
    fn forward(&self, input: &Input) -> Result<Output> {
        let (ids, _, lengths) = input.text()?;
        let tokens = ids.dim(1)?;
        if lengths.iter().any(|&length| length != tokens) {
            bail!("rows of {lengths:?} tokens: this model takes rows of one length only");
        }
        Ok(Output::Pooled(self.0.forward(ids)?))
    }
}
