//! A DAG-PB block is refused, or what it says can be written, read again, and written the same.
#![no_main]

use bytes::Bytes;
use crdt_ds::block::{self, Block, Format, MAX_PRIORITY, Node, dag_pb};
use libfuzzer_sys::fuzz_target;

fn encode(node: &Node) -> Block {
    dag_pb::encode(&node.links, &node.delta).expect("what was read can be written")
}

fuzz_target!(|data: &[u8]| {
    let Ok(block) = Block::new(Format::DagPb, Bytes::copy_from_slice(data)) else {
        return;
    };
    let Ok(mut node) = block::decode(&block, "") else {
        return;
    };
    for put in &node.delta.puts {
        let range = block::value_range(block.bytes(), &put.value);
        assert_eq!(block.bytes().slice(range), put.value);
    }
    node.delta.priority = node.delta.priority.min(MAX_PRIORITY);
    let again = encode(&node);
    let read_again = block::decode(&again, "").expect("what was written can be read");
    assert_eq!(read_again.delta.puts, node.delta.puts);
    assert_eq!(encode(&read_again), again);
});
