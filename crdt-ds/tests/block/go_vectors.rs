//! Blocks that go-ds-crdt made are read as it reads them, and written as it writes them.

use cid::Cid;
use crdt_ds::block::{self, Block, Format, Node, VersionId, dag_pb};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde_json::Value;

use super::fixtures::{cid, hex, json};

pub(crate) const REPLAYS: [&str; 4] = [
    "go/replay-101.json",
    "go/replay-102.json",
    "go/replay-103.json",
    "go/replay-104.json",
];

/// The steps of `ops.json` and `named-dags.json` that made a block.
pub(crate) fn steps() -> Vec<Value> {
    let named = json("go/named-dags.json")["steps"].take();
    let mut steps: Vec<Value> = json("go/ops.json").as_array().unwrap().clone();
    steps.extend(named.as_array().unwrap().iter().cloned());
    steps.retain(|step| step["block_hex"] != "");
    steps
}

pub(crate) fn all_blocks() -> Vec<Block> {
    let steps = steps();
    let of_steps = steps
        .iter()
        .map(|step| Block::verify(&cid(&step["cid"]), hex(&step["block_hex"])).unwrap());
    let mut blocks: Vec<Block> = of_steps.collect();
    for file in REPLAYS {
        for (multihash, bytes) in json(file)["blocks_hex"].as_object().unwrap() {
            let block = Block::new(Format::DagPb, hex(bytes)).unwrap();
            assert_eq!(HEXLOWER.encode(&block.cid().hash().to_bytes()), *multihash);
            blocks.push(block);
        }
    }
    blocks
}

#[test]
fn the_delta_of_each_step_is_in_its_block() {
    for step in steps() {
        let block = Block::verify(&cid(&step["cid"]), hex(&step["block_hex"])).unwrap();
        let node = block::decode(&block, "").unwrap();
        assert_eq!(node.delta.priority, step["height"].as_u64().unwrap());
        assert_eq!(
            node.delta.dag_name.as_str(),
            step["dag_name"].as_str().unwrap_or_default()
        );
        if let Some(links) = step.get("links") {
            let links: Vec<Cid> = links.as_array().into_iter().flatten().map(cid).collect();
            assert_eq!(node.links, links);
        }
        // A delta alone, put in a block without links, is the end of the step's block.
        let alone = dag_pb::encode(&[], &node.delta).unwrap();
        if !puts_a_key_twice(&block) {
            assert!(
                alone.bytes().ends_with(&hex(&step["delta_hex"])),
                "{}",
                step["name"]
            );
            assert!(block.bytes().ends_with(alone.bytes()), "{}", step["name"]);
        }
    }
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
    let blocks = all_blocks();
    assert_eq!(blocks.len(), 880);
    let mut in_our_order = 0;
    for block in blocks {
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
    block.cid().to_string() == "bafybeig4aahcv4j3vav3lunwq6t33ifnk6ylfcx7bly4p3z2jch2zrit5q"
}

#[test]
fn of_a_key_put_twice_the_greatest_value_counts() {
    let block = all_blocks().into_iter().find(puts_a_key_twice).unwrap();
    let puts = block::decode(&block, "").unwrap().delta.puts;
    let puts: Vec<_> = puts
        .iter()
        .map(|put| (put.key.as_str(), &put.value[..]))
        .collect();
    assert_eq!(puts, [("/a", &b"1b"[..]), ("/b", b"2"), ("/c/d", b"3")]);
}

fn sorted(mut node: Node) -> Node {
    node.links.sort_unstable();
    node.delta
        .deletes
        .iter_mut()
        .for_each(|deletes| deletes.ids.sort_unstable());
    node
}

#[test]
fn values_are_slices_of_the_block() {
    let mut values = 0;
    for block in all_blocks() {
        for put in block::decode(&block, "").unwrap().delta.puts {
            let range = block::value_range(block.bytes(), &put.value);
            assert_eq!(block.bytes().slice(range.clone()), put.value);
            values += usize::from(!range.is_empty());
        }
    }
    assert!(values > 500, "{values}");
}
