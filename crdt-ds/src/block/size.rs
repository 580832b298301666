//! How large a block becomes: upper bounds, to split a delta before it is encoded.

use datastore_core::Key;

use super::{DagName, Delta, Format, cbor, dag_cbor, dag_pb, proto_delta};

/// The most bytes that the head of a CBOR item takes: every length is within a block.
const MAX_CBOR_HEAD: usize = 5;

/// An upper bound of the bytes of a block that says nothing but has this many links and this name.
/// With [`put_len`], [`delete_len`] and [`another_id_len`] of what it says it bounds any block.
pub fn base_len(format: Format, links: usize, dag_name: &DagName) -> usize {
    let name = dag_name.as_str().len();
    match format {
        Format::DagCbor => {
            const LETTERS: usize = 9 * 2;
            const NUMBERS: usize = 9 + 9 + 1;
            const WRITER: usize = 1 + 16;
            let head_of_map_and_four_fields = 1 + 3 * MAX_CBOR_HEAD;
            head_of_map_and_four_fields
                + LETTERS
                + cbor::string_len(name)
                + cbor::string_len(dag_cbor::MAX_NETWORK_BYTES)
                + NUMBERS
                + WRITER
                + links * cbor::LINK_LEN
        }
        Format::DagPb => {
            const HEAD_OF_DATA: usize = 1 + 4;
            const PRIORITY: usize = 1 + 10;
            const HEAD_OF_NAME: usize = 1 + 4;
            HEAD_OF_DATA + PRIORITY + HEAD_OF_NAME + name + links * dag_pb::LINK_FIELD_LEN
        }
    }
}

/// An upper bound of the bytes that a put adds to a block.
pub fn put_len(format: Format, key: &Key, value_len: usize) -> usize {
    match format {
        Format::DagCbor => cbor::string_len(key.as_bytes().len()) + cbor::string_len(value_len),
        Format::DagPb => proto_delta::put_len(key, value_len),
    }
}

/// An upper bound of the bytes that the delete of a first version of a key adds to a block.
pub fn delete_len(format: Format, key: &Key) -> usize {
    match format {
        Format::DagCbor => {
            cbor::string_len(key.as_bytes().len()) + MAX_CBOR_HEAD + dag_cbor::ID_LEN
        }
        Format::DagPb => proto_delta::tombstone_len(key),
    }
}

/// An upper bound of the bytes that the delete of another version of the same key adds.
pub fn another_id_len(format: Format, key: &Key) -> usize {
    match format {
        Format::DagCbor => dag_cbor::ID_LEN,
        Format::DagPb => proto_delta::tombstone_len(key),
    }
}

/// An upper bound of the bytes of a DAG-CBOR block that is not signed.
pub(super) fn dag_cbor_len(links: usize, delta: &Delta) -> usize {
    let format = Format::DagCbor;
    let puts: usize = delta
        .puts
        .iter()
        .map(|put| put_len(format, &put.key, put.value.len()))
        .sum();
    let deletes: usize = delta
        .deletes
        .iter()
        .map(|d| delete_len(format, &d.key) + d.ids.len() * another_id_len(format, &d.key))
        .sum();
    base_len(format, links, &delta.dag_name) + puts + deletes
}
