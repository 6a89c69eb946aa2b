//! The folder a `serve` leaves behind.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::queue::Sample;

/// Writes `samples.csv`, `vectors.bin` and `slice.json` into `out`, which appears whole or not at all.
pub fn write(out: &Path, first: usize, samples: &[Sample], vectors: &[f32], dim: usize, batches: usize) -> Result<()> {
    let temporary = temporary_name(out);
    if temporary.exists() {
        fs::remove_dir_all(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    }
    fs::create_dir_all(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;

    let path = temporary.join("samples.csv");
    write_samples(&path, first, samples).with_context(|| format!("cannot write {}", path.display()))?;
    let path = temporary.join("vectors.bin");
    fs::write(&path, bytemuck::cast_slice(vectors)).with_context(|| format!("cannot write {}", path.display()))?;
    let path = temporary.join("slice.json");
    let slice = json!({"rows": samples.len(), "dim": dim, "dtype": "float32", "batches": batches});
    fs::write(&path, format!("{slice}\n")).with_context(|| format!("cannot write {}", path.display()))?;

    fs::rename(&temporary, out).with_context(|| format!("cannot rename {} to {}", temporary.display(), out.display()))
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
