//! Backbone, pooling, projection and L2 norm: one tower of an embedding model.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use harness::Batch;

use crate::artefact::{Config, Weights};
use crate::linear::{Layers, Linear};
use crate::models::{self, Backbone, Input};
use crate::pool::{Pooling, normalise, pool};

pub struct Embedder {
    backbone: Box<dyn Backbone>,
    pooling: Pooling,
    /// Applied to the pooled vector, one after another.
    projection: Vec<Linear>,
    dim: usize,
    image_size: Option<usize>,
}

impl Embedder {
    /// None if no file in `models/` has this architecture in this format.
    pub fn load(config: &Config, weights: &Weights, layers: &Layers) -> Option<Result<Embedder>> {
        let backbone = models::load(&config.model_type, &config.backbone, weights.variables.pp("backbone"), layers)?;
        Some(backbone.and_then(|backbone| Embedder::around(backbone, config, weights, layers)))
    }

    fn around(backbone: Box<dyn Backbone>, config: &Config, weights: &Weights, layers: &Layers) -> Result<Embedder> {
        let projection = projection(weights.variables.pp("projection"), layers)?;
        Ok(Embedder { backbone, pooling: config.pooling, projection, dim: config.dim, image_size: config.image_size })
    }

    /// `rows × dim` float32.
    pub fn embed(&self, batch: Batch<'_>) -> Result<Vec<f32>> {
        let input = self.input(batch)?;
        let output = self.backbone.forward(&input)?;
        let mut vectors = match &input {
            Input::Text { mask, lengths, .. } => pool(&output, self.pooling, lengths, Some(mask))?,
            Input::Image(_) => pool(&output, self.pooling, &[], None)?,
        };
        for layer in &self.projection {
            vectors = layer.forward(&vectors)?;
        }
        let vectors = normalise(&vectors)?;
        ensure!(vectors.dtype() == DType::F32, "the vectors are {:?}, not F32", vectors.dtype());
        ensure!(vectors.dims() == [batch.rows(), self.dim], "the vectors are {:?}, not {} × {}", vectors.dims(), batch.rows(), self.dim);
        Ok(vectors.flatten_all()?.to_vec1()?)
    }

    fn input(&self, batch: Batch<'_>) -> Result<Input> {
        match batch {
            Batch::Tokens { ids, mask, lengths, width } => {
                let shape = (lengths.len(), width);
                let ids = Tensor::from_slice(ids, shape, &Device::Cpu)?;
                let mask = Tensor::from_slice(mask, shape, &Device::Cpu)?;
                Ok(Input::Text { ids, mask, lengths: lengths.to_vec() })
            }
            Batch::Pixels { values, rows } => {
                let size = self.image_size.context("this model takes tokens, and the plan holds images")?;
                Ok(Input::Image(Tensor::from_slice(values, (rows, 3, size, size), &Device::Cpu)?))
            }
        }
    }
}

/// The linear layers `projection.0`, `projection.1`, …: without bias, of the shapes that the file gives them.
fn projection(variables: VarBuilder<'_>, layers: &Layers) -> candle_core::Result<Vec<Linear>> {
    let found = (0..).map(|layer| variables.pp(layer)).take_while(|layer| layer.contains_tensor("weight"));
    found.map(|layer| layers.make(layer.get_unchecked("weight")?, None)).collect()
}
