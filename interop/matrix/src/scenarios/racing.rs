//! Puts and deletes of a few keys, from both sides at once.
//!
//! go-ds-crdt itself may lose a key when a delete races a put. So ours is held to the model, and
//! where Go differs from it the table says so.

use super::Notes;
use crate::convergence::{Judged, converge, converge_within};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::node::{Kind, Node};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::Duration;

pub(super) const ROUNDS: u64 = 6;
const CHANGES: usize = 60;
const KEYS: usize = 4;

/// How long Go gets, once it holds every block, to show what they say.
const GO_GRACE: Duration = Duration::from_secs(5);

pub(super) async fn puts_and_deletes(lab: &Lab) -> Result<Notes, Failure> {
    let mut notes = Notes::new();
    for round in 0..ROUNDS {
        let seed = lab.seed.wrapping_add(round);
        let in_round = |failure| Failure::Wrong(format!("seed {seed}: {failure}"));
        notes.extend(race(lab, seed).await.map_err(in_round)?);
    }
    Ok(notes)
}

async fn race(lab: &Lab, seed: u64) -> Result<Option<String>, Failure> {
    let (mut go, mut ours) = lab.pair(Kind::Go, lab.ours).await?;
    let mut random = StdRng::seed_from_u64(seed);
    let (for_go, for_ours) = (script(&mut random), script(&mut random));
    let (from_go, from_ours) = tokio::join!(play(&mut go, &for_go), play(&mut ours, &for_ours));
    from_go.and(from_ours)?;

    let nodes = &mut [&mut go, &mut ours];
    converge(nodes, Judged::Ours).await?;
    match converge_within(GO_GRACE, nodes, Judged::All).await {
        Ok(_) => Ok(None),
        Err(Failure::Timeout { obstacle, .. }) => Ok(Some(format!("seed {seed}: {obstacle}"))),
        Err(failure) => Err(failure),
    }
}

fn script(random: &mut StdRng) -> Vec<String> {
    let mut change = |_| {
        let key = random.random_range(0..KEYS);
        match random.random_range(0..5) {
            0 | 1 => format!("del /race/{key}"),
            _ => format!("put /race/{key} {}", random.random_range(0..100_000)),
        }
    };
    (0..CHANGES).map(&mut change).collect()
}

async fn play(node: &mut Node, script: &[String]) -> Result<(), Failure> {
    for command in script {
        node.tell(command).await?;
    }
    Ok(())
}
