//! One counter on two nodes, in the fewest lines: `cargo run --example counter`.

use std::{error::Error, time::Duration};

use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{Stat, StatsOptions, StatsStore};
use crdt_ds::sync::{Hub, Peers};
use datastore_backends::MemoryDatastore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::new(1); // a network inside this process
    let mut nodes = Vec::new();
    for (name, likes) in [("ada", 2), ("bob", 3)] {
        let store = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join(name));
        let store = store.open().await?;
        let stats = StatsStore::open(store.clone(), "demo", name, StatsOptions::default()).await?;
        stats.add("tweet-1", &Stat::LIKES, likes).await?; // waits for nobody
        println!("{name} adds {likes} likes to tweet-1");
        nodes.push((name, store, stats));
    }
    for (name, store, stats) in &nodes {
        let patience = Duration::from_secs(5);
        store.wait_for_sync(Peers::All, patience).await?;
        let likes = stats.get("tweet-1", &Stat::LIKES).await?;
        println!("{name} sees {likes} likes of tweet-1");
    }
    for (_, store, stats) in &nodes {
        stats.close().await?;
        store.close().await?;
    }
    Ok(())
}
