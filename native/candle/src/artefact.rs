//! The two files of an artefact folder of kind `safetensors`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use serde::Deserialize;
use serde_json::Value;

use crate::pool::Pooling;

/// `config.json`
#[derive(Debug, Deserialize)]
pub struct Config {
    pub model_type: String,
    /// The config that the architecture publishes.
    pub backbone: Value,
    pub pooling: Pooling,
    /// Length of a vector.
    pub dim: usize,
    /// The one length that the architecture was made for, if it has one.
    pub fixed_tokens: Option<usize>,
    /// Height and width of an image.
    pub image_size: Option<usize>,
}

/// `model.safetensors`
pub struct Weights {
    pub variables: VarBuilder<'static>,
    /// The element types that the file holds, by name.
    pub dtypes: String,
}

impl Config {
    pub fn read(folder: &Path) -> Result<Config> {
        let path = folder.join("config.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("cannot understand {}", path.display()))
    }
}

impl Weights {
    pub fn open(folder: &Path) -> Result<Weights> {
        let path = folder.join("model.safetensors");
        let context = || format!("cannot read {}", path.display());
        // SAFETY: an artefact is written under a temporary name and never changes under its own
        let file = unsafe { MmapedSafetensors::new(&path) }.with_context(context)?;
        let dtypes: BTreeSet<String> = file.tensors().iter().map(|(_, view)| format!("{:?}", view.dtype())).collect();
        let dtypes = dtypes.into_iter().collect::<Vec<_>>().join(",");
        // SAFETY: as above
        let variables = unsafe { VarBuilder::from_mmaped_safetensors(&[&path], DType::F32, &Device::Cpu) }.with_context(context)?;
        Ok(Weights { variables, dtypes })
    }
}
