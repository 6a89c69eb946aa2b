//! Rotary position embeddings: where a config says their base, and their tables.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use serde::Deserialize;
use serde_json::Value;

/// The base frequency, as published configs (`rope_theta`) and newer ones (`rope_parameters`) write it; for one kind of layer or,
/// in `rope_parameters`, for several.
#[derive(Clone, Debug, Deserialize)]
pub struct Rope {
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Parameters>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Parameters {
    One(Kind),
    ByLayerType(HashMap<String, Kind>),
}

#[derive(Clone, Debug, Deserialize)]
struct Kind {
    rope_theta: f64,
    #[serde(default = "default_kind")]
    rope_type: String,
}

fn default_kind() -> String {
    "default".to_owned()
}

impl Rope {
    /// The base of a model whose layers are all alike.
    pub fn theta(&self) -> Result<f64> {
        match &self.rope_parameters {
            Some(Parameters::One(kind)) => kind.theta(),
            Some(Parameters::ByLayerType(_)) => bail!("rope_parameters differ by layer, and this architecture has one kind of layer"),
            None => self.published(self.rope_theta, "rope_theta"),
        }
    }

    /// The base of layers with a sliding window.
    pub fn sliding_theta(&self) -> Result<f64> {
        self.by_layer_type("sliding_attention", self.rope_local_base_freq, "rope_local_base_freq")
    }

    /// The base of layers that see everything.
    pub fn full_theta(&self) -> Result<f64> {
        self.by_layer_type("full_attention", self.rope_theta, "rope_theta")
    }

    fn by_layer_type(&self, layer_type: &str, published: Option<f64>, key: &str) -> Result<f64> {
        match &self.rope_parameters {
            Some(Parameters::ByLayerType(kinds)) => match kinds.get(layer_type) {
                Some(kind) => kind.theta(),
                None => bail!("rope_parameters has no {layer_type}"),
            },
            Some(Parameters::One(_)) => bail!("rope_parameters has one kind of layer, and this architecture has two"),
            None => self.published(published, key),
        }
    }

    fn published(&self, theta: Option<f64>, key: &str) -> Result<f64> {
        match (theta, &self.rope_scaling) {
            (Some(theta), None) => Ok(theta),
            (Some(_), Some(scaling)) => bail!("rope_scaling {scaling} is not supported"),
            (None, _) => bail!("{key} is missing"),
        }
    }
}

impl Kind {
    fn theta(&self) -> Result<f64> {
        match self.rope_type.as_str() {
            "default" => Ok(self.rope_theta),
            other => bail!("rope_type {other} is not supported"),
        }
    }
}

/// Cosines and sines, both (positions, head_dim / 2).
pub struct Tables {
    cos: Tensor,
    sin: Tensor,
}

impl Tables {
    pub fn new(theta: f64, head_dim: usize, positions: usize) -> Result<Tables> {
        let frequencies: Vec<f32> = (0..head_dim).step_by(2).map(|i| theta.powf(-(i as f64) / head_dim as f64) as f32).collect();
        let frequencies = Tensor::from_vec(frequencies, (1, head_dim / 2), &Device::Cpu)?;
        let positions = Tensor::arange(0, positions as u32, &Device::Cpu)?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let angles = positions.broadcast_mul(&frequencies)?;
        Ok(Tables { cos: angles.cos()?, sin: angles.sin()? })
    }

    /// Rotates (rows, heads, tokens, head_dim) by the positions 0, 1, ….
    pub fn rotate(&self, heads: &Tensor) -> Result<Tensor> {
        let (_, _, tokens, _) = heads.dims4()?;
        candle_nn::rotary_emb::rope(heads, &self.cos.narrow(0, 0, tokens)?, &self.sin.narrow(0, 0, tokens)?)
    }
}
