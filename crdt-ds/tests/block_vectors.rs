//! Blocks that go-ds-crdt made are read as it reads them, and written as it writes them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{self, Block, Format, Node, VersionId, dag_pb};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde_json::Value;

const REPLAYS: [&str; 4] = [
    "replay-101.json",
    "replay-102.json",
    "replay-103.json",
    "replay-104.json",
];

fn vectors(file: &str) -> Value {
    let path = format!("{}/testdata/go/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn hex(value: &Value) -> Bytes {
    HEXLOWER
        .decode(value.as_str().unwrap().as_bytes())
        .unwrap()
        .into()
}

fn all_blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let ops = vectors("ops.json");
    let named = vectors("named-dags.json");
    for step in ops
        .as_array()
        .unwrap()
        .iter()
        .chain(named["steps"].as_array().unwrap())
    {
        // A step that changes nothing makes no block.
        if step["block_hex"] != "" {
            let cid = Cid::try_from(step["cid"].as_str().unwrap()).unwrap();
            blocks.push(Block::verify(&cid, hex(&step["block_hex"])).unwrap());
        }
    }
    for file in REPLAYS {
        for (multihash, bytes) in vectors(file)["blocks_hex"].as_object().unwrap() {
            let block = Block::new(Format::DagPb, hex(bytes)).unwrap();
            assert_eq!(HEXLOWER.encode(&block.cid().hash().to_bytes()), *multihash);
            blocks.push(block);
        }
    }
    blocks
}

/// Whether links and tombstones lie in our order. In go-ds-crdt the links have a map's, and the
/// tombstones of a delete that of its store.
fn is_in_our_order(node: &Node) -> bool {
    let text = |id: &VersionId| BASE32_NOPAD.encode(&id.cid(Format::DagPb).hash().to_bytes());
    node.links.is_sorted_by_key(|link| link.to_bytes())
        && node
            .delta
            .deletes
            .iter()
            .all(|deletes| deletes.ids.is_sorted_by_key(text))
}

#[test]
fn every_block_is_written_again_as_it_was() {
    let mut in_our_order = 0;
    for block in all_blocks() {
        let node = block::decode(&block, "").unwrap();
        assert!(node.foreign_links.is_empty() && node.origin.is_none());
        let again = dag_pb::encode(&node.links, &node.delta).unwrap();
        if is_in_our_order(&node) && !puts_a_key_twice(&block) {
            assert_eq!(again, block);
            in_our_order += 1;
        }
        let read_again = block::decode(&again, "").unwrap();
        assert_eq!(sorted(read_again), sorted(node));
    }
    assert_eq!(in_our_order, 629);
}

/// The one block of `ops.json` whose batch put `/a` twice: we read one put, so we write one.
fn puts_a_key_twice(block: &Block) -> bool {
    block
        .bytes()
        .windows(4)
        .filter(|bytes| bytes == b"\x0a\x02/a")
        .count()
        > 1
}

fn sorted(mut node: Node) -> Node {
    node.links.sort_unstable();
    node.delta
        .deletes
        .iter_mut()
        .for_each(|deletes| deletes.ids.sort_unstable());
    node
}
