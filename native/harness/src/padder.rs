//! Rows as one padded batch.

use anyhow::{Result, ensure};

use crate::engine::Batch;
use crate::plan_file::{Elements, Row};

/// The reused buffers of one session. A single row is handed on as it lies in the plan, without a copy.
pub struct Padder {
    pad_id: i64,
    ids: Vec<i64>,
    mask: Vec<i64>,
    ones: Vec<i64>,
    pixels: Vec<f32>,
    lengths: Vec<usize>,
}

impl Padder {
    pub fn new(pad_id: i64) -> Padder {
        Padder { pad_id, ids: Vec::new(), mask: Vec::new(), ones: Vec::new(), pixels: Vec::new(), lengths: Vec::new() }
    }

    /// Makes room for batches of `batch` of these rows, so that no buffer grows while requests are served.
    pub fn reserve(&mut self, elements: Elements<'_>, rows: &[Row], batch: usize) {
        let longest = rows.iter().map(|row| row.length).max().unwrap_or(0);
        let batch = batch.min(rows.len());
        grow(&mut self.lengths, batch);
        match elements {
            Elements::Tokens(_) => {
                self.ones.resize(self.ones.len().max(longest), 1);
                if batch > 1 {
                    grow(&mut self.ids, batch * longest);
                    grow(&mut self.mask, batch * longest);
                }
            }
            Elements::Pixels(_) if batch > 1 => grow(&mut self.pixels, batch * longest),
            Elements::Pixels(_) => {}
        }
    }

    /// Pads `rows` on the right to the longest of them; images must be of one size. There is at least one row.
    pub fn batch<'a>(&'a mut self, elements: Elements<'a>, rows: &[Row]) -> Result<Batch<'a>> {
        match elements {
            Elements::Tokens(all) => Ok(self.tokens(all, rows)),
            Elements::Pixels(all) => self.pixels(all, rows),
        }
    }

    fn tokens<'a>(&'a mut self, all: &'a [i64], rows: &[Row]) -> Batch<'a> {
        self.lengths.clear();
        self.lengths.extend(rows.iter().map(|row| row.length));
        if let [row] = rows {
            let (ids, mask) = (&all[row.offset..row.offset + row.length], &self.ones[..row.length]);
            return Batch::Tokens { ids, mask, lengths: &self.lengths, width: row.length };
        }
        let width = self.lengths.iter().copied().max().unwrap_or(0);
        self.ids.clear();
        self.mask.clear();
        for row in rows {
            let padded = self.ids.len() + width;
            self.ids.extend_from_slice(&all[row.offset..row.offset + row.length]);
            self.ids.resize(padded, self.pad_id);
            self.mask.extend_from_slice(&self.ones[..row.length]);
            self.mask.resize(padded, 0);
        }
        Batch::Tokens { ids: &self.ids, mask: &self.mask, lengths: &self.lengths, width }
    }

    fn pixels<'a>(&'a mut self, all: &'a [f32], rows: &[Row]) -> Result<Batch<'a>> {
        if let [row] = rows {
            return Ok(Batch::Pixels { values: &all[row.offset..row.offset + row.length], rows: 1 });
        }
        self.pixels.clear();
        for row in rows {
            ensure!(row.length == rows[0].length, "images of different sizes cannot be one batch");
            self.pixels.extend_from_slice(&all[row.offset..row.offset + row.length]);
        }
        Ok(Batch::Pixels { values: &self.pixels, rows: rows.len() })
    }
}

/// Room for `length` elements, its pages touched.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.capacity() < length {
        buffer.resize(length, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(offset: usize, length: usize) -> Row {
        Row { gap: 1.0, offset, length }
    }

    #[test]
    fn a_batch_is_padded_right_to_its_longest_row() {
        // the pad id is also a real id: the mask goes by length
        let (all, rows) = ([7, 9, 5, 6, 7, 9], [row(0, 2), row(2, 3), row(5, 1)]);
        let mut padder = Padder::new(9);
        padder.reserve(Elements::Tokens(&all), &rows, 3);
        let Batch::Tokens { ids, mask, lengths, width } = padder.batch(Elements::Tokens(&all), &rows).unwrap() else { panic!() };
        assert_eq!(ids, [7, 9, 9, 5, 6, 7, 9, 9, 9]);
        assert_eq!(mask, [1, 1, 0, 1, 1, 1, 1, 0, 0]);
        assert_eq!((lengths, width), (&[2, 3, 1][..], 3));
    }

    #[test]
    fn buffers_keep_nothing_of_the_batch_before() {
        let (all, rows) = ([1, 2, 3, 4, 5], [row(0, 3), row(3, 2), row(0, 1), row(4, 1)]);
        let mut padder = Padder::new(0);
        padder.reserve(Elements::Tokens(&all), &rows, 2);
        padder.batch(Elements::Tokens(&all), &rows[..2]).unwrap();
        let Batch::Tokens { ids, mask, .. } = padder.batch(Elements::Tokens(&all), &rows[2..]).unwrap() else { panic!() };
        assert_eq!((ids, mask), (&[1, 5][..], &[1, 1][..]));
    }

    #[test]
    fn one_row_is_not_copied() {
        let all = [1, 2, 3, 4];
        let mut padder = Padder::new(0);
        padder.reserve(Elements::Tokens(&all), &[row(1, 2)], 1);
        let Batch::Tokens { ids, mask, .. } = padder.batch(Elements::Tokens(&all), &[row(1, 2)]).unwrap() else { panic!() };
        assert_eq!((ids.as_ptr(), ids, mask), (all[1..].as_ptr(), &[2, 3][..], &[1, 1][..]));
    }

    #[test]
    fn images_are_joined() {
        let all = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = [row(4, 2), row(0, 2)];
        let mut padder = Padder::new(0);
        padder.reserve(Elements::Pixels(&all), &rows, 2);
        let Batch::Pixels { values, rows } = padder.batch(Elements::Pixels(&all), &rows).unwrap() else { panic!() };
        assert_eq!((values, rows), (&[5.0, 6.0, 1.0, 2.0][..], 2));
    }

    #[test]
    fn images_of_different_sizes_are_refused() {
        let all = [1.0, 2.0, 3.0];
        assert!(Padder::new(0).batch(Elements::Pixels(&all), &[row(0, 2), row(2, 1)]).is_err());
    }
}
