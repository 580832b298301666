//! The counters of posts, and who did what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod crashes;
mod failures;
mod guards;
mod layouts;
mod likes;
#[path = "../on_the_hub/mod.rs"]
mod on_the_hub;
mod replicated_likes;
mod stats_store;

use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{StatsOptions, StatsStore};
use datastore_backends::MemoryDatastore;

pub(crate) use self::on_the_hub::{FORMATS, replica, seed, slow, synced};

pub(crate) async fn alone() -> CrdtDatastore {
    CrdtDatastore::builder(MemoryDatastore::new())
        .open()
        .await
        .unwrap()
}

pub(crate) async fn stats_of(store: &CrdtDatastore, node: &str) -> StatsStore {
    StatsStore::open(store.clone(), "net", node, StatsOptions::default())
        .await
        .unwrap()
}
