//! A file that parent and worker map: the rows of one `embed` line, and the place for their vectors.

use std::fs::OpenOptions;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use memmap2::MmapMut;

use crate::plan_file::{Elements, Row};

/// The elements of a row: ids (int64) or pixels (float32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tokens,
    Pixels,
}

impl Kind {
    /// The word that names it in a line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tokens => "tokens",
            Kind::Pixels => "pixels",
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Tokens => size_of::<i64>(),
            Kind::Pixels => size_of::<f32>(),
        }
    }
}

/// Where the parts of the memory lie for `rows` rows, in bytes: vectors (rows × dim float32, rounded up to 8 bytes), lengths (int64),
/// elements to the end.
pub fn layout(rows: usize, dim: usize) -> (Range<usize>, Range<usize>) {
    let vectors = 0..(rows * dim * size_of::<f32>()).next_multiple_of(8);
    let lengths = vectors.end..vectors.end + rows * size_of::<i64>();
    (vectors, lengths)
}

/// The whole file, mapped.
pub struct SharedMemory(MmapMut);

impl SharedMemory {
    pub fn open(path: &Path) -> Result<SharedMemory> {
        let file = OpenOptions::new().read(true).write(true).open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // SAFETY: the parent writes to the file only while no answer is due (bench/WORKER.md), so nobody changes bytes that are in use
        let map = unsafe { MmapMut::map_mut(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
        Ok(SharedMemory(map))
    }

    /// The place for the vectors (`rows × dim`), the rows, and the array that these point into.
    pub fn parts(&mut self, kind: Kind, rows: usize, dim: usize) -> Result<(&mut [f32], Vec<Row>, Elements<'_>)> {
        let size = self.0.len();
        let fits = |end: Option<usize>| end.is_some_and(|end| end <= size);
        let short = || format!("{rows} rows do not fit {size} bytes of shared memory");
        ensure!(fits(rows.checked_mul(dim * size_of::<f32>() + size_of::<i64>())), short());
        let (vectors, lengths) = layout(rows, dim);
        ensure!(lengths.end <= size, short());
        let (before, elements) = self.0.split_at_mut(lengths.end);
        let (place, lengths) = before.split_at_mut(vectors.end);

        let mut offset = 0_usize;
        let mut table = Vec::with_capacity(rows);
        for &length in bytemuck::cast_slice::<u8, i64>(lengths) {
            let length = usize::try_from(length).ok().filter(|&length| length > 0).context("a row has no elements")?;
            table.push(Row { gap: 0.0, offset, length });
            offset = offset.checked_add(length).with_context(short)?;
        }
        let end = offset.checked_mul(kind.size()).filter(|&end| end <= elements.len()).with_context(short)?;
        let elements = match kind {
            // a mapping starts on a page and the parts before are whole multiples of 8 bytes, so the casts cannot fail on alignment
            Kind::Tokens => Elements::Tokens(bytemuck::cast_slice(&elements[..end])),
            Kind::Pixels => Elements::Pixels(bytemuck::cast_slice(&elements[..end])),
        };
        Ok((&mut bytemuck::cast_slice_mut(place)[..rows * dim], table, elements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: &[u8]) -> SharedMemory {
        let mut map = MmapMut::map_anon(bytes.len()).unwrap();
        map.copy_from_slice(bytes);
        SharedMemory(map)
    }

    /// Three vectors of 3 numbers, lengths 2, 1, 2, ids 1 … 5.
    fn example() -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes.extend([2_i64, 1, 2, 1, 2, 3, 4, 5].iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    #[test]
    fn the_parts_lie_one_after_another() {
        let mut memory = memory(&example());
        let (vectors, rows, elements) = memory.parts(Kind::Tokens, 3, 3).unwrap();
        assert_eq!(vectors.len(), 9);
        assert_eq!(rows.iter().map(|row| (row.offset, row.length)).collect::<Vec<_>>(), [(0, 2), (2, 1), (3, 2)]);
        let Elements::Tokens(ids) = elements else { panic!() };
        assert_eq!(ids, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let mut bytes = example();
        assert!(memory(&bytes[..bytes.len() - 1]).parts(Kind::Tokens, 3, 3).is_err());
        assert!(memory(&bytes[..48]).parts(Kind::Tokens, 3, 3).is_err());
        assert!(memory(&bytes).parts(Kind::Tokens, usize::MAX / 8, 3).is_err());
        for wrong in [0_i64, -1, i64::MAX] {
            bytes[40..48].copy_from_slice(&wrong.to_le_bytes());
            assert!(memory(&bytes).parts(Kind::Tokens, 3, 3).is_err(), "{wrong}");
        }
    }
}
