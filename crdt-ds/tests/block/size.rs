//! The size helpers bound what is written.

use crdt_ds::block::{
    Deletes, Delta, Format, Origin, WriterId, another_id_len, base_len, dag_cbor, dag_pb,
    delete_len, put_len,
};
use proptest::prelude::*;

use super::properties::{delta, links};

/// The bound of a block, added up as a replica does before it encodes.
fn bound(format: Format, links: usize, delta: &Delta) -> usize {
    let of_deletes = |deletes: &Deletes| {
        let others = deletes.ids.len().saturating_sub(1);
        delete_len(format, &deletes.key) + others * another_id_len(format, &deletes.key)
    };
    base_len(format, links, &delta.dag_name)
        + delta
            .puts
            .iter()
            .map(|put| put_len(format, &put.key, put.value.len()))
            .sum::<usize>()
        + delta.deletes.iter().map(of_deletes).sum::<usize>()
}

/// How far a bound may be above a block with the longest network id and numbers: heads of lengths, at
/// their longest in the bound, and the priority.
fn slack(delta: &Delta) -> usize {
    40 + 5 * delta.deletes.len()
}

proptest! {
    #[test]
    fn the_bound_is_above_the_block_and_close(delta in delta(), links in links(Format::DagPb)) {
        let network = "n".repeat(dag_cbor::MAX_NETWORK_BYTES);
        let origin = Origin { network, writer: WriterId([7; 16]), sequence: u64::MAX };
        for (format, block) in [
            (Format::DagCbor, dag_cbor::encode(&origin, &links, &delta).unwrap()),
            (Format::DagPb, dag_pb::encode(&links, &delta).unwrap()),
        ] {
            let len = block.bytes().len();
            let bound = bound(format, links.len(), &delta);
            prop_assert!(len <= bound, "{format}: {len} > {bound}");
            prop_assert!(bound <= len + slack(&delta), "{format}: {bound} is far above {len}");
        }
    }
}
