//! Blocks that wait: their bounds, and those of a version that this program does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crdt_ds::block::{Block, Format, VersionId};
use crdt_ds::datastore::{Datastore, DatastoreExt, Error, FailDatastore, Fault, Operation, Query};
use crdt_ds::sync::Hub;
use crdt_ds::{Builder, CrdtDatastore, Imported, Options};
use datastore_backends::MemoryDatastore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::fixtures::{
    FORMATS, Made, Stranger, alone, heads, joined, key, made, over, put, until, value,
};

fn with(format: Format, below: MemoryDatastore, set: impl FnOnce(&mut Options)) -> Builder {
    let mut options = Options::default();
    options.format = format;
    set(&mut options);
    CrdtDatastore::builder(below).options(options)
}

/// The CIDs of blocks whose bytes are stored.
async fn stored(below: &MemoryDatastore) -> usize {
    let query = Query::new().prefix(key("/crdt/b")).keys_only();
    below.query_all(query).await.unwrap().len()
}

fn chain(format: Format, length: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for priority in 1..=length {
        let below: Vec<&Block> = blocks.last().into_iter().collect();
        let next = made(format).priority(priority).above(&below);
        blocks.push(next.put(&format!("/{priority}"), "v").block());
    }
    blocks
}

/// Bodies at the head end go first, so that the bottom goes on; they are fetched again.
#[tokio::test(start_paused = true)]
async fn bodies_above_the_bound_are_dropped_and_fetched_again() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let below = MemoryDatastore::new();
        let store = with(format, below.clone(), |options| {
            options.max_pending_bodies = 4
        });
        let store = store.transport(hub.join("r")).open().await.unwrap();
        let blocks = chain(format, 40);
        stranger.holds(&blocks[1..]);
        stranger.announces(&[*blocks[39].cid()]).await;
        until("all but the root", async || {
            store.sync_status().pending == 39
        })
        .await;
        assert_eq!(stored(&below).await, 4, "{format}");
        assert!(
            store.block(blocks[1].cid()).await.unwrap().is_some(),
            "{format}"
        );
        stranger.holds(&blocks[..1]);
        until("merged", async || store.info().blocks == 40).await;
        assert_eq!(heads(&store), [*blocks[39].cid()], "{format}");
        let status = store.sync_status();
        assert_eq!((status.pending, status.wanted), (0, 0), "{format}");
    }
}

/// What was not asked for is not stored above the bound of pending blocks; what was goes on.
#[tokio::test(start_paused = true)]
async fn pending_blocks_are_bounded() {
    for format in FORMATS {
        let below = MemoryDatastore::new();
        let store = with(format, below, |options| options.max_pending = 3);
        let store = store.open().await.unwrap();
        let blocks = chain(format, 10);
        let outcomes = store.import(blocks[5..].to_vec()).await.unwrap();
        let waits = outcomes.iter().filter(|o| **o == Imported::Pending).count();
        let none = outcomes.iter().filter(|o| **o == Imported::NoRoom).count();
        assert_eq!((waits, none), (3, 2), "{format}");
        assert_eq!(
            store.import(vec![blocks[4].clone()]).await.unwrap(),
            [Imported::Pending]
        );
        let bottom = store.import(blocks[..4].to_vec()).await.unwrap();
        assert_eq!(bottom, [const { Imported::Merged }; 4], "{format}");
        assert_eq!(store.info().blocks, 8, "{format}");
        store.import(blocks[8..].to_vec()).await.unwrap();
        assert_eq!(heads(&store), [*blocks[9].cid()], "{format}");
    }
}

/// A DAG-CBOR block as another version of the format would make it.
fn of_version_2(made: Made) -> Block {
    let block = made.block();
    let mut bytes = block.bytes().to_vec();
    let at = bytes
        .windows(3)
        .rposition(|w| w == [0x61, b'v', 1])
        .unwrap();
    bytes[at + 2] = 2;
    Block::new(Format::DagCbor, bytes.into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_block_of_an_unknown_version_waits_for_another_program() {
    let format = Format::DagCbor;
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let below = MemoryDatastore::new();
    let store = over(format, below.clone()).transport(hub.join("r"));
    let store = store.open().await.unwrap();
    let root = made(format).put("/root", "v").block();
    let unknown = of_version_2(made(format).above(&[&root]).put("/unknown", "v"));
    let above = made(format).above(&[&unknown]).put("/above", "v").block();
    stranger.holds([&root, &unknown, &above]);
    stranger.announces(&[*above.cid()]).await;
    // What it links to comes meanwhile.
    until("the root", async || value(&store, "/root").await.is_some()).await;
    until("waits", async || store.sync_status().pending == 2).await;
    assert_eq!(value(&store, "/unknown").await, None);
    assert_eq!(value(&store, "/above").await, None);
    store.close().await.unwrap();
    drop(store);

    // It can be served on, and is not asked for again after a restart.
    let store = over(format, below).transport(hub.join("r"));
    let store = store.open().await.unwrap();
    assert_eq!(store.sync_status().pending, 2);
    assert_eq!(
        store.block(unknown.cid()).await.unwrap(),
        Some(unknown.clone())
    );
    let asked = stranger.asked(unknown.cid());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(stranger.asked(unknown.cid()), asked);
    // The operator may let what is above it merge.
    store.declare_gap(unknown.cid()).await.unwrap();
    assert_eq!(value(&store, "/above").await.as_deref(), Some("v"));
    assert_eq!(store.sync_status().gaps, 1);
}

fn nowhere(n: u64) -> VersionId {
    let mut id = [0xAB; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    VersionId(id)
}

/// Links of blocks of unknown versions count towards a peer's quota, as those of others do.
#[tokio::test(start_paused = true)]
async fn blocks_of_unknown_versions_leave_no_more_wants_than_others() {
    let format = Format::DagCbor;
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let store = with(format, MemoryDatastore::new(), |o| {
        o.max_wants_per_peer = 100
    });
    let store = store.transport(hub.join("r")).open().await.unwrap();
    for n in 0..20 {
        let links = (0..30).map(|m| nowhere(n * 30 + m).cid(format));
        let hostile = links.fold(made(format), Made::above_cid);
        stranger.sends(&of_version_2(hostile)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let wanted = store.sync_status().wanted;
    assert!((30..=100).contains(&wanted), "{wanted}");
}

/// One block with 20,000 links to nothing, more than are asked for at a time, and 5,000 announcements
/// of nothing do not keep an honest block out.
#[tokio::test(start_paused = true)]
async fn links_to_nothing_hold_up_no_honest_block() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let links = (0..20_000).map(|n| nowhere(n).cid(format));
        let hostile = links.fold(made(format), Made::above_cid).block();
        stranger.holds([&hostile]);
        stranger.announces(&[*hostile.cid()]).await;
        until("wanted", async || store.sync_status().wanted == 20_000).await;
        let nothing: Vec<_> = (20_000..25_000).map(|n| nowhere(n).cid(format)).collect();
        for part in nothing.chunks(1000) {
            stranger.announces(part).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;

        let honest = Stranger::join(&hub, "honest");
        let missing = made(format).put("/missing", "v").block();
        let good = made(format)
            .priority(2)
            .above(&[&missing])
            .put("/good", "v")
            .block();
        honest.holds([&good, &missing]);
        honest.announces(&[*good.cid()]).await;
        until("merged", async || value(&store, "/good").await.is_some()).await;
        // Those that made room come back in their turn.
        let last = nowhere(19_999).cid(format);
        let asked = stranger.asked(&last);
        tokio::time::sleep(Duration::from_secs(400)).await;
        assert!(stranger.asked(&last) > asked, "{format}");
    }
}

/// Stored bytes that no longer hash are not given out, but fetched again.
#[tokio::test(start_paused = true)]
async fn a_damaged_block_is_fetched_again() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let below = MemoryDatastore::new();
        let store = over(format, below.clone()).transport(hub.join("r"));
        let store = store.open().await.unwrap();
        let cid = put(&store, "/k", "v").await;
        let block = store.block(&cid).await.unwrap().unwrap();
        let before = store.digests();
        let query = Query::new().prefix(key("/crdt/b"));
        let row = below.query_all(query).await.unwrap().remove(0).key;
        below.put(&row, "damaged".into()).await.unwrap();

        assert_eq!(store.block(&cid).await.unwrap(), None, "{format}");
        assert_eq!(stranger.fetches(&cid).await, None, "{format}");
        until("wanted", async || store.sync_status().wanted == 1).await;
        stranger.holds([&block]);
        until("fetched", async || store.sync_status().wanted == 0).await;
        assert_eq!(store.block(&cid).await.unwrap(), Some(block), "{format}");
        assert_eq!(store.digests(), before, "{format}");
        assert_eq!(store.info().blocks, 1, "{format}: it is not merged again");
    }
}

/// A block that came twice, by a fetch and by an announcement, is merged once.
#[tokio::test]
async fn a_block_merges_once() {
    for format in FORMATS {
        let store = alone(format).await;
        let root = made(format).put("/root", "v").block();
        let above = made(format).above(&[&root]).put("/above", "v").block();
        let twice = vec![above.clone(), above.clone(), root.clone(), root.clone()];
        let outcomes = store.import(twice.clone()).await.unwrap();
        let known = outcomes.iter().filter(|o| **o == Imported::Known).count();
        assert_eq!(known, 2, "{format}");
        assert_eq!(store.info().blocks, 2, "{format}");
        let again = store.import(twice).await.unwrap();
        assert_eq!(again, [const { Imported::Known }; 4], "{format}");
        let cids: BTreeSet<_> = heads(&store).into_iter().collect();
        assert_eq!(cids, [*above.cid()].into(), "{format}");
        assert!(store.has(&key("/root")).await.unwrap(), "{format}");
    }
}

/// Nothing is left of what waited once all has merged, in whatever order it came.
#[tokio::test]
async fn merged_blocks_leave_no_rows_of_pending_ones() {
    for format in FORMATS {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut blocks = chain(format, 12);
            let late = made(format).put("/late", "v").block();
            let kill = made(format).above(&[&blocks[5]]).delete("/late", &[&late]);
            blocks.extend([kill.block(), late]);
            blocks.shuffle(&mut random);
            let below = MemoryDatastore::new();
            let store = over(format, below.clone()).open().await.unwrap();
            for block in &blocks {
                store.import(vec![block.clone()]).await.unwrap();
            }
            // 12 visible keys; 14 blocks, each with its bytes and a place in the index.
            let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
            for (row, _) in super::fixtures::rows(&below).await {
                let kind = row.as_str()[.."/crdt/k".len()].to_owned();
                *kinds.entry(kind).or_default() += 1;
            }
            let expected = [("/crdt/b", 14), ("/crdt/i", 14), ("/crdt/k", 12)];
            let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
            assert_eq!(kinds, expected.into(), "{format}, seed {seed}");
        }
    }
}

/// However many blocks wait for one, a commit takes a bounded part of them, and the next open goes on by
/// itself.
#[tokio::test(start_paused = true)]
async fn blocks_that_wait_for_one_merge_in_bounded_commits_also_after_a_stop() {
    const WAITERS: u64 = 5000;
    for format in FORMATS {
        let disk = MemoryDatastore::new();
        let below = Arc::new(FailDatastore::new(disk.clone()));
        let store = over(format, below.clone()).open().await.unwrap();
        let root = made(format).put("/root", "v").block();
        let waiters = (0..WAITERS).map(|n| {
            let above = made(format).priority(2).above(&[&root]);
            above.put(&format!("/{n}"), "v").block()
        });
        store.import(waiters.collect()).await.unwrap();
        assert_eq!(store.sync_status().pending, WAITERS, "{format}");

        let largest = Arc::new(AtomicUsize::new(0));
        let (seen, mut commits) = (largest.clone(), 0);
        below.fail_when(move |operation| {
            let Operation::Commit(batch) = operation else {
                return None;
            };
            seen.fetch_max(batch.len(), Ordering::Relaxed);
            commits += 1;
            let full = || Fault::before(Error::Closed);
            (commits > 2).then(full)
        });
        store.import(vec![root]).await.unwrap();
        until("a commit fails", async || store.info().failed_commits > 0).await;
        let merged = store.info().blocks;
        assert!((1..WAITERS).contains(&merged), "{format}: {merged}");
        let largest = largest.load(Ordering::Relaxed);
        assert!(largest < 10_000, "{format}: {largest} rows in one commit");
        store.close().await.unwrap_err();

        let store = over(format, disk).open().await.unwrap();
        until("all merge", async || store.info().blocks > WAITERS).await;
        assert_eq!(heads(&store).len() as u64, WAITERS, "{format}");
        assert_eq!(store.sync_status().pending, 0, "{format}");
    }
}
