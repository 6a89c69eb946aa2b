//! SigLIP's image tower, as candle-transformers has it.

use candle_core::{Module, Result};
use candle_nn::VarBuilder;
use candle_transformers::models::siglip::{VisionConfig, VisionModel};

use super::{Backbone, Input};
use crate::pool::Output;

pub struct SiglipVision(VisionModel);

pub fn load(config: &VisionConfig, variables: VarBuilder<'_>) -> Result<SiglipVision> {
    Ok(SiglipVision(VisionModel::new(config, true, variables)?))
}

impl Backbone for SiglipVision {
    /// Pooled by the attention head.
    fn forward(&self, input: &Input) -> Result<Output> {
        Ok(Output::Pooled(self.0.forward(input.image()?)?))
    }
}
