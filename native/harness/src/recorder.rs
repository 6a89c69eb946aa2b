//! The times and vectors of one slice, and the folder they are written to.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// When one request was due, taken and answered, in absolute ns. `end_ns` is 0 until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub due_ns: u64,
    pub start_ns: u64,
    pub end_ns: u64,
}

/// Samples and vectors of a slice, in plan order whatever session served them. The buffers are reused by the next slice.
#[derive(Default)]
pub struct Recorder {
    pub samples: Vec<Sample>,
    /// At least rows × dim; what lies behind is of an earlier slice.
    pub vectors: Vec<f32>,
}

impl Recorder {
    /// Makes room for `rows` requests. Everything is allocated, and its pages touched, before the first is served.
    pub fn clear(&mut self, rows: usize, dim: usize) {
        self.samples.clear();
        self.samples.resize(rows, Sample::default());
        self.vectors.resize(self.vectors.len().max(rows * dim), 0.0);
    }

    /// The number of rows that were answered.
    pub fn answered(&self) -> usize {
        self.samples.iter().filter(|sample| sample.end_ns > 0).count()
    }

    /// Writes the first `rows` rows as `samples.csv`, `vectors.bin` and `slice.json` into `out`, which appears whole or not at all.
    /// `first` is the number of the first row in its plan.
    pub fn write(&self, out: &Path, first: usize, rows: usize, dim: usize, batches: usize) -> Result<()> {
        let temporary = temporary_name(out);
        if temporary.exists() {
            fs::remove_dir_all(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
        }
        fs::create_dir_all(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;

        let path = temporary.join("samples.csv");
        write_samples(&path, first, &self.samples[..rows]).with_context(|| format!("cannot write {}", path.display()))?;
        let path = temporary.join("vectors.bin");
        fs::write(&path, bytemuck::cast_slice(&self.vectors[..rows * dim])).with_context(|| format!("cannot write {}", path.display()))?;
        let path = temporary.join("slice.json");
        let slice = json!({"rows": rows, "dim": dim, "dtype": "float32", "batches": batches});
        fs::write(&path, format!("{slice}\n")).with_context(|| format!("cannot write {}", path.display()))?;

        fs::rename(&temporary, out).with_context(|| format!("cannot rename {} to {}", temporary.display(), out.display()))
    }
}

fn write_samples(path: &Path, first: usize, samples: &[Sample]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "request,due_ns,start_ns,end_ns")?;
    for (request, sample) in (first..).zip(samples) {
        writeln!(file, "{request},{},{},{}", sample.due_ns, sample.start_ns, sample.end_ns)?;
    }
    file.flush()
}

fn temporary_name(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}
