//! A caller that is alone commits by itself; what it may not change by that.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use crdt_ds::datastore::{Datastore, DelayDatastore, Operation};
use crdt_ds::types::PnCounter;
use crdt_ds::{CrdtDatastore, Error};
use datastore_backends::MemoryDatastore;
use futures::FutureExt;
use futures::future::{join_all, ready};

use super::fixtures::{FORMATS, alone, entries, key, over, put, replica, value};

async fn put_times(store: &CrdtDatastore, times: usize) {
    for n in 0..times {
        put(store, "/alone", &n.to_string()).await;
    }
}

#[tokio::test]
async fn a_lone_callers_puts_end_in_the_poll_that_begins_them() {
    for format in FORMATS {
        let store = alone(format).await;
        let (key, mut at_once) = (key("/k"), 0);
        for n in 0..100 {
            let mut write = Box::pin(store.put(&key, Bytes::from(vec![n])));
            if write.as_mut().now_or_never().is_some() {
                at_once += 1;
            } else {
                write.await.unwrap();
            }
        }
        assert!(at_once > 70, "{format}: {at_once} of 100");
        assert_eq!(store.info().blocks, 100, "{format}");
    }
}

/// Writes that are polled together share a block, also after a time when there was only one.
#[tokio::test]
async fn a_caller_that_is_no_longer_alone_shares_blocks_again() {
    for format in FORMATS {
        let store = alone(format).await;
        put_times(&store, 100).await;
        for round in 0..40 {
            let writes = (0..10).map(|n| {
                let store = store.clone();
                async move { put(&store, &format!("/{round}/{n}"), "v").await }
            });
            join_all(writes).await;
        }
        assert_eq!(entries(&store).await.len(), 401, "{format}");
        let blocks = store.info().blocks - 100;
        assert!(
            blocks <= 40 + 2 * 16,
            "{format}: {blocks} blocks of 40 rounds"
        );
    }
}

/// Nor does a caller that finds the committer free overtake a write of its own that waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writes_that_are_polled_together_the_second_wins() {
    let store = alone(FORMATS[0]).await;
    let (other, stop) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let others = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            put_times(&other, 1).await;
        }
    });
    let pairs = tokio::spawn(async move {
        for n in 0..1000 {
            let (first, second) = (format!("{n}-1"), format!("{n}-2"));
            tokio::join!(put(&store, "/k", &first), put(&store, "/k", &second));
            assert_eq!(value(&store, "/k").await, Some(second));
            // Alone again for a while.
            put_times(&store, 20).await;
        }
    });
    pairs.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    others.await.unwrap();
}

/// Invariant 2.
#[tokio::test(start_paused = true)]
async fn a_commit_that_a_lone_caller_began_ends_without_it() {
    for format in FORMATS {
        let slow = Arc::new(AtomicBool::new(false));
        let delayed = slow.clone();
        let below = DelayDatastore::new(MemoryDatastore::new(), move |operation| {
            let commits = matches!(operation, Operation::Commit(_));
            let delay = u64::from(commits && delayed.load(Ordering::Relaxed));
            Box::pin(tokio::time::sleep(Duration::from_secs(delay)))
        });
        let store = over(format, below).open().await.unwrap();
        put_times(&store, 20).await;
        slow.store(true, Ordering::Relaxed);
        for n in 0..5 {
            let path = format!("/dropped/{n}");
            let dropped = put(&store, &path, "v").now_or_never();
            assert!(dropped.is_none(), "{format}: it was not slow");
            // The next write waits for it.
            put(&store, "/next", &path).await;
            assert!(store.has(&key(&path)).await.unwrap(), "{format}: {path}");
        }
        assert_eq!(store.info().failed_commits, 0, "{format}");
        store.close().await.unwrap();
    }
}

/// It could be the caller's own task.
#[tokio::test]
async fn a_hook_that_panics_stops_nobody() {
    for format in FORMATS {
        let store = replica(format)
            .put_hook(|key, _| assert_ne!(key.as_str(), "/bad"))
            .open()
            .await
            .unwrap();
        for _ in 0..50 {
            let write = AssertUnwindSafe(put(&store, "/bad", "v")).catch_unwind();
            assert!(write.await.is_ok(), "{format}: a caller panicked");
        }
        put(&store, "/good", "v").await;
        assert_eq!(entries(&store).await.len(), 2, "{format}");
        store.close().await.unwrap();
    }
}

/// Invariant 2: nobody knows what became of the commit, and who waits is told so.
#[tokio::test]
async fn after_a_commit_that_panicked_no_more_is_written() {
    // The commit is made by the task, or by a caller; it, or the sync after it, panics.
    for (format, alone_for, durable) in FORMATS
        .into_iter()
        .flat_map(|format| [(format, 0, false), (format, 20, false), (format, 20, true)])
    {
        let bad = Arc::new(AtomicBool::new(false));
        let panics = bad.clone();
        let below = DelayDatastore::new(MemoryDatastore::new(), move |operation| {
            let is_last = match operation {
                Operation::Sync(_) => durable,
                operation => operation.is_write() && !durable,
            };
            let panics = is_last && panics.load(Ordering::Relaxed);
            assert!(!panics, "a bad backend");
            Box::pin(ready(()))
        });
        let store = over(format, below).durable(durable).open().await.unwrap();
        put_times(&store, alone_for).await;
        bad.store(true, Ordering::Relaxed);
        let before = store.info().blocks;
        for _ in 0..20 {
            let refused = store.put(&key("/k"), Bytes::from("v")).await;
            assert!(matches!(refused, Err(Error::OutcomeUnknown)), "{format}");
            bad.store(false, Ordering::Relaxed);
        }
        assert_eq!(store.info().blocks, before, "{format}: nobody was told");
        store.close().await.unwrap();
    }
}

/// A write that was begun, and is polled no further, is committed, and holds up nobody.
#[tokio::test(start_paused = true)]
async fn a_close_waits_for_no_caller() {
    for format in FORMATS {
        let below = MemoryDatastore::new();
        let store = over(format, below.clone()).open().await.unwrap();
        let at = key("/k");
        let mut begun = Box::pin(store.put(&at, Bytes::from("v")));
        assert!(begun.as_mut().now_or_never().is_none(), "{format}");
        let counter = PnCounter::open(store.clone(), key("/n"), "a").unwrap();
        assert!(counter.add(1).now_or_never().is_none(), "{format}");
        let closed = tokio::time::timeout(Duration::from_secs(3600), store.close()).await;
        closed.expect("it waits for ever").unwrap();
        begun.await.unwrap();
        let store = over(format, below).open().await.unwrap();
        assert_eq!(value(&store, "/k").await.as_deref(), Some("v"), "{format}");
    }
}

/// Nor does a replica depend on the runtime of its callers.
#[test]
fn a_lone_caller_may_be_polled_outside_of_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let below = DelayDatastore::new(MemoryDatastore::new(), |_| {
        Box::pin(tokio::time::sleep(Duration::from_micros(1)))
    });
    let store = runtime
        .block_on(CrdtDatastore::builder(below).open())
        .unwrap();
    futures::executor::block_on(put_times(&store, 50));
    assert_eq!(store.info().blocks, 50);
    runtime.block_on(store.close()).unwrap();
}
