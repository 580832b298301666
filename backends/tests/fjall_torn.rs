//! Readers of a `FjallDatastore` see whole commits only, also while memtables are flushed, which is
//! when fjall's own snapshots are torn.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use datastore_backends::FjallDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};

/// Keys that every commit writes, all with one value.
const KEYS: usize = 1000;
/// Enough for some 40 flushes of a memtable of 1 MiB.
const COMMITS: usize = 400;

/// In the order in which a commit writes them. A few lie under `/sample`, so that a short scan meets
/// keys from all of a commit.
fn keys() -> Vec<Key> {
    let parent = |index| if index % 50 == 0 { "sample" } else { "k" };
    let keys = (0..KEYS).map(|index| Key::new(format!("/{}/{index:04}", parent(index))));
    keys.collect()
}

fn commit(number: usize) -> Batch {
    let mut batch = Batch::with_capacity(KEYS);
    for key in keys() {
        batch.put(key, Bytes::from(format!("{number:08}")));
    }
    batch
}

/// Makes commits while `read` runs again and again, which tells whether what it read is whole.
async fn race<F>(read: impl Fn(FjallDatastore) -> F + Send + Copy + 'static)
where
    F: Future<Output = bool> + Send,
{
    let directory = tempfile::tempdir().unwrap();
    let builder = FjallDatastore::builder(directory.path()).memtable_bytes(1024 * 1024);
    let store = builder.open().await.unwrap();
    store.commit(commit(0)).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let readers = [(); 2].map(|()| {
        let (store, done) = (store.clone(), done.clone());
        tokio::spawn(async move {
            let (mut reads, mut torn) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                torn += usize::from(!read(store.clone()).await);
                reads += 1;
            }
            (reads, torn)
        })
    });
    for number in 1..=COMMITS {
        store.commit(commit(number)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let (reads, torn) = reader.await.unwrap();
        assert!(reads > 0);
        assert_eq!(torn, 0, "torn, of {reads} reads");
    }
}

fn all_equal<T: PartialEq>(values: &[T]) -> bool {
    values
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a == b))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_query_sees_whole_commits() {
    race(|store| async move {
        let sample = Query::new().prefix(Key::new("/sample"));
        let entries = store.query_all(sample).await.unwrap();
        let values: Vec<_> = entries.into_iter().map(|entry| entry.value).collect();
        values.len() == KEYS / 50 && all_equal(&values)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn get_many_sees_whole_commits() {
    race(|store| async move { all_equal(&store.get_many(&keys()).await.unwrap()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gets_one_after_another_never_go_back_to_an_earlier_commit() {
    race(|store| async move {
        let mut values = Vec::new();
        for key in keys() {
            values.push(store.get(&key).await.unwrap());
        }
        values.is_sorted()
    })
    .await;
}
