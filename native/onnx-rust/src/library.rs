//! The shared library of ONNX Runtime, found by ORT_DYLIB_PATH.

use std::env;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use harness::{Cure, Stop};
use libloading::{Library, Symbol};
use ort::environment::Environment;
use ort::sys::OrtApiBase;

const VARIABLE: &str = "ORT_DYLIB_PATH";
const CURE: &str = "set ORT_DYLIB_PATH to the libonnxruntime.so.1.* in the capi folder of the installed onnxruntime package";

/// The loaded runtime.
pub struct Runtime {
    pub environment: Environment,
    pub path: PathBuf,
    pub version: String,
}

pub fn load() -> Result<Runtime, Stop> {
    let path = env::var_os(VARIABLE).map(PathBuf::from).with_context(|| format!("{VARIABLE} is not set")).cure(CURE)?;
    let builder = ort::init_from(&path).cure(CURE)?;
    let environment = builder.with_name("onnx-rust").with_telemetry(false).build().cure(CURE)?;
    let version = version(&path).cure(CURE)?;
    Ok(Runtime { environment, path, version })
}

/// The version as the library says it. ort reads it too, and keeps it to itself.
fn version(path: &Path) -> Result<String> {
    // SAFETY: ort has loaded this very file already, so no initialiser runs again
    let library = unsafe { Library::new(path) }.with_context(|| format!("cannot load {}", path.display()))?;
    // SAFETY: this is the one exported function of every ONNX Runtime, of this signature since its first release
    let api_base: Symbol<unsafe extern "C" fn() -> *const OrtApiBase> = unsafe { library.get(b"OrtGetApiBase") }?;
    // SAFETY: as above
    let base = unsafe { api_base() };
    ensure!(!base.is_null(), "{} gives no OrtApiBase", path.display());
    // SAFETY: the base lives as long as the library, and its version is a C string that is never freed
    let version = unsafe { CStr::from_ptr(((*base).GetVersionString)()) };
    Ok(version.to_str()?.to_owned())
}
