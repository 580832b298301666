//! What go-ds-crdt wrote down: the same operations make the same blocks here, and its random histories
//! end in its states here, in whatever order they come.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{self, Block, DagName, Format};
use crdt_ds::datastore::{Batch, Datastore, DatastoreExt, Key, Query};
use crdt_ds::sync::PeerDigests;
use crdt_ds::{Builder, CrdtDatastore, Imported};
use data_encoding::HEXLOWER;
use datastore_backends::{FjallDatastore, MemoryDatastore};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

/// How many orders each history is given in.
const ORDERS: u64 = 50;

type State = BTreeMap<String, Bytes>;

fn json(file: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/go");
    serde_json::from_slice(&std::fs::read(path.join(file)).unwrap()).unwrap()
}

fn hex(value: &Value) -> Bytes {
    HEXLOWER
        .decode(value.as_str().unwrap().as_bytes())
        .unwrap()
        .into()
}

fn state_of(value: &Value) -> State {
    let pairs = value.as_object().unwrap().iter();
    pairs
        .map(|(key, value)| (key.clone(), hex(value)))
        .collect()
}

async fn replica(builder: Builder) -> CrdtDatastore {
    builder.format(Format::DagPb).open().await.unwrap()
}

async fn in_memory() -> CrdtDatastore {
    replica(CrdtDatastore::builder(MemoryDatastore::new())).await
}

async fn state(store: &CrdtDatastore) -> State {
    let entries = store.query_all(Query::new()).await.unwrap();
    entries
        .into_iter()
        .map(|entry| (entry.key.as_str().to_owned(), entry.value.unwrap()))
        .collect()
}

fn heads(store: &CrdtDatastore) -> BTreeSet<Cid> {
    store.heads().into_iter().map(|head| head.cid).collect()
}

/// The operations of a step, as the vectors write them: `put /key value`, `delete /key`.
fn batch(ops: &str) -> Batch {
    let mut batch = Batch::new();
    for op in ops.split("; ") {
        match op.splitn(3, ' ').collect::<Vec<_>>()[..] {
            ["put", key, "''"] => batch.put(Key::new(key), ""),
            ["put", key, "<1024 bytes i%256>"] => {
                let value: Vec<u8> = (0..=255).cycle().take(1024).collect();
                batch.put(Key::new(key), value);
            }
            ["put", key, value] => batch.put(Key::new(key), value.to_owned()),
            ["delete", key] => batch.delete(Key::new(key)),
            _ => panic!("an operation {op:?}"),
        }
    }
    batch
}

fn block_of(step: &Value) -> Block {
    let block = Block::new(Format::DagPb, hex(&step["block_hex"])).unwrap();
    assert_eq!(block.cid().to_string(), step["cid"]);
    block
}

async fn assert_made(store: &CrdtDatastore, cid: Option<Cid>, step: &Value) {
    let name = &step["name"];
    assert_eq!(cid.unwrap().to_string(), step["cid"], "{name}");
    let made = store.block(&cid.unwrap()).await.unwrap().unwrap();
    assert_eq!(made, block_of(step), "{name}");
}

#[tokio::test]
async fn the_same_operations_make_the_same_blocks() {
    let first = in_memory().await;
    let (one, two) = (in_memory().await, in_memory().await);
    let mut blocks = Vec::new();
    for step in json("ops.json").as_array().unwrap() {
        let name = step["name"].as_str().unwrap();
        let ops = step["ops"][0].as_str().unwrap();
        let (store, ops) = match ops.split_once(' ').unwrap() {
            ("r1", ops) => (&one, ops),
            ("r2", ops) => (&two, ops),
            _ => (&first, ops),
        };
        if ops == "<- r2 head" {
            one.import(vec![blocks.last().cloned().unwrap()])
                .await
                .unwrap();
        } else if let Some(ops) = ops.strip_prefix("batch[") {
            // Go's block carries a key twice, ours carries it once; we go on above Go's.
            let twin = in_memory().await;
            twin.import(blocks.clone()).await.unwrap();
            let cid = twin
                .write(batch(ops.trim_end_matches(']')))
                .await
                .unwrap()
                .cid;
            let ours = twin.block(&cid.unwrap()).await.unwrap().unwrap();
            let [ours, theirs] = [ours, block_of(step)].map(|b| block::decode(&b, "").unwrap());
            assert_eq!(ours, theirs, "{name}");
            assert_eq!(state(&twin).await, state_of(&step["state_hex"]), "{name}");
            first.import(vec![block_of(step)]).await.unwrap();
            blocks.push(block_of(step));
        } else {
            let cid = store.write(batch(ops)).await.unwrap().cid;
            if name == "delete of a missing key makes no block" {
                assert_eq!(cid, None);
            } else {
                assert_made(store, cid, step).await;
                blocks.push(block_of(step));
            }
        }
        assert_eq!(state(store).await, state_of(&step["state_hex"]), "{name}");
        let theirs = step["heads"].as_array().unwrap().iter();
        let theirs = theirs.map(|cid| Cid::try_from(cid.as_str().unwrap()).unwrap());
        assert_eq!(heads(store), theirs.collect(), "{name}");
    }
}

#[tokio::test]
async fn named_dags_make_the_same_blocks() {
    let store = in_memory().await;
    let vectors = json("named-dags.json");
    let steps: Vec<&Value> = vectors["steps"].as_array().unwrap().iter().collect();
    let mut made = 0;
    for step in steps.into_iter().filter(|step| step["block_hex"] != "") {
        let dag = store.dag(DagName::new(step["dag_name"].as_str().unwrap()));
        let (op, _) = step["op"].as_str().unwrap().split_once(" in dag ").unwrap();
        assert_made(&store, dag.write(batch(op)).await.unwrap().cid, step).await;
        let ours: BTreeMap<String, String> = store
            .heads()
            .into_iter()
            .map(|head| (head.cid.to_string(), head.dag_name.as_str().to_owned()))
            .collect();
        let theirs = step["heads"].as_object().unwrap().iter();
        let theirs = theirs.map(|(cid, name)| (cid.clone(), name.as_str().unwrap().to_owned()));
        assert_eq!(ours, theirs.collect(), "{}", step["name"]);
        made += 1;
    }
    assert_eq!(made, 5);
    let theirs = vectors["state"].as_object().unwrap().iter();
    let theirs = theirs.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned().into()));
    assert_eq!(state(&store).await, theirs.collect());
}

/// Go writes the keys of a delete of several in the caller's order, whatever versions each has.
#[tokio::test]
async fn a_batch_deletes_keys_in_the_order_of_the_caller() {
    let store = in_memory().await;
    let mut ids = BTreeMap::new();
    for key in ["/b", "/a", "/a"] {
        let cid = store.put(&Key::new(key), "v".into()).await.unwrap().cid;
        ids.insert(key, cid.unwrap());
    }
    let cid = store
        .write(batch("delete /b; delete /a"))
        .await
        .unwrap()
        .cid;
    let made = store.block(&cid.unwrap()).await.unwrap().unwrap();
    let delta = block::decode(&made, "").unwrap().delta;
    let keys: Vec<&str> = delta.deletes.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(keys, ["/b", "/a"]);
    assert_eq!(delta.deletes[1].ids.len(), 2);
}

/// A random history that went through Go replicas, and the one state that all of them reached.
struct Replay {
    blocks: Vec<Block>,
    state: State,
    /// The blocks that no block links to.
    tips: BTreeSet<Cid>,
}

impl Replay {
    fn read(file: &str) -> Self {
        let vectors = json(file);
        let blocks: Vec<Block> = vectors["blocks_hex"]
            .as_object()
            .unwrap()
            .values()
            .map(|bytes| Block::new(Format::DagPb, hex(bytes)).unwrap())
            .collect();
        let mut tips: BTreeSet<Cid> = blocks.iter().map(|block| *block.cid()).collect();
        for block in &blocks {
            for link in block::decode(block, "").unwrap().links {
                tips.remove(&link);
            }
        }
        Self {
            blocks,
            state: state_of(&vectors["state_hex"]),
            tips,
        }
    }

    /// Gives the blocks to `store` in an order, and in portions, that follow from `seed`.
    async fn play(&self, store: &CrdtDatastore, seed: u64, newest_first: bool) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut blocks = self.blocks.clone();
        blocks.shuffle(&mut random);
        while !blocks.is_empty() {
            let portion = random.random_range(1..=32).min(blocks.len());
            let portion: Vec<Block> = blocks.drain(..portion).collect();
            for outcome in store.import(portion).await.unwrap() {
                let waits = outcome == Imported::Pending;
                assert!(outcome == Imported::Merged || waits && !newest_first);
            }
        }
    }

    async fn check(&self, store: &CrdtDatastore, digests: &PeerDigests, seed: u64) {
        assert_eq!(heads(store), self.tips, "order {seed}");
        assert_eq!(state(store).await, self.state, "order {seed}");
        assert_eq!(store.digests(), *digests, "order {seed}");
        let (info, status) = (store.info(), store.sync_status());
        assert_eq!(info.blocks, self.blocks.len() as u64, "order {seed}");
        assert_eq!(info.keys, self.state.len() as u64, "order {seed}");
        assert_eq!(info.kept_tombstones, 0, "order {seed}");
        assert_eq!(
            (status.pending, status.wanted, status.gaps),
            (0, 0, 0),
            "order {seed}"
        );
    }
}

/// Plays a history in [`ORDERS`] orders, each way, over a store of this kind.
async fn ends_in_the_state_of_go(file: &str, datastore: Arc<dyn Datastore>) {
    let replay = Replay::read(file);
    let reference = in_memory().await;
    replay.play(&reference, 0, false).await;
    let digests = reference.digests();
    for newest_first in [false, true] {
        for seed in 0..ORDERS {
            let namespace = Key::new(format!("/{newest_first}/{seed}"));
            let builder = CrdtDatastore::builder(datastore.clone()).namespace(namespace);
            let store = replica(match newest_first {
                true => builder.newest_first(),
                false => builder,
            })
            .await;
            replay.play(&store, seed, newest_first).await;
            replay.check(&store, &digests, seed).await;
            store.close().await.unwrap();
        }
    }
}

macro_rules! replays {
    ($($name:ident: $file:literal),* $(,)?) => {
        mod a_history_of_go_replicas_ends_in_their_state {
            mod in_memory {
                use super::super::*;
                $(#[tokio::test]
                async fn $name() {
                    ends_in_the_state_of_go($file, Arc::new(MemoryDatastore::new())).await;
                })*
            }
            mod on_disk {
                use super::super::*;
                $(#[tokio::test]
                async fn $name() {
                    let directory = tempfile::tempdir().unwrap();
                    let datastore = FjallDatastore::open(directory.path()).await.unwrap();
                    ends_in_the_state_of_go($file, Arc::new(datastore)).await;
                })*
            }
        }
    };
}

replays! {
    replay_101: "replay-101.json",
    replay_102: "replay-102.json",
    replay_103: "replay-103.json",
    replay_104: "replay-104.json",
}
