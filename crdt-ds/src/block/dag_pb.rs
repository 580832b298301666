//! DAG-PB, go-ds-crdt's format: a [dag-pb](https://ipld.io/specs/codecs/dag-pb/spec/) node whose
//! links are the heads that the block builds on and whose data is a protobuf [`Delta`].
//!
//! Decoding refuses what go-codec-dagpb refuses, and nothing else: the rest Go merges, so all merge it.

use std::collections::HashSet;

use bytes::Bytes;
use cid::Cid;

use super::multiformats::{CID_LEN, CidBytes, block_cid, cid_bytes, cid_prefix};
use super::protobuf::{self, Fields, Value};
use super::{Block, BlockError, Delta, Format, Node, proto_delta};

// Fields of a node.
const DATA: u8 = 1;
const LINKS: u8 = 2;
// Fields of a link.
const HASH: u8 = 1;
const NAME: u8 = 2;
const TSIZE: u8 = 3;

/// Bytes of a link of ours within its field: hash, empty name, size zero.
const LINK_LEN: usize = 2 + CID_LEN + 2 + 2;

/// Bytes that a link adds to a block.
pub(super) const LINK_FIELD_LEN: usize = 2 + LINK_LEN;

/// The block of these links, in ascending order of their bytes, and this delta, in its own order of
/// keys: the bytes that go-ds-crdt makes. The tombstones of one key go by the text of their ids.
///
/// # Errors
/// [`BlockError::Unwritable`] for a link that is no DAG-PB block or a priority above
/// [`MAX_PRIORITY`](super::MAX_PRIORITY); [`BlockError::TooLarge`].
pub fn encode(links: &[Cid], delta: &Delta) -> Result<Block, BlockError> {
    if delta.priority > super::MAX_PRIORITY {
        return Err(BlockError::unwritable("its priority is above the highest"));
    }
    let links = sorted_links(links)?;
    let delta_len = proto_delta::encoded_len(delta);
    let data_len = protobuf::bytes_field_len(delta_len);
    let mut out = Vec::with_capacity(links.len() * LINK_FIELD_LEN + data_len);
    for link in &links {
        protobuf::write_bytes_head(&mut out, LINKS, LINK_LEN);
        protobuf::write_bytes_field(&mut out, HASH, link);
        protobuf::write_bytes_field(&mut out, NAME, &[]);
        protobuf::write_number_field(&mut out, TSIZE, 0);
    }
    protobuf::write_bytes_head(&mut out, DATA, delta_len);
    proto_delta::write(&mut out, delta);
    Block::new(Format::DagPb, out.into())
}

fn sorted_links(links: &[Cid]) -> Result<Vec<CidBytes>, BlockError> {
    let mut sorted = Vec::with_capacity(links.len());
    for link in links {
        if Format::of(link)? != Format::DagPb {
            return Err(BlockError::unwritable(
                "go-ds-crdt cannot read past a link to DAG-CBOR",
            ));
        }
        sorted.push(cid_bytes(link)?);
    }
    sorted.sort_unstable();
    sorted.dedup();
    Ok(sorted)
}

/// What a DAG-PB block says. Data that is no delta says nothing, with priority 0 and no DAG name.
///
/// # Errors
/// [`BlockError::Malformed`] if the bytes are no dag-pb node.
pub fn decode(block: &Block) -> Result<Node, BlockError> {
    let node = RawNode::parse(block.bytes()).map_err(|reason| block.malformed(reason))?;
    let mut links = Vec::new();
    let mut foreign_links = Vec::new();
    let mut seen = HashSet::new();
    for hash in node.hashes {
        if !seen.insert(hash) {
            continue;
        }
        match block_cid(hash) {
            Some(cid) if cid.codec() == Format::DagPb.codec() => links.push(cid),
            _ => foreign_links.push(block.bytes().slice_ref(hash)),
        }
    }
    let data = block.bytes().slice_ref(node.data.unwrap_or_default());
    let delta = proto_delta::read(&data).unwrap_or_default();
    Ok(Node {
        links,
        foreign_links,
        delta,
        origin: None,
        signature: None,
    })
}

/// A node as it lies in the bytes.
struct RawNode<'a> {
    /// The CIDs of its links.
    hashes: Vec<&'a [u8]>,
    data: Option<&'a [u8]>,
}

impl<'a> RawNode<'a> {
    fn parse(bytes: &'a Bytes) -> Result<Self, &'static str> {
        let mut node = Self {
            hashes: Vec::new(),
            data: None,
        };
        let mut links_ended = false;
        for field in Fields::of(bytes) {
            let field = field?;
            let Value::Bytes(bytes) = field.value else {
                return Err("dag-pb: a field of the node is not bytes");
            };
            if field.number == u64::from(DATA) {
                if node.data.replace(bytes).is_some() {
                    return Err("dag-pb: data comes twice");
                }
                links_ended = !node.hashes.is_empty();
            } else if field.number == u64::from(LINKS) {
                if links_ended {
                    return Err("dag-pb: data stands between links");
                }
                node.hashes.push(link_hash(bytes)?);
            } else {
                return Err("dag-pb: a node has an unknown field");
            }
        }
        Ok(node)
    }
}

/// The CID of a link: its fields come in order, each at most once, and only the hash must be there.
fn link_hash(link: &[u8]) -> Result<&[u8], &'static str> {
    let mut hash = None;
    let mut last = 0;
    for field in Fields::of(link) {
        let field = field?;
        if field.number <= last {
            return Err("dag-pb: the fields of a link are out of order or come twice");
        }
        last = field.number;
        match (u8::try_from(field.number), field.value) {
            (Ok(HASH), Value::Bytes(bytes)) => {
                hash = Some(cid_prefix(bytes).ok_or("dag-pb: the hash of a link is no CID")?);
            }
            (Ok(NAME), Value::Bytes(_)) | (Ok(TSIZE), Value::Varint(_)) => {}
            _ => return Err("dag-pb: a link has an unknown field or one of another type"),
        }
    }
    hash.ok_or("dag-pb: a link has no hash")
}
