//! Blocks: immutable, content-addressed pieces of history, and the two formats in which they are
//! written.
//!
//! A [`Block`] is bytes whose hash has been checked. [`decode`] says what it means: a [`Node`], that
//! is the links to the heads it builds on and a [`Delta`]. Whether a block is well-formed depends on
//! its own bytes alone, never on other blocks.

mod cbor;
pub mod dag_cbor;
pub mod dag_pb;
mod delta;
mod id;
pub(crate) mod multiformats;
mod proto_delta;
pub(crate) mod protobuf;
mod size;

use std::ops::Range;

use bytes::Bytes;

pub use self::delta::{Deletes, Delta, Node, Origin, Put, Signature};
pub use self::id::{Block, BlockError, DagName, Format, VersionId, WriterId};
pub use self::size::{another_id_len, base_len, delete_len, put_len};

/// The most bytes that a block may have, in either format. A constant of the formats: replicas with
/// different limits would merge different blocks and so differ.
pub const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// The highest priority that a block of ours has: 2^62 - 1. Both formats saturate there.
pub const MAX_PRIORITY: u64 = (1 << 62) - 1;

/// What a block says, if it was made for `network` (DAG-PB names none). Keys and values are slices of
/// the block's bytes.
///
/// # Errors
/// [`BlockError::Malformed`]; in DAG-CBOR [`BlockError::UnknownVersion`] and
/// [`BlockError::OtherNetwork`] too.
///
/// ```
/// use crdt_ds::block::{self, DagName, Delta, Put, dag_pb};
/// use datastore_core::Key;
///
/// let put = Put { key: Key::new("/hello"), value: "world".into() };
/// let delta = Delta { priority: 1, puts: vec![put], ..Delta::default() };
/// let block = dag_pb::encode(&[], &delta)?;
/// assert_eq!(
///     block.cid().to_string(),
///     "bafybeidsfjpejlb67ieikrewsjvlxd3giucznszgdcb6qhclkyk2hvonta",
/// );
/// assert_eq!(block::decode(&block, "")?.delta, delta);
/// # Ok::<(), crdt_ds::block::BlockError>(())
/// ```
pub fn decode(block: &Block, network: &str) -> Result<Node, BlockError> {
    match Format::of(block.cid())? {
        Format::DagCbor => dag_cbor::decode(block, network),
        Format::DagPb => dag_pb::decode(block),
    }
}

/// Where in its block's bytes a decoded value lies. The range is as long as the value if the value is
/// a slice of those bytes, and empty if it is not.
///
/// ```
/// use bytes::Bytes;
/// use crdt_ds::block;
///
/// let bytes = Bytes::from_static(b"some block");
/// assert_eq!(block::value_range(&bytes, &bytes.slice(5..)), 5..10);
/// assert_eq!(block::value_range(&bytes, &bytes.slice(5..5)), 0..0);
/// assert_eq!(block::value_range(&bytes, &Bytes::from(vec![1])), 0..0);
/// ```
pub fn value_range(block_bytes: &Bytes, value: &Bytes) -> Range<usize> {
    let offset = (value.as_ptr() as usize).checked_sub(block_bytes.as_ptr() as usize);
    match offset {
        Some(offset)
            if !value.is_empty() && value.len() <= block_bytes.len().saturating_sub(offset) =>
        {
            offset..offset + value.len()
        }
        _ => 0..0,
    }
}
