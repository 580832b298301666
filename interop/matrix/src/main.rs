//! Live tests of crdt-ds against go-ds-crdt: starts nodes of both kinds on loopback, puts them
//! through scenarios, and prints a table.
//!
//! `matrix --go PATH --rust PATH [--ours go] [--seed N] [NAME…]` runs the scenarios whose names
//! contain one of the `NAME`s (all without any). `--ours go` sets Go against itself. The exit
//! code is 1 when a scenario failed, 2 when the command line is wrong.

mod convergence;
mod failure;
mod lab;
mod model;
mod node;
mod scenarios;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::node::Kind;
use crate::scenarios::Notes;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

struct Arguments {
    go: PathBuf,
    rust: PathBuf,
    ours: Kind,
    seed: u64,
    names: Vec<String>,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut parsed = Arguments {
            go: PathBuf::new(),
            rust: PathBuf::new(),
            ours: Kind::Rust,
            seed: rand::random_range(0..1_000_000),
            names: Vec::new(),
        };
        while let Some(argument) = given.next() {
            if !argument.starts_with("--") {
                parsed.names.push(argument);
                continue;
            }
            let value = given
                .next()
                .ok_or_else(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--go" => parsed.go = value.into(),
                "--rust" => parsed.rust = value.into(),
                "--seed" => parsed.seed = value.parse().map_err(|_| "--seed needs a number")?,
                "--ours" if value == "go" => parsed.ours = Kind::Go,
                "--ours" if value == "rust" => parsed.ours = Kind::Rust,
                _ => return Err(format!("unknown: {argument} {value}")),
            }
        }
        Ok(parsed)
    }

    fn selects(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("matrix: {message}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is selected, and returns how many scenarios failed.
async fn run(arguments: &Arguments) -> Result<usize, std::io::Error> {
    let Arguments {
        go,
        rust,
        ours,
        seed,
        ..
    } = arguments;
    let lab = Lab::new(go.clone(), rust.clone(), *ours, *seed)?;
    println!("seed {seed}");
    println!("{:<58} {:<8} {:>7}", "scenario", "result", "seconds");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in scenarios::all(&lab) {
        if !arguments.selects(&scenario.name) {
            continue;
        }
        if scenario.needs_rust && *ours != Kind::Rust {
            skipped += 1;
            print_row(&scenario.name, "skipped", Duration::ZERO);
            continue;
        }
        let started = Instant::now();
        let outcome = scenario.run.await;
        if print_outcome(&scenario.name, &outcome, started.elapsed()) {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    if passed + failed + skipped == 0 {
        return Err(std::io::Error::other("no scenario has such a name"));
    }
    if failed > 0 {
        println!("the nodes' logs are in {}", lab.keep_logs().display());
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed)
}

/// Prints a row, and returns whether the scenario passed.
fn print_outcome(name: &str, outcome: &Result<Notes, Failure>, took: Duration) -> bool {
    match outcome {
        Ok(notes) => {
            print_row(name, "ok", took);
            notes.iter().for_each(|note| println!("    {note}"));
        }
        Err(failure) => {
            print_row(name, "FAILED", took);
            println!("    {failure}");
        }
    }
    outcome.is_ok()
}

fn print_row(name: &str, result: &str, took: Duration) {
    println!("{name:<58} {result:<8} {:>7.1}", took.as_secs_f64());
}
