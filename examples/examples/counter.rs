//! A counter on two nodes, in the fewest lines: `cargo run --example counter`.

use std::{error::Error, time::Duration};

use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{Stat, StatsOptions, StatsStore};
use crdt_ds::sync::{Hub, Peers};
use datastore_backends::MemoryDatastore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::new(1); // a network inside this process
    let mut nodes = Vec::new();
    for name in ["ada", "bob"] {
        let store = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join(name));
        let store = store.open().await?;
        let stats = StatsStore::open(store.clone(), "demo", name, StatsOptions::default()).await?;
        nodes.push((store, stats));
    }
    for (n, (_, stats)) in nodes.iter().enumerate() {
        stats.add("tweet-1", &Stat::LIKES, n as u64 + 1).await?; // no waiting for anybody
    }
    for (store, stats) in &nodes {
        store
            .wait_for_sync(Peers::All, Duration::from_secs(5))
            .await?;
        println!(
            "tweet-1 has {} likes",
            stats.get("tweet-1", &Stat::LIKES).await?
        );
    }
    Ok(())
}
