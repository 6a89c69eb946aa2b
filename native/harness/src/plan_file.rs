//! A plan folder: rows of a table that point into one mapped array.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;

/// One request: the mean-1 gap before it and where its elements lie in the array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub gap: f64,
    pub offset: usize,
    pub length: usize,
}

/// A plan folder, mapped.
pub struct PlanFile {
    pub rows: Vec<Row>,
    array: Array,
}

enum Array {
    Tokens(Mmap),
    Pixels(Mmap),
}

/// The array that rows point into.
#[derive(Clone, Copy)]
pub enum Elements<'a> {
    Tokens(&'a [i64]),
    Pixels(&'a [f32]),
}

impl PlanFile {
    pub fn open(folder: &Path) -> Result<PlanFile> {
        let array = open_array(folder)?;
        let path = folder.join("rows.csv");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let rows = parse_rows(&text).with_context(|| format!("{} is not a plan", path.display()))?;
        let plan = PlanFile { rows, array };
        plan.check(folder)?;
        Ok(plan)
    }

    pub fn elements(&self) -> Elements<'_> {
        match &self.array {
            // a mapping starts on a page, so the casts cannot fail on alignment; `check` has seen to the length
            Array::Tokens(map) => Elements::Tokens(bytemuck::cast_slice(map)),
            Array::Pixels(map) => Elements::Pixels(bytemuck::cast_slice(map)),
        }
    }

    fn check(&self, folder: &Path) -> Result<()> {
        let (bytes, size) = match &self.array {
            Array::Tokens(map) => (map.len(), size_of::<i64>()),
            Array::Pixels(map) => (map.len(), size_of::<f32>()),
        };
        ensure!(bytes % size == 0, "the array of {} is cut: {bytes} bytes are no whole number of elements", folder.display());
        let elements = bytes / size;
        for (number, row) in self.rows.iter().enumerate() {
            let end = row.offset.checked_add(row.length);
            ensure!(
                row.length > 0 && end.is_some_and(|end| end <= elements),
                "row {number} of {} ends outside its array of {elements} elements",
                folder.display()
            );
        }
        Ok(())
    }
}

fn open_array(folder: &Path) -> Result<Array> {
    let (tokens, pixels) = (folder.join("tokens.i64"), folder.join("pixels.f32"));
    match (tokens.exists(), pixels.exists()) {
        (true, false) => Ok(Array::Tokens(map(&tokens)?)),
        (false, true) => Ok(Array::Pixels(map(&pixels)?)),
        _ => bail!("{} holds not exactly one of tokens.i64 and pixels.f32", folder.display()),
    }
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: a plan folder never changes under its name (bench/WORKER.md), so the mapped bytes stay as they are
    unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))
}

fn parse_rows(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines();
    ensure!(lines.next() == Some("gap,offset,length"), "line 1 has to be gap,offset,length");
    lines.enumerate().map(|(index, line)| parse_row(line).with_context(|| format!("line {}: {line:?}", index + 2))).collect()
}

fn parse_row(line: &str) -> Result<Row> {
    let mut fields = line.split(',');
    let mut field = || fields.next().context("three fields are wanted");
    let row = Row { gap: field()?.parse()?, offset: field()?.parse()?, length: field()?.parse()? };
    ensure!(fields.next().is_none(), "three fields are wanted");
    ensure!(row.gap.is_finite() && row.gap >= 0.0, "a gap is a number of 0 or more");
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_stand() {
        let rows = parse_rows("gap,offset,length\n0.500000000,0,3\n1.250000000,3,5\n").unwrap();
        assert_eq!(rows, [Row { gap: 0.5, offset: 0, length: 3 }, Row { gap: 1.25, offset: 3, length: 5 }]);
    }

    #[test]
    fn a_broken_row_names_its_line() {
        for broken in ["1,2", "1,2,3,4", "x,2,3", "-1,2,3", "1,-2,3", "nan,0,1"] {
            let error = parse_rows(&format!("gap,offset,length\n1,0,1\n{broken}\n")).unwrap_err();
            assert!(format!("{error:#}").contains("line 3"), "{broken}");
        }
        assert!(parse_rows("gap,length,offset\n").is_err());
    }
}
