//! A DAG-CBOR block is refused, or is the one form of what it says.
#![no_main]

use bytes::Bytes;
use crdt_ds::block::{self, Block, BlockError, Format, dag_cbor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(block) = Block::new(Format::DagCbor, Bytes::copy_from_slice(data)) else {
        return;
    };
    let network = match block::decode(&block, "") {
        Ok(_) => String::new(),
        Err(BlockError::OtherNetwork { network, .. }) => network.into_string(),
        Err(BlockError::UnknownVersion { .. }) => {
            dag_cbor::links_of_unknown(&block).expect("a known version or links");
            return;
        }
        Err(_) => return,
    };
    let node = block::decode(&block, &network).expect("it was read before");
    let origin = node.origin.expect("DAG-CBOR names the writer");
    let again = match &node.signature {
        Some(signature) => dag_cbor::encode_signed(&origin, &node.links, &node.delta, signature),
        None => dag_cbor::encode(&origin, &node.links, &node.delta),
    };
    assert_eq!(again.expect("what was read can be written"), block);
});
