//! From what a backbone gives to one vector a row.

use candle_core::{D, IndexOp, Result, Tensor};
use serde::Deserialize;

/// Which vector stands for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over a row's own tokens.
    Mean,
    /// The first token.
    Cls,
    /// Each row's own last token.
    Last,
    /// The architecture's own token, which its projection was trained on: the class token of images, the end token of texts.
    Projection,
    /// The architecture's own attention-pooling head.
    Attention,
}

/// What a backbone gives.
pub enum Output {
    /// One vector a token: (rows, tokens, width).
    Tokens(Tensor),
    /// The architecture has pooled by its own head: (rows, width).
    Pooled(Tensor),
}

/// One vector a row, (rows, width). `lengths` are the rows' own tokens, `mask` is (rows, tokens) with 1 on them.
pub fn pool(output: &Output, pooling: Pooling, lengths: &[usize], mask: Option<&Tensor>) -> Result<Tensor> {
    match (output, pooling, mask) {
        (Output::Tokens(hidden), Pooling::Mean, Some(mask)) => mean(hidden, mask),
        (Output::Tokens(hidden), Pooling::Cls, _) => hidden.i((.., 0))?.contiguous(),
        (Output::Tokens(hidden), Pooling::Last | Pooling::Projection, _) => last(hidden, lengths),
        (Output::Pooled(pooled), Pooling::Cls | Pooling::Last | Pooling::Projection | Pooling::Attention, _) => Ok(pooled.clone()),
        (_, pooling, _) => candle_core::bail!("pooling {pooling:?} does not fit this architecture"),
    }
}

fn mean(hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.to_dtype(hidden.dtype())?.unsqueeze(D::Minus1)?;
    let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
    sum.broadcast_div(&mask.sum(1)?)
}

/// Each row at its own last token.
pub fn last(hidden: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let (_, tokens, width) = hidden.dims3()?;
    let rows = lengths.iter().enumerate().map(|(row, length)| (row * tokens + length - 1) as u32);
    let rows = Tensor::from_iter(rows, hidden.device())?;
    hidden.reshape(((), width))?.index_select(&rows, 0)
}

/// Rows of length 1.
pub fn normalise(vectors: &Tensor) -> Result<Tensor> {
    let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    vectors.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two rows of 3 tokens with own lengths 3 and 2; the padding is far from the rest.
    fn hidden() -> Output {
        let values = [[[1.0_f32, 0.0], [2.0, 0.0], [3.0, 6.0]], [[4.0, 2.0], [5.0, 4.0], [900.0, 900.0]]];
        Output::Tokens(Tensor::new(&values, &Device::Cpu).unwrap())
    }

    fn pooled(pooling: Pooling) -> Vec<Vec<f32>> {
        let mask = Tensor::new(&[[1_i64, 1, 1], [1, 1, 0]], &Device::Cpu).unwrap();
        pool(&hidden(), pooling, &[3, 2], Some(&mask)).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn padding_counts_for_nothing() {
        assert_eq!(pooled(Pooling::Mean), [[2.0, 2.0], [4.5, 3.0]]);
        assert_eq!(pooled(Pooling::Cls), [[1.0, 0.0], [4.0, 2.0]]);
        assert_eq!(pooled(Pooling::Last), [[3.0, 6.0], [5.0, 4.0]]);
    }

    #[test]
    fn a_pooling_that_does_not_fit_is_refused() {
        assert!(pool(&hidden(), Pooling::Attention, &[3, 2], None).is_err());
    }

    #[test]
    fn rows_get_length_1() {
        let vectors = Tensor::new(&[[3.0_f32, 4.0], [0.0, -2.0]], &Device::Cpu).unwrap();
        assert_eq!(normalise(&vectors).unwrap().to_vec2::<f32>().unwrap(), [[0.6, 0.8], [0.0, -1.0]]);
    }
}
