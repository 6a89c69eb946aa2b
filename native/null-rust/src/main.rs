//! The floor: the shared loop with a session that does no work.

use std::process::ExitCode;

use anyhow::Result;
use harness::{BUILT_BY, Batch, Engine, Example, Loaded, Options, Session, Stop, Version};
use serde_json::{Map, json};

fn main() -> ExitCode {
    harness::main::<Null>()
}

struct Null;

struct Knobs {
    dim: usize,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs { dim: 384 }
    }
}

impl Engine for Null {
    const NAME: &'static str = "null-rust";
    type Knobs = Knobs;
    type Session = Marker;

    fn set(knobs: &mut Knobs, key: &str, value: &str) -> Result<(), String> {
        if key != "dim" {
            return Err("dim is the only key".to_owned());
        }
        knobs.dim = value.parse().ok().filter(|&dim| dim >= 1).ok_or("a whole number of 1 or more is wanted")?;
        Ok(())
    }

    fn version() -> Result<Version, Stop> {
        Ok(Version {
            framework: Null::NAME,
            language: "rust",
            runtime: "none".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: BUILT_BY.to_owned(),
        })
    }

    fn load(options: &Options, knobs: &Knobs) -> Result<Loaded<Marker>, Stop> {
        if options.precision != "fp32" {
            return Err(Stop::NotApplicable(format!("precision {}: the null worker has fp32 only", options.precision)));
        }
        let sessions = (0..options.sessions).map(|_| Marker::new(knobs.dim)).collect();
        let mut settings = Map::new();
        settings.insert("precision".to_owned(), json!("fp32"));
        settings.insert("threads".to_owned(), json!(options.threads));
        settings.insert("dim".to_owned(), json!(knobs.dim));
        Ok(Loaded { sessions, dim: knobs.dim, example: Example::Tokens(32), settings })
    }
}

/// Vectors that are 1 at one index, which tells rows apart, and 0 elsewhere.
struct Marker {
    dim: usize,
    vectors: Vec<f32>,
    /// Where the ones of the last answer are.
    ones: Vec<usize>,
}

impl Marker {
    fn new(dim: usize) -> Marker {
        Marker { dim, vectors: vec![0.0; dim], ones: Vec::with_capacity(1) }
    }

    /// (first id + 31 × last own id + length) mod dim
    fn of_tokens(&self, row: &[i64]) -> usize {
        let (first, last) = (row[0], row[row.len() - 1]);
        let sum = first.wrapping_add(last.wrapping_mul(31)).wrapping_add(row.len() as i64);
        sum.rem_euclid(self.dim as i64) as usize
    }

    /// the bits of the first float mod dim
    fn of_pixels(&self, image: &[f32]) -> usize {
        image[0].to_bits() as usize % self.dim
    }

    fn mark(&mut self, row: usize, index: usize) {
        let one = row * self.dim + index;
        self.vectors[one] = 1.0;
        self.ones.push(one);
    }
}

impl Session for Marker {
    fn embed(&mut self, batch: Batch<'_>) -> Result<impl AsRef<[f32]>> {
        for one in self.ones.drain(..) {
            self.vectors[one] = 0.0;
        }
        let numbers = batch.rows() * self.dim;
        if self.vectors.len() < numbers {
            self.vectors.resize(numbers, 0.0);
        }
        match batch {
            Batch::Tokens { ids, lengths, width, .. } => {
                for (row, &length) in lengths.iter().enumerate() {
                    self.mark(row, self.of_tokens(&ids[row * width..row * width + length]));
                }
            }
            Batch::Pixels { values, rows } => {
                for (row, image) in values.chunks(values.len() / rows).enumerate() {
                    self.mark(row, self.of_pixels(image));
                }
            }
        }
        Ok(&self.vectors[..numbers])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(session: &mut Marker, batch: Batch<'_>) -> Vec<usize> {
        let answer = session.embed(batch).unwrap();
        answer.as_ref().iter().enumerate().filter(|(_, value)| **value == 1.0).map(|(index, _)| index).collect()
    }

    #[test]
    fn rows_are_told_apart_by_their_own_ids() {
        let mut session = Marker::new(100);
        let batch = Batch::Tokens { ids: &[1, 2, 5, 7, 9, 9], mask: &[1, 1, 1, 1, 0, 0], lengths: &[3, 1], width: 3 };
        assert_eq!(ones(&mut session, batch), [(1 + 31 * 5 + 3) % 100, 100 + (7 + 31 * 7 + 1) % 100]);
        // nothing of the answer before is left
        let batch = Batch::Tokens { ids: &[4], mask: &[1], lengths: &[1], width: 1 };
        assert_eq!(ones(&mut session, batch), [(4 + 31 * 4 + 1) % 100]);
    }

    #[test]
    fn images_are_told_apart_by_their_first_bits() {
        let mut session = Marker::new(10);
        let batch = Batch::Pixels { values: &[1.0, 0.0, 2.5, 0.0], rows: 2 };
        assert_eq!(ones(&mut session, batch), [1.0_f32.to_bits() as usize % 10, 10 + 2.5_f32.to_bits() as usize % 10]);
    }
}
