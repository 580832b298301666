//! Stops, crashes, lost tails and copied folders.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crdt_ds::block::{self, Block, Format, WriterId};
use crdt_ds::datastore::{CrashDatastore, CrashPoint, Datastore, DatastoreExt, Loss, Query};
use crdt_ds::sync::Hub;
use crdt_ds::{CrdtDatastore, Error, Imported};
use datastore_backends::{FjallDatastore, MemoryDatastore};

use super::fixtures::{
    FORMATS, Stranger, alone, assert_same, heads, history, joined, key, made, over, put, synced,
    until, value,
};

/// A trunk, two branches of three, a merge above them, and a branch beside it.
fn branches(format: Format) -> Vec<Block> {
    let root = made(format).put("/k", "root").block();
    let mut blocks = vec![root.clone()];
    let mut tips = Vec::new();
    for side in ["left", "right"] {
        let mut tip = root.clone();
        for priority in 2..5 {
            let next = made(format).priority(priority).above(&[&tip]);
            tip = next
                .put("/k", side)
                .put(&format!("/{side}/{priority}"), "v")
                .block();
            blocks.push(tip.clone());
        }
        tips.push(tip);
    }
    let merge = made(format).priority(5).above(&[&tips[0], &tips[1]]);
    blocks.push(merge.delete("/k", &[&tips[0], &root]).block());
    let beside = made(format).priority(3).above(&[&blocks[1]]);
    blocks.push(beside.put("/beside", "v").block());
    blocks
}

fn tips(blocks: &[Block]) -> Vec<cid::Cid> {
    blocks[blocks.len() - 2..]
        .iter()
        .map(|block| *block.cid())
        .collect()
}

/// Case 18: the network goes away when so many blocks have come, and the replica is closed or dropped.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_was_cut_goes_on_after_a_restart() {
    for format in FORMATS {
        let blocks = branches(format);
        let whole = alone(format).await;
        whole.import(blocks.clone()).await.unwrap();
        for served in 0..blocks.len() {
            for clean in [true, false] {
                let below = MemoryDatastore::new();
                let hub = Hub::new(1);
                let stranger = Stranger::join(&hub, "stranger");
                let open = || over(format, below.clone()).transport(hub.join("r")).open();
                let store = open().await.unwrap();
                // The newest blocks are served: the rest is missing below them.
                stranger.holds(&blocks[blocks.len() - served..]);
                stranger.announces(&tips(&blocks)).await;
                until("those served", async || {
                    let status = store.sync_status();
                    status.pending == served as u64 && !status.unserved.is_empty()
                })
                .await;
                if clean {
                    store.close().await.unwrap();
                }
                drop(store);
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                stranger.holds(&blocks);
                let store = open().await.unwrap();
                if served == 0 {
                    // Nothing was stored, so nothing is known: it takes an announcement.
                    stranger.announces(&tips(&blocks)).await;
                } else if served == 1 {
                    stranger.announces(&tips(&blocks)[..1]).await;
                }
                until("the rest", async || {
                    store.info().blocks == blocks.len() as u64
                })
                .await;
                assert_same(&[&store, &whole], &format!("{format}, {served}, {clean}")).await;
                assert!(store.sync_status().is_synced(), "{format}");
            }
        }
    }
}

/// Case 18: at every operation of the datastore, on either side of it, by a kill or a power loss.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_operation_loses_nothing_that_peers_have() {
    for format in FORMATS {
        let blocks = branches(format);
        let whole = alone(format).await;
        whole.import(blocks.clone()).await.unwrap();
        let mut operation = 0;
        loop {
            let mut crashed = false;
            for point in [CrashPoint::Before, CrashPoint::After] {
                for loss in [Loss::Process, Loss::Power] {
                    let what = format!("{format}, {operation}, {point:?}, {loss:?}");
                    let below = CrashDatastore::new(MemoryDatastore::new());
                    below.crash_at(operation, point);
                    let hub = Hub::new(1);
                    let stranger = Stranger::join(&hub, "stranger");
                    stranger.holds(&blocks);
                    let builder = over(format, below.clone()).transport(hub.join("r"));
                    if let Ok(store) = builder.open().await {
                        stranger.announces(&tips(&blocks)).await;
                        until("merged or crashed", async || {
                            below.has_crashed() || store.info().blocks == blocks.len() as u64
                        })
                        .await;
                        let _ = store.close().await;
                    }
                    crashed = below.has_crashed();
                    let left = below.survivors(loss, MemoryDatastore::new()).await.unwrap();
                    let store = over(format, left).transport(hub.join("r"));
                    let store = store.open().await.expect(&what);
                    stranger.announces(&tips(&blocks)).await;
                    until(&what, async || store.info().blocks == blocks.len() as u64).await;
                    assert_same(&[&store, &whole], &what).await;
                }
            }
            if !crashed {
                break;
            }
            operation += 1;
        }
        assert!(operation > 4, "{format}: only {operation} operations");
    }
}

/// What `sync` confirmed survives a power loss, and the digests of what is left are those of its log.
#[tokio::test]
async fn what_sync_confirmed_survives_a_power_loss() {
    for format in FORMATS {
        let below = CrashDatastore::new(MemoryDatastore::new());
        let store = over(format, below.clone()).open().await.unwrap();
        put(&store, "/synced", "v").await;
        Datastore::sync(&store, &super::fixtures::key("/"))
            .await
            .unwrap();
        put(&store, "/lost", "v").await;
        below.crash();
        let left = below
            .survivors(Loss::Power, MemoryDatastore::new())
            .await
            .unwrap();
        let store = over(format, left).open().await.unwrap();
        assert_eq!(value(&store, "/synced").await.as_deref(), Some("v"));
        let replayed = alone(format).await;
        replayed.import(history(&store).await).await.unwrap();
        assert_same(&[&store, &replayed], format.name()).await;
    }
}

fn writers(blocks: &[Block]) -> Vec<(WriterId, u64)> {
    let nodes = blocks.iter().map(|block| block::decode(block, "").unwrap());
    nodes
        .map(|node| node.origin.unwrap())
        .map(|origin| (origin.writer, origin.sequence))
        .collect()
}

fn assert_no_pair_twice(blocks: &[Block]) {
    let pairs = writers(blocks);
    let different: BTreeSet<_> = pairs.iter().collect();
    assert_eq!(different.len(), pairs.len());
}

/// Case 53.
#[tokio::test(start_paused = true)]
async fn a_lost_tail_is_reported_and_its_sequence_numbers_are_not_used_again() {
    let format = Format::DagCbor;
    let hub = Hub::new(1);
    let below = CrashDatastore::new(MemoryDatastore::new());
    let a = over(format, below.clone())
        .transport(hub.join("a"))
        .open()
        .await
        .unwrap();
    let b = joined(format, &hub, "b").await;
    put(&a, "/1", "v").await;
    Datastore::sync(&a, &super::fixtures::key("/"))
        .await
        .unwrap();
    synced(&[&a, &b]).await;
    hub.partition(&[&["a"], &["b"]]);
    let lost = put(&a, "/2", "v").await;
    let later = put(&a, "/3", "v").await;
    let later = a.block(&later).await.unwrap().unwrap();
    assert_eq!(
        b.import(vec![later.clone()]).await.unwrap(),
        [Imported::Pending]
    );
    below.crash();
    drop(a);
    let left = below
        .survivors(Loss::Power, MemoryDatastore::new())
        .await
        .unwrap();
    let a = over(format, left)
        .transport(hub.join("a"))
        .open()
        .await
        .unwrap();
    assert_eq!(value(&a, "/2").await, None);
    hub.heal();
    put(&a, "/4", "v").await;
    until("all else", async || value(&b, "/4").await.is_some()).await;
    until("reported", async || b.sync_status().unserved == [lost]).await;
    assert_eq!(b.sync_status().pending, 1);
    let mut blocks = history(&b).await;
    blocks.push(later);
    assert_no_pair_twice(&blocks);

    b.declare_gap(&lost).await.unwrap();
    assert_eq!(value(&b, "/3").await.as_deref(), Some("v"));
}

/// Copies a folder with all that the file system knows of it, over what is there.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

/// A replica in a folder, and what to close it with.
struct InFolder {
    below: FjallDatastore,
    store: CrdtDatastore,
}

impl InFolder {
    async fn open(folder: &Path) -> Self {
        let below = FjallDatastore::open(folder).await.unwrap();
        let store = over(Format::DagCbor, below.clone()).open().await.unwrap();
        Self { below, store }
    }

    fn generation(&self) -> [u8; 8] {
        self.store.info().generation
    }

    async fn close(self) {
        self.store.close().await.unwrap();
        self.kill().await;
    }

    /// As a kill would: the replica says nothing.
    async fn kill(self) {
        let Self { below, store } = self;
        drop(store);
        below.close().await.unwrap();
    }
}

/// Case 54.
#[tokio::test]
async fn a_copied_folder_is_another_writer_of_another_generation() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
    let first = InFolder::open(&original).await;
    put(&first.store, "/k", "before").await;
    let generation = first.generation();
    first.close().await;
    copy_folder(&original, &copy);

    let [a, b] = [InFolder::open(&original).await, InFolder::open(&copy).await];
    assert_eq!(a.generation(), generation, "opened where it was closed");
    assert_ne!(b.generation(), generation, "a copy");
    put(&a.store, "/k", "a").await;
    put(&b.store, "/k", "b").await;
    put(&a.store, "/a", "a").await;
    put(&b.store, "/b", "b").await;
    let [of_a, of_b] = [history(&a.store).await, history(&b.store).await];
    a.store.import(of_b.clone()).await.unwrap();
    b.store.import(of_a.clone()).await.unwrap();
    assert_same(&[&a.store, &b.store], "both histories").await;
    assert_eq!(a.store.info().blocks, 5);
    assert_no_pair_twice(&history(&a.store).await);
    a.close().await;
    b.close().await;
}

/// Case 54.
#[tokio::test]
async fn a_backup_copied_back_is_another_generation() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, backup) = (dir.path().join("folder"), dir.path().join("backup"));
    let first = InFolder::open(&folder).await;
    put(&first.store, "/k", "before").await;
    first.close().await;
    copy_folder(&folder, &backup);
    let later = InFolder::open(&folder).await;
    put(&later.store, "/k", "lost").await;
    let (generation, lost) = (later.generation(), history(&later.store).await);
    later.close().await;
    // Over the files that are there, which keep their inodes and birth times.
    copy_folder(&backup, &folder);

    let restored = InFolder::open(&folder).await;
    assert_ne!(restored.generation(), generation);
    assert_eq!(
        value(&restored.store, "/k").await.as_deref(),
        Some("before")
    );
    put(&restored.store, "/k", "after").await;
    restored.store.import(lost).await.unwrap();
    assert_eq!(restored.store.info().blocks, 3);
    assert_no_pair_twice(&history(&restored.store).await);
    restored.close().await;
}

/// Case 54: the mark is gone before anything is written.
#[tokio::test]
async fn a_generation_ends_with_a_stop_that_was_not_clean() {
    let dir = tempfile::tempdir().unwrap();
    let first = InFolder::open(dir.path()).await;
    let generation = first.generation();
    first.close().await;
    let clean = InFolder::open(dir.path()).await;
    assert_eq!(clean.generation(), generation);
    let writer = clean.store.info().writer;
    clean.kill().await;
    let killed = InFolder::open(dir.path()).await;
    assert_ne!(killed.generation(), generation);
    assert_ne!(killed.store.info().writer, writer);
    killed.close().await;
}

/// A write whose commit may or may not have taken effect ends all writing until the store is reopened.
#[tokio::test]
async fn an_unknown_outcome_ends_all_writing_until_the_store_is_opened_again() {
    for format in FORMATS {
        for point in [CrashPoint::Before, CrashPoint::After] {
            let below = CrashDatastore::new(MemoryDatastore::new());
            let store = over(format, below.clone()).open().await.unwrap();
            put(&store, "/k", "1").await;
            let (known, digests) = (heads(&store), store.digests());
            below.crash_at(below.operations(), point);
            let unknown = store.put(&super::fixtures::key("/k"), "2".into()).await;
            assert!(unknown.is_err(), "{format}");
            let refused = store.put(&super::fixtures::key("/k"), "3".into()).await;
            assert!(matches!(refused, Err(crdt_ds::Error::OutcomeUnknown)));
            assert_eq!((heads(&store), store.digests()), (known, digests));
            drop(store);
            let left = below
                .survivors(Loss::Process, MemoryDatastore::new())
                .await
                .unwrap();
            let store = over(format, left).open().await.unwrap();
            let expected = if point == CrashPoint::After { "2" } else { "1" };
            assert_eq!(value(&store, "/k").await.as_deref(), Some(expected));
            put(&store, "/k", "4").await;
            let replayed = alone(format).await;
            replayed.import(history(&store).await).await.unwrap();
            assert_same(&[&store, &replayed], format.name()).await;
        }
    }
}

/// Rather than misread.
#[tokio::test]
async fn a_store_of_another_layout_version_is_refused_and_not_changed() {
    for format in FORMATS {
        let below = MemoryDatastore::new();
        let store = over(format, below.clone()).open().await.unwrap();
        put(&store, "/k", "v").await;
        store.close().await.unwrap();
        // The version is the first field of the row that says what the store is.
        let row = key("/crdt/o");
        let mut other = below.get(&row).await.unwrap().unwrap().to_vec();
        assert_eq!(other[0], 8, "{format}");
        other[1] += 1;
        below.put(&row, other.into()).await.unwrap();
        let before = below.query_all(Query::new()).await.unwrap();
        let refused = over(format, below.clone()).open().await;
        assert!(
            matches!(refused, Err(Error::UnknownLayout { version, known }) if version == known + 1),
            "{format}"
        );
        assert_eq!(below.query_all(Query::new()).await.unwrap(), before);
    }
}
