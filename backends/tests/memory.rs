//! What is particular to the store in memory.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datastore_backends::MemoryDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Key, Query};
use futures::StreamExt;

/// A clock that stands until it is moved.
fn stopped_clock() -> (Arc<Mutex<Instant>>, MemoryDatastore) {
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = now.clone();
    (
        now,
        MemoryDatastore::with_clock(move || *clock.lock().unwrap()),
    )
}

fn batch(key: &Key, value: &'static str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.clone(), value);
    batch
}

#[tokio::test]
async fn a_clone_is_the_same_store_and_a_new_store_another() {
    let store = MemoryDatastore::new();
    let key = Key::new("/a");
    store.clone().put(&key, "1".into()).await.unwrap();
    assert!(store.has(&key).await.unwrap());
    let id = |store: &MemoryDatastore| store.extras().instance.unwrap().handle_id();
    assert_eq!(id(&store), id(&store.clone()));
    assert_ne!(id(&store), id(&MemoryDatastore::new()));
}

#[tokio::test]
async fn a_scan_goes_on_over_its_snapshot_when_the_store_is_written_closed_and_dropped() {
    let store = MemoryDatastore::new();
    let mut all = Batch::new();
    for index in 0..2000 {
        all.put(Key::new(format!("/{index:04}")), "old");
    }
    store.commit(all).await.unwrap();
    let mut entries = store.query(Query::new().reversed()).await.unwrap();
    assert_eq!(
        entries.next().await.unwrap().unwrap().key,
        Key::new("/1999")
    );
    let mut all = Batch::new();
    for index in 0..2000 {
        all.delete(Key::new(format!("/{index:04}")));
    }
    store.commit(all).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    assert_eq!(entries.count().await, 1999);
}

#[tokio::test]
async fn values_expire() {
    let (now, store) = stopped_clock();
    let (a, b) = (Key::new("/a"), Key::new("/b"));
    let ttl = store.extras().ttl.unwrap();
    ttl.commit_with_ttl(batch(&a, "1"), Duration::from_secs(10))
        .await
        .unwrap();
    store.put(&b, "2".into()).await.unwrap();
    assert_eq!(ttl.ttl(&a).await.unwrap(), Some(Duration::from_secs(10)));
    assert_eq!(ttl.ttl(&b).await.unwrap(), None);
    let before = store.query(Query::new()).await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(10);
    assert_eq!(store.get(&a).await.unwrap(), None);
    assert!(!store.has(&a).await.unwrap());
    assert_eq!(ttl.ttl(&a).await.unwrap(), None);
    assert_eq!(
        store.get_many(&[a, b.clone()]).await.unwrap(),
        [None, Some("2".into())]
    );
    let keys: Vec<_> = store.query_all(Query::new()).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(before.count().await, 2, "a snapshot keeps its time");
}

#[tokio::test]
async fn a_later_put_or_delete_ends_an_expiry() {
    let (now, store) = stopped_clock();
    let (a, b) = (Key::new("/a"), Key::new("/b"));
    let ttl = store.extras().ttl.unwrap();
    for key in [&a, &b] {
        ttl.commit_with_ttl(batch(key, "1"), Duration::from_secs(10))
            .await
            .unwrap();
    }
    store.put(&a, "2".into()).await.unwrap();
    store.delete(&b).await.unwrap();
    store.put(&b, "2".into()).await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(60);
    store.commit(Batch::new()).await.unwrap();
    assert_eq!(store.query_all(Query::new()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_transaction_commits_only_if_what_it_read_did_not_change() {
    let store = MemoryDatastore::new();
    let (read, other) = (Key::new("/read"), Key::new("/other"));
    let transactions = store.extras().transactions.unwrap();

    let mut first = transactions.begin().await.unwrap();
    assert_eq!(first.get(&read).await.unwrap(), None);
    first.put(read.clone(), "mine".into());
    assert_eq!(first.get(&read).await.unwrap(), Some("mine".into()));
    store.put(&other, "x".into()).await.unwrap();
    first.commit().await.unwrap();

    let mut second = transactions.begin().await.unwrap();
    assert_eq!(second.get(&read).await.unwrap(), Some("mine".into()));
    second.delete(other.clone());
    // Even the same value is another version of it.
    store.put(&read, "mine".into()).await.unwrap();
    assert_eq!(second.get(&read).await.unwrap(), Some("mine".into()));
    let error = second.commit().await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { key } if *key == read),
        "{error}"
    );
    assert!(store.has(&other).await.unwrap());
}

#[tokio::test]
async fn a_mark_stays_until_it_is_cleared() {
    let store = MemoryDatastore::new();
    let instance = store.extras().instance.unwrap();
    let first = instance.set_mark().await.unwrap().unwrap();
    let second = instance.set_mark().await.unwrap().unwrap();
    instance.clear_mark(&first).await.unwrap();
    instance.clear_mark(&first).await.unwrap();
    assert!(!instance.has_mark(&first).await.unwrap());
    assert!(instance.has_mark(&second).await.unwrap());
    let elsewhere = MemoryDatastore::new();
    assert!(
        !elsewhere
            .extras()
            .instance
            .unwrap()
            .has_mark(&second)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_small_slice_does_not_keep_its_buffer() {
    let store = MemoryDatastore::new();
    let buffer = bytes::Bytes::from(vec![7; 1 << 20]);
    store
        .put(&Key::new("/small"), buffer.slice(..100))
        .await
        .unwrap();
    assert!(buffer.is_unique());
    assert_eq!(
        store.get(&Key::new("/small")).await.unwrap().unwrap(),
        buffer[..100]
    );
}
