//! The answer to `--version`.

use serde::Serialize;

/// What compiled this worker: rustc's version, the target and the profile.
pub const BUILT_BY: &str = env!("BUILT_BY");

const LOCK: &str = include_str!("../../Cargo.lock");

/// Printed as one flat JSON line.
#[derive(Debug, Serialize)]
pub struct Version {
    pub framework: &'static str,
    pub language: &'static str,
    /// The library that does the work.
    pub runtime: String,
    /// Its version, as it says itself where it can.
    pub version: String,
    /// Compiler, library file, kernels: what else decides speed.
    pub build: String,
}

/// The version of a dependency in Cargo.lock, for crates that do not say it themselves.
///
/// # Panics
/// If the workspace does not depend on `name`.
pub fn locked(name: &str) -> &'static str {
    find(LOCK, name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"))
}

fn find<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("\nname = \"{name}\"\n")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_version_is_that_of_the_whole_name() {
        let lock = "[[package]]\nname = \"gemm-common\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"gemm\"\nversion = \"0.2.0\"\n";
        assert_eq!(find(lock, "gemm"), Some("0.2.0"));
        assert_eq!(find(lock, "gem"), None);
    }
}
