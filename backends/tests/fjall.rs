//! What is particular to `FjallDatastore`: files, locks, errors, durability, extras.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use bytes::Bytes;
use datastore_backends::{Durability, FjallDatastore};
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Key, Query};
use futures::future::join_all;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rand::{RngCore, SeedableRng};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn open(directory: &TempDir) -> FjallDatastore {
    FjallDatastore::open(directory.path()).await.unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn it_reads_what_it_wrote_in_a_local_set() {
    let local = tokio::task::LocalSet::new();
    local.run_until(reads_and_writes(Durability::Buffer)).await;
    local.run_until(reads_and_writes(Durability::Sync)).await;
}

#[test]
fn it_reads_what_it_wrote_without_a_runtime() {
    futures::executor::block_on(reads_and_writes(Durability::Buffer));
    futures::executor::block_on(reads_and_writes(Durability::Sync));
}

#[tokio::test]
async fn of_several_operations_on_a_key_the_last_wins_and_stays() {
    let directory = directory();
    let store = open(&directory).await;
    let [put, gone, back] = ["/put", "/gone", "/back"].map(Key::new);
    let mut batch = Batch::new();
    batch.put(put.clone(), "first");
    batch.put(gone.clone(), "first");
    batch.delete(back.clone());
    batch.put(put.clone(), "last");
    batch.delete(gone.clone());
    batch.put(back.clone(), "last");
    store.commit(batch).await.unwrap();
    let check = async |store: &FjallDatastore| {
        let values = store
            .get_many(&[put.clone(), gone.clone(), back.clone()])
            .await
            .unwrap();
        assert_eq!(values, [Some("last".into()), None, Some("last".into())]);
        assert_eq!(store.query_all(Query::new()).await.unwrap().len(), 2);
    };
    check(&store).await;
    store.close().await.unwrap();
    let store = open(&directory).await;
    check(&store).await;
    store
        .extras()
        .garbage_collection
        .unwrap()
        .collect_garbage()
        .await
        .unwrap();
    check(&store).await;
}

#[tokio::test]
async fn what_exceeds_a_limit_is_refused_whole() {
    let directory = directory();
    let store = open(&directory).await;
    let longest = Key::new("k".repeat(65_534));
    store.put(&longest, "value".into()).await.unwrap();
    assert!(store.has(&longest).await.unwrap());
    let too_long = Key::new("k".repeat(65_535));
    assert_eq!(store.get(&too_long).await.unwrap(), None);
    let keys = [longest.clone(), too_long.clone()];
    assert_eq!(
        store.get_many(&keys).await.unwrap(),
        [Some("value".into()), None]
    );
    assert_eq!(store.get_size(&too_long).await.unwrap(), None);
    let found = async |query| store.query_all(query).await.unwrap().len();
    assert_eq!(found(Query::new().range(too_long.clone()..)).await, 0);
    assert_eq!(found(Query::new().range(..too_long.clone())).await, 1);
    assert_eq!(
        found(Query::new().range(too_long.clone()..=too_long.clone())).await,
        0
    );
    assert_eq!(found(Query::new().prefix(too_long.clone())).await, 0);
    assert_eq!(
        found(Query::new().start_after(too_long.clone()).reversed()).await,
        1
    );
    let mut batch = Batch::new();
    batch.put(Key::new("/other"), "value");
    batch.delete(too_long);
    let error = store.commit(batch).await.unwrap_err();
    assert!(matches!(
        error,
        Error::TooLarge {
            what: "key",
            size: 65_536,
            limit: 65_535
        }
    ));
    assert!(!store.has(&Key::new("/other")).await.unwrap());

    let limit = 1 << 30;
    let too_large = Bytes::from(vec![0; limit + 1]);
    let error = store.put(&Key::new("/large"), too_large).await.unwrap_err();
    let wanted = (limit as u64 + 1, limit as u64);
    assert!(
        matches!(error, Error::TooLarge { what: "value", size, limit } if (size, limit) == wanted)
    );
}

#[tokio::test]
async fn a_query_goes_on_when_the_store_is_written_and_dropped_and_ends_when_it_is_closed() {
    let directory = directory();
    let store = open(&directory).await;
    let mut batch = Batch::new();
    for index in 0..3000 {
        batch.put(key(index), "old");
    }
    store.commit(batch.clone()).await.unwrap();
    let ends = store.query(Query::new()).await.unwrap();
    let goes_on = store.query(Query::new().reversed()).await.unwrap();

    let delete = batch.into_iter().map(|op| datastore_core::Op::Delete {
        key: op.key().clone(),
    });
    store.commit(delete.collect()).await.unwrap();
    drop(store);
    let error = FjallDatastore::open(directory.path()).await.unwrap_err();
    assert!(
        matches!(error, Error::Locked { .. }),
        "queries are under way"
    );
    let entries: Vec<_> = goes_on.try_collect().await.unwrap();
    assert_eq!(entries.len(), 3000);
    assert!(
        entries
            .iter()
            .all(|entry| entry.value.as_deref() == Some(b"old"))
    );
    drop(ends);

    let store = open(&directory).await;
    assert_eq!(store.query_all(Query::new()).await.unwrap(), []);
    store.put(&key(0), "new".into()).await.unwrap();
    let mut ends = store.query(Query::new()).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(ends.next().await, Some(Err(Error::Closed))));
    assert!(ends.next().await.is_none());
    open(&directory).await;
}

#[tokio::test]
async fn a_commit_whose_future_is_dropped_is_there_whole_or_not_at_all() {
    for durability in [Durability::Buffer, Durability::Sync] {
        let directory = directory();
        let builder = FjallDatastore::builder(directory.path()).durability(durability);
        let store = builder.open().await.unwrap();
        for round in 0..20 {
            let mut batch = Batch::new();
            for index in 0..200 {
                batch.put(Key::new(format!("/{round}/{index}")), "value");
            }
            // Once polled, the work is with the blocking pool.
            let _ = store.commit(batch).now_or_never();
            // Waits for it: the one after it is written after it, or before it began.
            store
                .put(&Key::new("/other"), "value".into())
                .await
                .unwrap();
            let query = Query::new().prefix(Key::new(format!("/{round}")));
            let found = store.query_all(query).await.unwrap().len();
            assert!(found == 0 || found == 200, "{found} of 200");
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_many_tasks_are_all_durable() {
    let directory = directory();
    let builder = FjallDatastore::builder(directory.path()).durability(Durability::Sync);
    let store = builder.open().await.unwrap();
    let tasks = (0..32).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for index in 0..20 {
                store
                    .put(&key(task * 1000 + index), "value".into())
                    .await
                    .unwrap();
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(store.query_all(Query::new()).await.unwrap().len(), 32 * 20);
}

#[tokio::test]
async fn a_transaction_conflicts_with_a_later_write_of_what_it_read() {
    let directory = directory();
    let store = open(&directory).await;
    let [a, b, c] = ["/a", "/b", "/c"].map(Key::new);
    store.put(&a, "1".into()).await.unwrap();
    let begin = async || store.extras().transactions.unwrap().begin().await.unwrap();

    let mut transaction = begin().await;
    assert_eq!(
        transaction.get(&a).await.unwrap().as_deref(),
        Some(&b"1"[..])
    );
    transaction.put(b.clone(), "mine".into());
    assert_eq!(
        transaction.get(&b).await.unwrap().as_deref(),
        Some(&b"mine"[..])
    );
    // Not read, so no conflict.
    store.put(&b, "theirs".into()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(store.get(&b).await.unwrap().as_deref(), Some(&b"mine"[..]));

    // The same value again is a write as well; a put of what was absent; a delete.
    let writes: [fn(&mut Batch); 3] = [
        |batch| batch.put(Key::new("/a"), "1"),
        |batch| batch.put(Key::new("/c"), "theirs"),
        |batch| batch.delete(Key::new("/a")),
    ];
    for write in writes {
        let mut transaction = begin().await;
        let before = [
            transaction.get(&a).await.unwrap(),
            transaction.get(&c).await.unwrap(),
        ];
        let mut batch = Batch::new();
        write(&mut batch);
        let written = batch.ops().first().unwrap().key().clone();
        store.commit(batch).await.unwrap();
        let after = [
            transaction.get(&a).await.unwrap(),
            transaction.get(&c).await.unwrap(),
        ];
        assert_eq!(after, before, "it reads its snapshot");
        transaction.delete(b.clone());
        let error = transaction.commit().await.unwrap_err();
        assert!(matches!(error, Error::Conflict { key } if key == written));
        assert!(store.has(&b).await.unwrap(), "nothing took effect");
    }

    let mut transaction = begin().await;
    store.close().await.unwrap();
    assert!(matches!(transaction.get(&a).await, Err(Error::Closed)));
    assert!(matches!(transaction.commit().await, Err(Error::Closed)));
}

#[tokio::test]
async fn garbage_collection_gives_back_what_was_deleted() {
    let directory = directory();
    let store = open(&directory).await;
    let usage = async || {
        store
            .extras()
            .disk_usage
            .unwrap()
            .disk_usage()
            .await
            .unwrap()
    };
    let collect = async || {
        store
            .extras()
            .garbage_collection
            .unwrap()
            .collect_garbage()
            .await
            .unwrap();
    };
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    for chunk in 0..8 {
        let mut batch = Batch::new();
        for index in 0..16 {
            let mut value = vec![0; 64 * 1024];
            random.fill_bytes(&mut value);
            batch.put(key(chunk * 16 + index), value);
        }
        store.commit(batch).await.unwrap();
    }
    collect().await;
    let full = usage().await;
    assert!(full > 8 * 1024 * 1024, "{full}");
    let all = (0..128).map(|index| datastore_core::Op::Delete { key: key(index) });
    store.commit(all.collect()).await.unwrap();
    collect().await;
    let empty = usage().await;
    let journals = 9 * 1024 * 1024;
    assert!(
        empty < journals && full > empty + 7 * 1024 * 1024,
        "{full}, then {empty}"
    );
    store.extras().check.unwrap().check().await.unwrap();
}

#[tokio::test]
async fn after_work_in_the_background_failed_writes_go_on_once_its_cause_is_gone() {
    let directory = directory();
    let builder = FjallDatastore::builder(directory.path()).memtable_bytes(64 * 1024);
    let store = builder.open().await.unwrap();
    let put = async |index: usize| store.put(&key(index), vec![b'x'; 4096].into()).await;
    put(0).await.unwrap();
    let mut transaction = store.extras().transactions.unwrap().begin().await.unwrap();
    assert!(transaction.get(&key(0)).await.unwrap().is_some());

    // No flush can make a file where its directory should be a file.
    let tables = directory.path().join("data/keyspaces/1/tables");
    std::fs::rename(&tables, tables.with_extension("gone")).unwrap();
    std::fs::write(&tables, "").unwrap();
    let mut written = 1;
    let error = loop {
        match put(written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "no flush failed");
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert!(matches!(
        store.get(&key(0)).await,
        Err(Error::Damaged { .. })
    ));

    std::fs::remove_file(&tables).unwrap();
    std::fs::rename(tables.with_extension("gone"), &tables).unwrap();
    put(written).await.unwrap();
    for index in 0..=written {
        assert_eq!(store.get_size(&key(index)).await.unwrap(), Some(4096));
    }
    // The files that its snapshot shows may be gone.
    let error = transaction.get(&key(1)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    store.close().await.unwrap();
}
