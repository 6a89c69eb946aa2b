//! Linear layers in float32, or with their weights in one of Candle's block formats.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

/// What the weights of linear layers are held in. Biases, norms, embeddings and the products inside attention stay float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    F32,
    /// 32 weights of 8 bits with one scale.
    Q8_0,
    /// 32 weights of 4 bits with one scale.
    Q4_0,
}

impl Format {
    /// The format that stands for a precision of the worker protocol; none if there is none.
    pub fn of(precision: &str) -> Option<Format> {
        match precision {
            "fp32" => Some(Format::F32),
            "int8" => Some(Format::Q8_0),
            "int4" => Some(Format::Q4_0),
            _ => None,
        }
    }

    fn blocks(self) -> Option<GgmlDType> {
        match self {
            Format::F32 => None,
            Format::Q8_0 => Some(GgmlDType::Q8_0),
            Format::Q4_0 => Some(GgmlDType::Q4_0),
        }
    }
}

pub enum Linear {
    Full(candle_nn::Linear),
    /// Candle quantises what comes in, row by row in blocks of 32, at every call.
    Quantised {
        weight: Arc<QTensor>,
        bias: Option<Tensor>,
    },
}

impl Module for Linear {
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        match self {
            Linear::Full(layer) => layer.forward(input),
            Linear::Quantised { weight, bias } => {
                let product = input.contiguous()?.apply_op1_no_bwd(weight.as_ref())?;
                match bias {
                    Some(bias) => product.broadcast_add(bias),
                    None => Ok(product),
                }
            }
        }
    }
}

/// Makes the linear layers of a model in one format, and counts what they were made of.
pub struct Layers {
    format: Format,
    made: RefCell<BTreeMap<String, usize>>,
}

impl Layers {
    pub fn new(format: Format) -> Layers {
        Layers { format, made: RefCell::default() }
    }

    pub fn quantised(&self) -> bool {
        self.format != Format::F32
    }

    /// A layer with the variables `weight`, (outputs, inputs), and, if `bias`, `bias`.
    pub fn load(&self, inputs: usize, outputs: usize, bias: bool, variables: VarBuilder<'_>) -> Result<Linear> {
        let bias = bias.then(|| variables.get(outputs, "bias")).transpose()?;
        self.make(variables.get((outputs, inputs), "weight")?, bias)
    }

    /// A layer around these weights, (outputs, inputs).
    pub fn make(&self, weight: Tensor, bias: Option<Tensor>) -> Result<Linear> {
        let Some(blocks) = self.format.blocks() else {
            self.count("f32");
            return Ok(Linear::Full(candle_nn::Linear::new(weight, bias)));
        };
        let weight = QTensor::quantize(&weight, blocks)?;
        self.count(&format!("{:?}", weight.dtype()).to_lowercase());
        Ok(Linear::Quantised { weight: Arc::new(weight), bias })
    }

    /// How many layers hold which format, as they were read back: `"q8_0: 36"`.
    pub fn told(&self) -> String {
        let made = self.made.borrow();
        made.iter().map(|(format, layers)| format!("{format}: {layers}")).collect::<Vec<_>>().join(", ")
    }

    fn count(&self, format: &str) {
        *self.made.borrow_mut().entry(format.to_owned()).or_default() += 1;
    }
}
