//! Writes what is compiled into `BUILD_INFO`, with a digest of the sources, so that a test can tell a stale build.
//!
//! The digest is the SHA-256 over `path NUL length NUL content` of the files below, sorted by path; the twin in
//! `tests/contract/test_build_info.py` computes the same from the checkout.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The crates that are linked into the extension.
const CRATES: [&str; 7] = ["binding", "client", "engine", "proto", "sim", "store", "xeddsa"];

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).expect("the crate lives in rust/binding").to_owned();
    let mut files = Vec::new();
    for name in CRATES {
        let folder = root.join("rust").join(name);
        println!("cargo::rerun-if-changed={}", folder.join("src").display());
        collect(&folder.join("src"), &mut files);
        for extra in ["Cargo.toml", "build.rs"] {
            if folder.join(extra).is_file() {
                println!("cargo::rerun-if-changed={}", folder.join(extra).display());
                files.push(folder.join(extra));
            }
        }
    }
    println!("cargo::rustc-env=RUNNER_SOURCE_DIGEST={}", digest(&root, files));
    println!("cargo::rustc-env=RUNNER_PROFILE={}", variable("PROFILE"));
    println!("cargo::rustc-env=RUNNER_TARGET={}", variable("TARGET"));
    let version = Command::new(variable("RUSTC")).arg("--version").output().expect("rustc runs");
    println!("cargo::rustc-env=RUNNER_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

fn digest(root: &Path, files: Vec<PathBuf>) -> String {
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .map(|path| (path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned(), path))
        .collect();
    named.sort();
    let mut hash = Sha256::new();
    for (name, path) in named {
        let content = fs::read(path).expect("a readable source");
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(content.len().to_string().as_bytes());
        hash.update([0]);
        hash.update(&content);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
