//! A replica that is cut off at any single operation of its store opens again with a whole number of
//! steps done, goes on writing, and ends where the others are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use crdt_ds::block::{Block, DagName, Delta, Format, Origin, Put, WriterId, dag_cbor, dag_pb};
use crdt_ds::datastore::{
    Batch, CrashDatastore, CrashPoint, Datastore, DatastoreExt, Error as DatastoreError,
    FailDatastore, Fault, Key, Loss, Operation, Query,
};
use crdt_ds::{CrdtDatastore, Error, Result};
use datastore_backends::MemoryDatastore;
use futures::TryStreamExt;

const FORMATS: [Format; 2] = [Format::DagCbor, Format::DagPb];
/// So many versions that their delete is split over blocks.
const HOT: u8 = 250;

type Entries = BTreeMap<Key, Bytes>;

async fn open(format: Format, below: impl Datastore, seed: u64) -> Result<CrdtDatastore> {
    CrdtDatastore::builder(below)
        .format(format)
        .max_delta_bytes(8192)
        .clock(Arc::new(|| 0))
        .seed(seed)
        .open()
        .await
}

async fn entries(store: &CrdtDatastore) -> Entries {
    let entries = store.query_all(Query::new()).await.unwrap();
    let entry = |entry: crdt_ds::datastore::Entry| (entry.key, entry.value.unwrap());
    entries.into_iter().map(entry).collect()
}

async fn history(store: &CrdtDatastore) -> Vec<Block> {
    let blocks = store.traverse(Default::default());
    blocks
        .map_ok(|merged| merged.block)
        .try_collect()
        .await
        .unwrap()
}

/// A block made elsewhere.
fn foreign(format: Format, writer: u8, above: &[&Block], key: &str, value: &'static str) -> Block {
    let delta = Delta {
        priority: 1 + above.len() as u64,
        dag_name: DagName::new("foreign"),
        puts: vec![Put {
            key: Key::new(key),
            value: value.into(),
        }],
        deletes: Vec::new(),
    };
    let links: Vec<_> = above.iter().map(|block| *block.cid()).collect();
    match format {
        Format::DagCbor => {
            let origin = Origin {
                network: String::new(),
                writer: WriterId([writer; 16]),
                sequence: 1,
            };
            dag_cbor::encode(&origin, &links, &delta).unwrap()
        }
        Format::DagPb => dag_pb::encode(&links, &delta).unwrap(),
    }
}

/// A life: every kind of commit, one a step. After each step `done` is called.
async fn live(
    format: Format,
    below: &(impl Datastore + Clone),
    mut done: impl AsyncFnMut(&CrdtDatastore),
) -> Result<()> {
    let store = open(format, below.clone(), 1).await?;
    done(&store).await;
    store.put(&Key::new("/k"), "v".into()).await?;
    done(&store).await;
    store.put(&Key::new("/big"), vec![7; 5000].into()).await?;
    done(&store).await;
    let mut batch = Batch::new();
    batch.put(Key::new("/x"), "1");
    batch.put(Key::new("/y"), "2");
    batch.delete(Key::new("/k"));
    store.dag(DagName::new("named")).write(batch).await?;
    done(&store).await;

    // A key with many versions, and its delete.
    let roots: Vec<Block> = match format {
        Format::DagCbor => (1..=HOT)
            .map(|writer| foreign(format, writer, &[], "/hot", "hot"))
            .collect(),
        // What does not say who made it has to differ elsewhere.
        Format::DagPb => chain(format, HOT),
    };
    store.import(roots).await?;
    done(&store).await;
    store.delete(&Key::new("/hot")).await?;
    done(&store).await;

    // A block that waits, then what it waits for.
    let bottom = foreign(format, 1, &[], "/bottom", "b");
    let middle = foreign(format, 2, &[&bottom], "/middle", "m");
    let top = foreign(format, 3, &[&middle], "/top", "t");
    store.import(vec![top]).await?;
    done(&store).await;
    store.import(vec![middle, bottom]).await?;
    done(&store).await;

    // A gap, and what fills it.
    let late = foreign(format, 4, &[], "/late", "l");
    let above = foreign(format, 5, &[&late], "/above", "a");
    store.import(vec![above]).await?;
    done(&store).await;
    store.declare_gap(late.cid()).await?;
    done(&store).await;
    store.import(vec![late]).await?;
    done(&store).await;

    store.close().await?;
    let store = open(format, below.clone(), 2).await?;
    done(&store).await;
    store.put(&Key::new("/after"), "a".into()).await?;
    done(&store).await;
    store.close().await
}

/// Versions of one key, each above the one before.
fn chain(format: Format, length: u8) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..length {
        let below: Vec<&Block> = blocks.last().into_iter().collect();
        blocks.push(foreign(format, 0, &below, "/hot", "hot"));
    }
    blocks
}

#[tokio::test]
async fn a_crash_at_any_operation_leaves_whole_steps_and_is_caught_up_with() {
    for format in FORMATS {
        // What each step leaves, and how many steps each operation of the store finds done.
        let below = CrashDatastore::new(MemoryDatastore::new());
        let mut after = vec![Entries::new()];
        let steps = &mut after;
        live(format, &below, async |store| {
            steps.push(entries(store).await)
        })
        .await
        .unwrap();
        let operations = below.operations();
        let whole = open(format, below, 3).await.unwrap();
        let whole = history(&whole).await;

        for operation in 0..operations {
            for point in [CrashPoint::Before, CrashPoint::After] {
                for loss in [Loss::Process, Loss::Power] {
                    let what = format!("{format}, {operation}, {point:?}, {loss:?}");
                    let below = CrashDatastore::new(MemoryDatastore::new());
                    below.crash_at(operation, point);
                    let mut done = 0;
                    let died = live(format, &below, async |_| done += 1).await;
                    assert!(died.is_err() && below.has_crashed(), "{what}");

                    let left = below.survivors(loss, MemoryDatastore::new()).await.unwrap();
                    let store = open(format, left, 4).await.unwrap();
                    let found = entries(&store).await;
                    // Unless the power is lost, what was done is there; the step that was cut is
                    // there wholly or not at all.
                    let least = match loss {
                        Loss::Process => done,
                        Loss::Power => 0,
                    };
                    assert!(
                        after[least..after.len().min(done + 2)].contains(&found),
                        "{what}: after {done} steps there is {:?}",
                        found.keys()
                    );

                    store.put(&Key::new("/again"), "w".into()).await.unwrap();
                    store.import(whole.clone()).await.unwrap();
                    let other = open(format, MemoryDatastore::new(), 5).await.unwrap();
                    other.import(whole.clone()).await.unwrap();
                    other.import(history(&store).await).await.unwrap();
                    assert_eq!(store.digests(), other.digests(), "{what}");
                    assert_eq!(store.heads(), other.heads(), "{what}");
                    assert_eq!(entries(&store).await, entries(&other).await, "{what}");
                    assert!(store.sync_status().is_synced(), "{what}");
                }
            }
        }
    }
}

fn full() -> DatastoreError {
    DatastoreError::StorageFull {
        context: "a commit".to_owned(),
        source: Arc::new(std::io::Error::other("no space left")),
    }
}

#[tokio::test]
async fn a_full_disk_is_told_changes_nothing_and_is_forgotten_when_there_is_room() {
    for format in FORMATS {
        let below = Arc::new(FailDatastore::new(MemoryDatastore::new()));
        let store = open(format, below.clone(), 1).await.unwrap();
        let key = Key::new("/k");
        store.put(&key, "old".into()).await.unwrap();
        let before = (store.digests(), store.heads(), store.cursor());

        below.fail_when(|operation| {
            matches!(operation, Operation::Commit(_)).then(|| Fault::before(full()))
        });
        let waiting = foreign(format, 1, &[&foreign(format, 2, &[], "/l", "")], "/w", "");
        for error in [
            store.put(&key, "new".into()).await.unwrap_err(),
            store.delete(&key).await.unwrap_err(),
            store.import(vec![waiting.clone()]).await.unwrap_err(),
        ] {
            let told = matches!(error, Error::Datastore(DatastoreError::StorageFull { .. }));
            assert!(told, "{format}: {error:?}");
        }
        assert_eq!(before, (store.digests(), store.heads(), store.cursor()));
        assert_eq!(store.get(&key).await.unwrap().unwrap(), "old");
        assert!(store.sync_status().is_synced(), "{format}");

        below.heal();
        store.put(&key, "new".into()).await.unwrap();
        store.import(vec![waiting]).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().unwrap(), "new");
        assert_eq!(store.sync_status().pending, 1);
        store.close().await.unwrap();
    }
}
