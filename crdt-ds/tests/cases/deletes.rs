//! Deletes: which versions they end, where, and in how many blocks.

use std::collections::BTreeSet;

use crdt_ds::block::{self, Block, Format, MAX_BLOCK_BYTES};
use crdt_ds::datastore::{Batch, Datastore};
use crdt_ds::{CrdtDatastore, Event, From};

use super::fixtures::{
    FORMATS, alone, entries, heads, history, id, key, made, node, now, put, replica,
    replicas_in_every_order, value,
};

/// Case 4.
#[tokio::test]
async fn a_key_and_its_child_are_deleted_one_by_one() {
    for format in FORMATS {
        let store = alone(format).await;
        put(&store, "/path/to/something", "child").await;
        assert!(!store.has(&key("/path")).await.unwrap(), "{format}");
        put(&store, "/path", "parent").await;
        store.delete(&key("/path/to/something")).await.unwrap();
        assert_eq!(value(&store, "/path").await.as_deref(), Some("parent"));
        put(&store, "/path/to/something", "child").await;
        store.delete(&key("/path")).await.unwrap();
        let left = entries(&store).await;
        assert_eq!(left.len(), 1, "{format}");
        assert_eq!(left[0].0, "/path/to/something", "{format}");
    }
}

/// Case 5: in whatever order they come, and though the delta that deletes also puts.
#[tokio::test]
async fn a_version_that_was_deleted_in_advance_changes_nothing() {
    for format in FORMATS {
        let dead = made(format).put("/k", "dead").block();
        let delete = made(format).delete("/k", &[&dead]).block();
        let replaced = made(format).put("/r", "old").block();
        let replace = made(format).delete("/r", &[&replaced]).put("/r", "new");
        let blocks = [dead, delete, replaced, replace.block()];
        for store in replicas_in_every_order(format, &blocks).await {
            assert_eq!(value(&store, "/k").await, None, "{format}");
            assert_eq!(value(&store, "/r").await.as_deref(), Some("new"));
            assert_eq!(store.versions(&key("/r")).await.unwrap().len(), 1);
            let info = store.info();
            assert_eq!((info.keys, info.hidden_versions), (1, 0), "{format}");
        }
    }
}

/// Case 6.
#[tokio::test]
async fn a_second_delete_ends_only_what_was_put_since_the_first() {
    for format in FORMATS {
        let store = alone(format).await;
        put(&store, "/k", "1").await;
        put(&store, "/k", "2").await;
        store.delete(&key("/k")).await.unwrap();
        let third = put(&store, "/k", "3").await;
        let delete = store.delete(&key("/k")).await.unwrap().cid.unwrap();
        let deletes = node(&store, &delete).await.delta.deletes;
        assert_eq!(deletes.len(), 1, "{format}");
        assert_eq!(deletes[0].ids, [id(&third)], "{format}");
        assert_eq!(value(&store, "/k").await, None, "{format}");
    }
}

/// Case 7. That nothing is announced: see `sync`.
#[tokio::test]
async fn deleting_what_is_not_there_makes_no_block() {
    for format in FORMATS {
        let store = alone(format).await;
        assert_eq!(store.delete(&key("/k")).await.unwrap().cid, None);
        assert_eq!(heads(&store), [], "{format}");
        put(&store, "/k", "v").await;
        store.delete(&key("/k")).await.unwrap();
        let before = heads(&store);
        assert_eq!(store.delete(&key("/k")).await.unwrap().cid, None);
        assert_eq!(heads(&store), before, "{format}");
        assert_eq!(store.info().blocks, 2, "{format}");
    }
}

/// Case 12.
#[tokio::test]
async fn a_tombstone_is_kept_until_the_version_that_it_ends_has_come() {
    for format in FORMATS {
        let version = made(format).put("/k", "v").block();
        let delete = made(format).priority(2).delete("/k", &[&version]).block();
        let store = alone(format).await;
        store.import(vec![delete]).await.unwrap();
        assert_eq!(store.info().kept_tombstones, 1, "{format}");
        store.import(vec![version]).await.unwrap();
        assert_eq!(value(&store, "/k").await, None, "{format}");
        assert_eq!(store.info().kept_tombstones, 0, "{format}");
    }
}

/// A tombstone is kept for one key: other keys of the block that comes are not touched by it.
#[tokio::test]
async fn a_kept_tombstone_ends_the_version_of_its_key_alone() {
    for format in FORMATS {
        let version = made(format).put("/k", "v").put("/other", "v").block();
        let delete = made(format).delete("/k", &[&version]).block();
        for store in replicas_in_every_order(format, &[version, delete]).await {
            assert_eq!(value(&store, "/k").await, None, "{format}");
            assert_eq!(value(&store, "/other").await.as_deref(), Some("v"));
        }
    }
}

/// A chain of blocks, each a version of one key.
fn versions(format: Format, count: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for priority in 1..=count {
        let mut next = made(format).priority(priority).put("/k", "v");
        if let Some(last) = blocks.last() {
            next = next.above(&[last]);
        }
        blocks.push(next.block());
    }
    blocks
}

async fn ids_deleted(store: &CrdtDatastore, cids: &[cid::Cid]) -> usize {
    let mut ids = BTreeSet::new();
    for cid in cids {
        for deletes in node(store, cid).await.delta.deletes {
            ids.extend(deletes.ids);
        }
    }
    ids.len()
}

/// Case 15.
#[tokio::test]
async fn a_delete_of_50_000_versions_is_split_over_blocks() {
    const VERSIONS: u64 = 50_000;
    for format in FORMATS {
        let limit = 1024 * 1024;
        let store = alone(format).await;
        store.import(versions(format, VERSIONS)).await.unwrap();
        assert_eq!(store.info().hidden_versions, VERSIONS - 1, "{format}");
        store.delete(&key("/k")).await.unwrap();
        assert_eq!(value(&store, "/k").await, None, "{format}");
        assert_eq!(store.info().hidden_versions, 0, "{format}");

        let made = history(&store).await.split_off(VERSIONS as usize);
        assert!(made.len() > 1, "{format}");
        assert!(limit < MAX_BLOCK_BYTES);
        for block in &made {
            assert!(block.bytes().len() <= limit, "{format}: {block:?}");
        }
        let cids: Vec<_> = made.iter().map(|block| *block.cid()).collect();
        assert_eq!(ids_deleted(&store, &cids).await, VERSIONS as usize);
        assert_eq!(heads(&store), [*cids.last().unwrap()], "{format}");
    }
}

/// The block whose version of `/k` wins.
fn winner_of(versions: &[Block]) -> cid::Cid {
    let ranked = versions.iter().max_by_key(|version| {
        let delta = block::decode(version, "").unwrap().delta;
        (delta.priority, delta.puts[0].value.clone())
    });
    *ranked.unwrap().cid()
}

/// Case 48: the versions are 400 heads, more than a block links to, and each block of the delete
/// merges by itself.
#[tokio::test]
async fn a_split_delete_shows_no_older_value_on_the_way() {
    for format in FORMATS {
        let versions: Vec<Block> = (1..=400)
            .map(|n| made(format).priority(n % 7).put("/k", &format!("{n:03}")))
            .map(super::fixtures::Made::block)
            .collect();
        let store = replica(format).max_delta_bytes(8192).open().await.unwrap();
        store.import(versions.clone()).await.unwrap();
        assert_eq!(heads(&store).len(), 400, "{format}");
        store.delete(&key("/k")).await.unwrap();
        let deletes = history(&store).await.split_off(versions.len());
        assert!(deletes.len() > 1, "{format}");

        // Another has all versions, or all but the visible one, which the delete's first block need
        // not link to.
        let visible = winner_of(&versions);
        for lacks in [None, Some(visible)] {
            let other = replica(format).newest_first().open().await.unwrap();
            let has = versions.iter().filter(|block| Some(*block.cid()) != lacks);
            other.import(has.cloned().collect()).await.unwrap();
            for version in &versions {
                other.declare_gap(version.cid()).await.unwrap();
            }
            let mut changes = Box::pin(other.subscribe(&key("/"), From::Now));
            for block in &deletes {
                other.import(vec![block.clone()]).await.unwrap();
            }
            let Some(Ok(Event::Changed(change))) = now(&mut changes) else {
                panic!("no event");
            };
            assert_eq!(change.new, None, "{format}: an older value showed");
            assert!(now(&mut changes).is_none(), "{format}");
            other.import(versions.clone()).await.unwrap();
            assert!(now(&mut changes).is_none(), "{format}");
            assert_eq!(other.digests(), store.digests(), "{format}");
        }
    }
}

/// A batch of deletes that is too large for one block takes effect at once here.
#[tokio::test]
async fn a_batch_of_deletes_above_the_limit_is_one_commit() {
    for format in FORMATS {
        let store = replica(format).max_delta_bytes(8192).open().await.unwrap();
        let mut batch = Batch::new();
        for n in 0..300 {
            put(&store, &format!("/{n}"), "v").await;
            batch.delete(key(&format!("/{n}")));
        }
        let before = store.cursor().sequence();
        let mut changes = Box::pin(store.subscribe(&key("/"), From::Now));
        store.write(batch).await.unwrap();
        assert!(store.cursor().sequence() > before + 1, "{format}");
        assert_eq!(entries(&store).await, [], "{format}");
        let mut cursors = BTreeSet::new();
        for _ in 0..300 {
            let Some(Ok(Event::Changed(change))) = now(&mut changes) else {
                panic!("too few events");
            };
            cursors.insert(change.cursor.sequence());
        }
        // Of one commit: all but the last resume before it.
        assert_eq!(cursors.len(), 2, "{format}");
    }
}
