//! Hands the compiler's own version to `harness::version`, so that every run can name what built its workers.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo sets RUSTC");
    let output = Command::new(&rustc).arg("--version").output().expect("rustc runs, it is about to compile this crate");
    let version = String::from_utf8_lossy(&output.stdout);
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let profile = std::env::var("PROFILE").expect("cargo sets PROFILE");
    println!("cargo::rustc-env=BUILT_BY={}, {target}, {profile}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
