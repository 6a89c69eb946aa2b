//! What is added to the scores of attention.

use candle_core::{Device, Result, Tensor};

/// (rows, 1, queries, tokens): 0 where a row's own token may be seen. The rest is finite, because a query that sees nothing must not
/// become NaN.
pub fn mask(lengths: &[usize], tokens: usize, queries: usize, near: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let mut values = Vec::with_capacity(lengths.len() * queries * tokens);
    for &length in lengths {
        for query in 0..queries {
            values.extend((0..tokens).map(|key| if key < length && near(query, key) { 0.0 } else { f32::MIN }));
        }
    }
    Tensor::from_vec(values, (lengths.len(), 1, queries, tokens), &Device::Cpu)
}

/// (rows, 1, 1, tokens): every row sees its own tokens; none where no row is padded.
pub fn padding(lengths: &[usize], tokens: usize) -> Result<Option<Tensor>> {
    let padded = lengths.iter().any(|&length| length < tokens);
    padded.then(|| mask(lengths, tokens, 1, |_, _| true)).transpose()
}
