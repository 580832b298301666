//! Replicas on the network in one process, for the tests of what is built on them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::block::Format;
use crdt_ds::sync::{Hub, Peers};
use datastore_backends::MemoryDatastore;
use datastore_core::{Datastore, DelayDatastore, Operation};
use rand::Rng;

pub(crate) const FORMATS: [Format; 2] = [Format::DagCbor, Format::DagPb];

pub(crate) async fn replica(hub: &Hub, name: &str, format: Format) -> CrdtDatastore {
    CrdtDatastore::builder(MemoryDatastore::new())
        .format(format)
        .transport(hub.join(name))
        .rebroadcast_interval(Duration::from_millis(200))
        .retry(Duration::from_millis(5), Duration::from_millis(50))
        .open()
        .await
        .unwrap()
}

/// A store whose commits take a second while the switch is on.
pub(crate) fn slow(below: impl Datastore, switch: Arc<AtomicBool>) -> impl Datastore {
    DelayDatastore::new(below, move |operation| {
        let commits = matches!(operation, Operation::Commit(_));
        let delay = u64::from(commits && switch.load(Ordering::Relaxed));
        Box::pin(tokio::time::sleep(Duration::from_secs(delay)))
    })
}

pub(crate) async fn synced(replicas: &[CrdtDatastore]) {
    for replica in replicas {
        replica
            .wait_for_sync(Peers::All, Duration::from_secs(30))
            .await
            .unwrap();
    }
}

/// The seed of a randomised test, printed, and taken back from the environment.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random());
    println!("SEED={seed}");
    seed
}
