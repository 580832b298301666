use std::time::{Duration, Instant};

use crdt_ds::net::Node;
use crdt_ds::{CrdtDatastore, Event, From};
use datastore_backends::MemoryDatastore;
use datastore_core::Key;
use futures::StreamExt;

use super::Result;

/// The median time from the call of `put` on one node to the change event on another, over so many
/// puts of small values, one after another.
pub(crate) async fn median(puts: u32) -> Result<Duration> {
    let mut nodes = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let node = Node::builder()
            .listen("/ip4/127.0.0.1/tcp/0".parse()?)
            .start()
            .await?;
        let store = CrdtDatastore::builder(MemoryDatastore::new())
            .transport(node.topic("load"))
            .open();
        stores.push(store.await?);
        nodes.push(node);
    }
    let ([here, there], [near, far]) = (nodes.as_slice(), stores.as_slice()) else {
        return Err("two nodes were started".into());
    };
    let address = there
        .listening()
        .await?
        .into_iter()
        .next()
        .ok_or("it does not listen")?;
    here.dial(address).await?;
    let mut changes = std::pin::pin!(far.subscribe(&Key::root(), From::Now));
    let mut times = Vec::new();
    // The first put waits for the nodes to meet.
    for number in 0..=puts {
        let key = Key::new(format!("/{number}"));
        let begun = Instant::now();
        near.put(&key, "a small value".into()).await?;
        loop {
            match changes.next().await.ok_or("the store has closed")?? {
                Event::Changed(change) if change.key == key => break,
                _ => {}
            }
        }
        times.push(begun.elapsed());
    }
    times.remove(0);
    for store in [near, far] {
        store.close().await?;
    }
    here.close().await;
    there.close().await;
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .ok_or_else(|| "no puts were made".into())
}
