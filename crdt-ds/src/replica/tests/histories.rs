//! Any interleaving of writes and deliveries, with lost and doubled blocks and hostile ones, ends in
//! equal replicas, and at every step each replica is what the model says.
//!
//! `CRDT_DS_HISTORIES` is how many histories each test runs, `CRDT_DS_SEED` where it begins. A failure
//! names the seed of its history: that, with one history, repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::world::{Action, Config, Step, World};
use crate::block::Format;

/// How many histories a test runs unless told otherwise.
const HISTORIES: u64 = 600;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn steps(random: &mut StdRng) -> Vec<Step> {
    let actions = [
        (Action::Write, 30),
        (Action::Deliver, 30),
        (Action::DeliverWanted, 15),
        (Action::Hostile, 15),
        (Action::Gap, 5),
        (Action::Damaged, 2),
        (Action::Reopen, 3),
        (Action::Crash, 4),
        (Action::Fail, 4),
    ];
    (0..random.random_range(5..40))
        .map(|_| Step {
            action: actions
                .choose_weighted(random, |(_, weight)| *weight)
                .unwrap()
                .0,
            replica: random.random_range(0..4),
            seed: random.random(),
        })
        .collect()
}

/// Runs a history; tells at which step what went wrong.
fn run(config: &Config, steps: &[Step], seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let run = || {
        runtime.unwrap().block_on(async {
            let mut world = World::new(config.clone()).await;
            for (number, step) in steps.iter().enumerate() {
                let done = world.step(*step).await;
                done.map_err(|error| format!("step {number}, {step:?}: {error}"))?;
            }
            let healed = world.heal(&mut StdRng::seed_from_u64(seed)).await;
            healed.map_err(|error| format!("after the end: {error}"))
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("a panic".to_owned()))
}

/// Leaves out steps as long as the history still fails.
fn shrink(config: &Config, mut steps: Vec<Step>, seed: u64) -> Vec<Step> {
    let mut piece = steps.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..steps.len().min(at + piece));
            if run(config, &fewer, seed).is_err() {
                steps = fewer;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    steps
}

fn check(config: impl Fn(&mut StdRng) -> Config) {
    let first = from_environment("CRDT_DS_SEED", 1);
    for seed in first..first + from_environment("CRDT_DS_HISTORIES", HISTORIES) {
        let random = &mut StdRng::seed_from_u64(seed);
        let config = config(random);
        let steps = steps(random);
        if let Err(error) = run(&config, &steps, seed) {
            let steps = shrink(&config, steps, seed);
            let shrunk = run(&config, &steps, seed).err();
            panic!(
                "CRDT_DS_SEED={seed} CRDT_DS_HISTORIES=1: {error}\n{config:?}\n\
                 shrunk to {steps:#?}\n{}",
                shrunk.unwrap_or_default()
            );
        }
    }
}

fn config(random: &mut StdRng, format: Format, newest_first: bool) -> Config {
    Config {
        format,
        newest_first,
        mixed: format == Format::DagCbor && random.random_bool(0.4),
        replicas: random.random_range(2..5),
        max_wants_per_peer: *[2, 1000].choose(random).unwrap(),
    }
}

#[test]
fn dag_cbor_histories_converge_and_agree_with_the_model() {
    check(|random| config(random, Format::DagCbor, false));
}

#[test]
fn dag_pb_histories_converge_and_agree_with_the_model() {
    check(|random| config(random, Format::DagPb, false));
}

#[test]
fn newest_first_histories_converge_and_agree_with_the_model() {
    check(|random| {
        let format = *[Format::DagPb, Format::DagPb, Format::DagCbor]
            .choose(random)
            .unwrap();
        config(random, format, true)
    });
}
