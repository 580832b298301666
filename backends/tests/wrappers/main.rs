//! The wrappers of `datastore_core` over the store in memory.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod crash;
mod fail;
mod mount;
mod namespace;

use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};

fn batch<const N: usize>(puts: [(&str, &'static str); N]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in puts {
        batch.put(Key::new(key), value);
    }
    batch
}

/// The keys that a query returns.
async fn keys(store: &impl Datastore, query: Query) -> Vec<String> {
    let entries = store.query_all(query).await.unwrap();
    entries.iter().map(|entry| entry.key.to_string()).collect()
}
