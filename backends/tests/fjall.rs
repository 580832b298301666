//! What is particular to `FjallDatastore`: files, locks, errors, durability, extras.

use bytes::Bytes;
use datastore_backends::{Durability, FjallDatastore};
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Key, Query};
use futures::{StreamExt, TryStreamExt};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn key(index: usize) -> Key {
    Key::new(format!("/k/{index:06}"))
}

async fn reads_and_writes(durability: Durability) {
    let directory = directory();
    let builder = || FjallDatastore::builder(directory.path()).durability(durability);
    let store = builder().open().await.unwrap();
    let mut batch = Batch::new();
    for index in 0..1000 {
        batch.put(key(index), format!("{index}"));
    }
    store.commit(batch).await.unwrap();
    store.delete(&key(500)).await.unwrap();
    store.sync(&Key::root()).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.get(&key(1)).await, Err(Error::Closed)));

    let store = builder().open().await.unwrap();
    assert_eq!(
        store.get(&key(7)).await.unwrap().as_deref(),
        Some(&b"7"[..])
    );
    let many = store.get_many(&[key(3), key(500)]).await.unwrap();
    assert_eq!(many, [Some(Bytes::from_static(b"3")), None]);
    assert_eq!(store.get_size(&key(123)).await.unwrap(), Some(3));
    let all = store
        .query_all(Query::new().prefix(Key::new("/k")))
        .await
        .unwrap();
    assert_eq!(all.len(), 999);
    assert!(all.is_sorted_by_key(|entry| entry.key.clone()));
    let mut page = store.query(Query::new().reversed().limit(2)).await.unwrap();
    assert_eq!(page.next().await.unwrap().unwrap().key, key(999));
    assert_eq!(page.try_collect::<Vec<_>>().await.unwrap().len(), 1);
}

#[tokio::test]
async fn it_reads_what_it_wrote_on_a_current_thread_runtime() {
    reads_and_writes(Durability::Buffer).await;
    reads_and_writes(Durability::Sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_what_it_wrote_on_a_multi_thread_runtime() {
    reads_and_writes(Durability::Buffer).await;
    reads_and_writes(Durability::Sync).await;
}

#[test]
fn it_reads_what_it_wrote_without_a_runtime() {
    futures::executor::block_on(reads_and_writes(Durability::Buffer));
    futures::executor::block_on(reads_and_writes(Durability::Sync));
}
