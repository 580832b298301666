//! Runs the examples as a user does. `cargo test` builds them first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod counter;
mod quickstart;
mod replay;
#[cfg(feature = "libp2p")]
mod tweets;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs an example with the workspace as its working directory.
fn run(example: &str, arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let examples = test.parent().unwrap().parent().unwrap().join("examples");
    let program = examples.join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "build it first: cargo build --example {example}"
    );
    let command = Command::new(program)
        .args(arguments)
        .current_dir(workspace())
        .output();
    command.unwrap()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}
