//! What a replica makes of the writes of its own callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use crdt_ds::block::{DagName, Format};
use crdt_ds::datastore::{Batch, Datastore, DatastoreExt, FailDatastore, Query};
use crdt_ds::sync::Hub;
use crdt_ds::{Error, Event, From};
use datastore_backends::MemoryDatastore;
use futures::FutureExt;

use super::fixtures::{
    FORMATS, Stranger, alone, assert_same, entries, heads, history, joined, key, node, now, over,
    put, replica, synced, value,
};

/// Case 3.
#[tokio::test]
async fn reading_never_writes() {
    for format in FORMATS {
        let writes = Arc::new(AtomicU64::new(0));
        let below = FailDatastore::new(MemoryDatastore::new());
        let count = writes.clone();
        below.fail_when(move |operation| {
            count.fetch_add(u64::from(operation.is_write()), Ordering::Relaxed);
            None
        });
        let store = over(format, below).open().await.unwrap();
        put(&store, "/k", &"large".repeat(2000)).await;
        put(&store, "/k", "v").await;
        let before = writes.load(Ordering::Relaxed);
        assert!(before > 0);
        value(&store, "/k").await;
        store.get_many(&[key("/k"), key("/none")]).await.unwrap();
        store.has(&key("/k")).await.unwrap();
        store.get_size(&key("/k")).await.unwrap();
        store.query_all(Query::new()).await.unwrap();
        store.versions(&key("/k")).await.unwrap();
        history(&store).await;
        assert_eq!(writes.load(Ordering::Relaxed), before, "{format}");
    }
}

/// Case 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_half_of_a_batch() {
    let store = alone(Format::DagCbor).await;
    let (writer, stop) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writes = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            let mut batch = Batch::new();
            batch.put(key("/a"), n.to_string());
            batch.put(key("/b"), n.to_string());
            writer.write(batch).await.unwrap();
            n += 1;
        }
    });
    let mut seen = BTreeSet::new();
    while seen.len() < 100 {
        let values = store.get_many(&[key("/a"), key("/b")]).await.unwrap();
        assert_eq!(values[0], values[1]);
        let all = entries(&store).await;
        assert!(all.is_empty() || all.len() == 2 && all[0].1 == all[1].1);
        seen.extend(values);
        tokio::task::yield_now().await;
    }
    stop.store(true, Ordering::Relaxed);
    writes.await.unwrap();
}

/// Case 9.
#[tokio::test]
async fn of_a_key_twice_in_a_batch_the_last_counts() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = Box::pin(store.subscribe(&key("/"), From::Now));
        let mut batch = Batch::new();
        batch.put(key("/k"), "z");
        batch.put(key("/gone"), "z");
        batch.put(key("/k"), "a");
        batch.delete(key("/gone"));
        let cid = store.write(batch).await.unwrap().cid.unwrap();
        let puts = node(&store, &cid).await.delta.puts;
        assert_eq!(puts.len(), 1, "{format}");
        assert_eq!(puts[0].value, "a", "{format}");
        assert_eq!(value(&store, "/k").await.as_deref(), Some("a"), "{format}");
        let Some(Ok(Event::Changed(change))) = now(&mut changes) else {
            panic!("no event");
        };
        assert_eq!(change.new, Some(Bytes::from("a")), "{format}");
        assert!(now(&mut changes).is_none(), "{format}");
    }
}

/// Case 10.
#[tokio::test]
async fn a_batch_is_nothing_until_it_is_written() {
    for format in FORMATS {
        let store = alone(format).await;
        let (mut one, mut two) = (Batch::new(), Batch::new());
        one.put(key("/1"), "1");
        two.put(key("/2"), "2");
        drop(one);
        let empty = store.write(Batch::new()).await.unwrap();
        assert_eq!(empty.cid, None, "{format}");
        assert_eq!(heads(&store), [], "{format}");
        store.write(two).await.unwrap();
        assert_eq!(entries(&store).await.len(), 1, "{format}");
    }
}

/// A write whose caller went away takes effect wholly or not at all, and the next one is not disturbed.
#[tokio::test]
async fn a_dropped_write_is_whole_or_nothing() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut batch = Batch::new();
        batch.put(key("/a"), "1");
        batch.put(key("/b"), "1");
        assert!(store.write(batch).now_or_never().is_none(), "{format}");
        put(&store, "/c", "1").await;
        let keys = entries(&store).await.len();
        assert!(keys == 1 || keys == 3, "{format}: {keys} keys");
    }
}

/// Case 13: what two tasks do to one key comes to what the log says, here and where it is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_puts_and_deletes_end_in_one_state() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = Box::pin(store.subscribe(&key("/"), From::Now));
        let mut tasks = Vec::new();
        for task in 0..2 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                for n in 0..100 {
                    if (n + task) % 2 == 0 {
                        // Overtaken by a delete in its group, it is in no block.
                        let value = format!("{task}-{n}").into();
                        store.put(&key("/k"), value).await.unwrap();
                    } else {
                        store.delete(&key("/k")).await.unwrap();
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let mut model = None;
        while let Some(event) = now(&mut changes) {
            let Event::Changed(change) = event.unwrap() else {
                panic!("a reset");
            };
            assert_eq!(change.old, Some(model), "{format}");
            model = change.new;
        }
        assert_eq!(store.get(&key("/k")).await.unwrap(), model, "{format}");
        let replayed = alone(format).await;
        replayed.import(history(&store).await).await.unwrap();
        assert_same(&[&store, &replayed], format.name()).await;
        assert_eq!(heads(&store).len(), 1, "{format}");
    }
}

/// Case 14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_puts_do_not_fork_the_dag() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut tasks = Vec::new();
        for n in 0..64 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                put(&store, &format!("/{n}"), "v").await;
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(entries(&store).await.len(), 64, "{format}");
        assert_eq!(heads(&store).len(), 1, "{format}");
        for block in history(&store).await {
            assert!(node(&store, block.cid()).await.links.len() <= 1);
        }
    }
}

/// Case 16.
#[tokio::test(start_paused = true)]
async fn a_batch_above_the_limit_is_refused_whole() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = replica(format)
            .transport(hub.join("r"))
            .max_delta_bytes(10_000)
            .open()
            .await
            .unwrap();
        let mut batch = Batch::new();
        for n in 0..20 {
            batch.put(key(&format!("/{n}")), vec![0; 600]);
        }
        let refused = store.write(batch).await;
        assert!(matches!(
            refused,
            Err(Error::DeltaTooLarge { limit: 10_000, .. })
        ));
        assert_eq!(entries(&store).await, [], "{format}");
        assert_eq!(heads(&store), [], "{format}");
        let second = std::time::Duration::from_secs(1);
        assert!(stranger.hears_nothing_for(second).await, "{format}");
    }
}

/// Case 16: writes that share a block do not take it over the limit together.
#[tokio::test(start_paused = true)]
async fn writes_that_share_a_block_stay_within_the_limit() {
    for format in FORMATS {
        let store = replica(format)
            .max_delta_bytes(10_000)
            .open()
            .await
            .unwrap();
        let mut tasks = Vec::new();
        for n in 0..40 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let value = vec![n; 1000];
                store
                    .put(&key(&format!("/{n}")), value.into())
                    .await
                    .unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let blocks = history(&store).await;
        assert!(blocks.len() < 40, "{format}: no write shared a block");
        for block in blocks {
            assert!(block.bytes().len() <= 10_000, "{format}");
        }
        assert_eq!(entries(&store).await.len(), 40, "{format}");
    }
}

/// Case 49. In go-ds-crdt's format such writes are one block, so there the key is gone.
#[tokio::test(start_paused = true)]
async fn equal_writes_of_two_fresh_replicas_are_two_versions() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let a = joined(format, &hub, "a").await;
        let b = joined(format, &hub, "b").await;
        hub.partition(&[&["a"], &["b"]]);
        put(&a, "/k", "v").await;
        put(&b, "/k", "v").await;
        a.delete(&key("/k")).await.unwrap();
        hub.heal();
        synced(&[&a, &b]).await;
        assert_same(&[&a, &b], format.name()).await;
        let survives = (format == Format::DagCbor).then_some("v");
        assert_eq!(value(&b, "/k").await.as_deref(), survives, "{format}");
    }
}

/// An overwrite in our format deletes what it replaces, so that a key that is written often stays one
/// row; in go-ds-crdt's format what it replaces stays hidden.
#[tokio::test]
async fn a_key_that_is_written_often_stays_small_in_our_format() {
    for (format, hidden) in [(Format::DagCbor, 0), (Format::DagPb, 99)] {
        let store = alone(format).await;
        for n in 0..100 {
            put(&store, "/k", &n.to_string()).await;
        }
        assert_eq!(store.info().hidden_versions, hidden, "{format}");
    }
}

#[tokio::test]
async fn a_dag_name_that_is_too_long_is_refused_by_name() {
    let store = alone(Format::DagCbor).await;
    let name = DagName::new("n".repeat(DagName::MAX_BYTES + 1));
    let refused = store.dag(name).put(&key("/k"), "v".into()).await;
    assert!(matches!(refused, Err(Error::NameTooLong { size: 257, .. })));
    let longest = DagName::new("n".repeat(DagName::MAX_BYTES));
    store
        .dag(longest)
        .put(&key("/k"), "v".into())
        .await
        .unwrap();
}

/// The writes of a group are one block a name, and each knows its own.
#[tokio::test(start_paused = true)]
async fn writes_that_wait_share_a_block_of_each_name() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut tasks = Vec::new();
        for n in 0..20 {
            let dag = store.dag(DagName::new(["likes", "views"][n % 2]));
            tasks.push(tokio::spawn(async move {
                let receipt = dag.put(&key(&format!("/{n}")), "v".into()).await.unwrap();
                (n % 2, receipt.cid.unwrap())
            }));
        }
        let mut cids: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for task in tasks {
            let (name, cid) = task.await.unwrap();
            cids.entry(name).or_default().push(cid);
        }
        let blocks = history(&store).await.len();
        assert!(blocks < 20, "{format}: {blocks} blocks");
        for (name, cids) in cids {
            for cid in cids {
                let name_there = node(&store, &cid).await.delta.dag_name;
                assert_eq!(name_there.as_str(), ["likes", "views"][name], "{format}");
            }
        }
    }
}

/// In our format an overwrite deletes what it replaces; what of that does not fit into the block of the
/// puts goes into blocks before it, in the same commit.
#[tokio::test]
async fn an_overwrite_that_exceeds_a_block_deletes_in_blocks_before_it() {
    let format = Format::DagCbor;
    let store = replica(format).max_delta_bytes(8192).open().await.unwrap();
    let batch = |value: u8| {
        let mut batch = Batch::new();
        for n in 0..70 {
            batch.put(key(&format!("/{n}")), vec![value; 50]);
        }
        batch
    };
    store.write(batch(1)).await.unwrap();
    let mut changes = Box::pin(store.subscribe(&key("/"), From::Now));
    let last = store.write(batch(2)).await.unwrap().cid.unwrap();
    let blocks = history(&store).await;
    assert!(blocks.len() > 2, "it did not exceed a block");
    for block in &blocks {
        assert!(block.bytes().len() <= 8192);
    }
    assert_eq!(heads(&store), [last]);
    assert_eq!(node(&store, &last).await.delta.puts.len(), 70);
    assert_eq!(store.info().hidden_versions, 0);
    let mut told = 0;
    while let Some(event) = now(&mut changes) {
        let Event::Changed(change) = event.unwrap() else {
            panic!("a reset");
        };
        assert_eq!(change.new, Some(Bytes::from(vec![2; 50])));
        told += 1;
    }
    assert_eq!(told, 70);
    let other = alone(format).await;
    other.import(blocks).await.unwrap();
    assert_same(&[&store, &other], "replayed").await;
}
