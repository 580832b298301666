//! What slots promise: nothing lost among tasks, restarts, crashes, dropped callers and failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::sync::Hub;
use crdt_ds::types::PnCounter;
use datastore_backends::MemoryDatastore;
use datastore_core::{CrashDatastore, Error, FailDatastore, Fault, Key, Loss};
use futures::FutureExt;
use futures::future::join_all;

use crate::{FORMATS, replica, slow, synced};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_from_many_tasks_are_none_lost_and_go_out_together() {
    let hub = Hub::new(1);
    let store = replica(&hub, "a", FORMATS[0]).await;
    let counter = PnCounter::open(store.clone(), Key::new("/n"), "a").unwrap();
    let tasks: Vec<_> = (0..48)
        .map(|_| {
            let counter = counter.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    counter.add(1).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(counter.value().await.unwrap(), 48 * 20);
    assert!(
        store.info().blocks < 48 * 20 / 2,
        "{} blocks",
        store.info().blocks
    );
    assert_eq!(store.info().keys, 1);
}

/// Nor do callers of slow commits fall into two halves that wait for each other.
#[tokio::test(start_paused = true)]
async fn increments_that_follow_a_commit_all_go_out_with_the_next() {
    let below = slow(MemoryDatastore::new(), Arc::new(AtomicBool::new(true)));
    let store = CrdtDatastore::builder(below).open().await.unwrap();
    let counter = PnCounter::open(store.clone(), Key::new("/n"), "a").unwrap();
    let tasks = (0..64).map(|_| async {
        for _ in 0..8 {
            counter.add(1).await.unwrap();
        }
    });
    join_all(tasks).await;
    assert_eq!(counter.value().await.unwrap(), 64 * 8);
    let blocks = store.info().blocks;
    assert!(blocks <= 8 + 2, "{blocks} blocks");
}

#[tokio::test]
async fn storage_follows_writers_not_increments() {
    let hub = Hub::new(1);
    let store = replica(&hub, "a", FORMATS[0]).await;
    let counter = PnCounter::open(store.clone(), Key::new("/n"), "a").unwrap();
    for _ in 0..500 {
        counter.add(1).await.unwrap();
    }
    assert_eq!((store.info().keys, store.info().hidden_versions), (1, 0));
}

async fn open(disk: &CrashDatastore<MemoryDatastore>, hub: &Hub) -> (CrdtDatastore, PnCounter) {
    let store = CrdtDatastore::builder(disk.clone())
        .transport(hub.join("a"))
        .rebroadcast_interval(Duration::from_millis(200))
        .open()
        .await
        .unwrap();
    let counter = PnCounter::open(store.clone(), Key::new("/n"), "a").unwrap();
    (store, counter)
}

#[tokio::test]
async fn a_clean_restart_goes_on_in_the_same_slot() {
    let hub = Hub::new(1);
    let disk = CrashDatastore::new(MemoryDatastore::new());
    for round in 1..=3 {
        let (store, counter) = open(&disk, &hub).await;
        counter.add(1).await.unwrap();
        assert_eq!(counter.value().await.unwrap(), round);
        assert_eq!(store.info().keys, 1);
        counter.close().await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn lost_disks_lost_tails_and_copies_start_new_slots_and_nothing_counts_twice() {
    let hub = Hub::new(1);
    let peer = replica(&hub, "peer", FORMATS[0]).await;
    let theirs = PnCounter::open(peer.clone(), Key::new("/n"), "peer").unwrap();
    let mut disk = CrashDatastore::new(MemoryDatastore::new());

    // The last second is lost, but reached a peer.
    let (store, counter) = open(&disk, &hub).await;
    counter.add(10).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    disk.crash();
    drop((store, counter));
    disk = disk
        .survivors(Loss::Power, MemoryDatastore::new())
        .await
        .unwrap();
    let (store, counter) = open(&disk, &hub).await;
    counter.add(1).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    assert_eq!(counter.value().await.unwrap(), 11);
    assert_eq!(theirs.value().await.unwrap(), 11);

    // The disk is copied after a clean close, and both copies go on.
    counter.close().await.unwrap();
    store.close().await.unwrap();
    let copy = disk.copy(MemoryDatastore::new()).await.unwrap();
    let (store, counter) = open(&disk, &hub).await;
    counter.add(100).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    counter.close().await.unwrap();
    store.close().await.unwrap();
    let (store, counter) = open(&copy, &hub).await;
    counter.add(1000).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    assert_eq!(counter.value().await.unwrap(), 1111);
    counter.close().await.unwrap();
    store.close().await.unwrap();

    // The disk is gone.
    disk = CrashDatastore::new(MemoryDatastore::new());
    let (store, counter) = open(&disk, &hub).await;
    counter.add(10_000).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    assert_eq!(counter.value().await.unwrap(), 11_111);
    assert_eq!(theirs.value().await.unwrap(), 11_111);
}

#[tokio::test]
async fn a_crash_after_a_clean_restart_starts_a_new_slot() {
    let hub = Hub::new(1);
    let peer = replica(&hub, "peer", FORMATS[0]).await;
    let disk = CrashDatastore::new(MemoryDatastore::new());
    let (store, counter) = open(&disk, &hub).await;
    counter.add(1).await.unwrap();
    counter.close().await.unwrap();
    store.close().await.unwrap();

    // In the same slot; a peer has it, and the power fails.
    let (store, counter) = open(&disk, &hub).await;
    counter.add(10).await.unwrap();
    synced(&[store.clone(), peer.clone()]).await;
    assert_eq!(peer.info().keys, 1);
    disk.crash();
    drop((store, counter));
    let lost = disk.survivors(Loss::Power, MemoryDatastore::new());
    let disk = lost.await.unwrap();

    let (store, counter) = open(&disk, &hub).await;
    counter.add(100).await.unwrap();
    synced(&[store, peer.clone()]).await;
    assert_eq!(counter.value().await.unwrap(), 111);
    assert_eq!(peer.info().keys, 2);
}

#[tokio::test]
async fn an_add_that_failed_is_not_counted_and_one_that_was_dropped_is_counted_once() {
    let failing = Arc::new(AtomicBool::new(false));
    let below = FailDatastore::new(MemoryDatastore::new());
    let fails = failing.clone();
    below.fail_when(move |operation| {
        let full = || Error::StorageFull {
            context: "a test".to_owned(),
            source: Arc::new(Error::Closed),
        };
        (operation.is_write() && fails.load(Ordering::Relaxed)).then(|| Fault::before(full()))
    });
    let store = CrdtDatastore::builder(below).open().await.unwrap();
    let counter = PnCounter::open(store, Key::new("/n"), "a").unwrap();
    counter.add(1).await.unwrap();
    failing.store(true, Ordering::Relaxed);
    counter.add(10).await.unwrap_err();
    failing.store(false, Ordering::Relaxed);
    assert_eq!(counter.value().await.unwrap(), 1);
    // Polled once, so that its write is under way, and dropped.
    assert!(counter.add(100).now_or_never().is_none());
    counter.add(1000).await.unwrap();
    assert_eq!(counter.value().await.unwrap(), 1101);
    assert!(counter.add(10_000).now_or_never().is_none());
    counter.close().await.unwrap();
    assert_eq!(counter.value().await.unwrap(), 11_101);
    assert!(matches!(counter.add(1).await, Err(crdt_ds::Error::Closed)));
}
