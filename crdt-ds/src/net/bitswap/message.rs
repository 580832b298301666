//! The bitswap message: what goes in one frame.
//!
//! The encoding is protobuf (`message.proto` of the bitswap spec). Decoding walks the bytes of a frame
//! and allocates nothing, so that a small message which stands for a large structure (a want-list of
//! a million empty entries) costs its sender more than us.

use bytes::Bytes;
use cid::Cid;
use libp2p::swarm::StreamProtocol;

use super::wire::{Wire, WireError, put_bytes, put_varint, put_varint_field, varint_len};
use crate::block::{Block, Format};

/// Which revision of bitswap a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `/ipfs/bitswap/1.0.0` and `/ipfs/bitswap`: bare blocks, which stand for CIDv0.
    V1_0,
    /// `/ipfs/bitswap/1.1.0`: blocks with the prefix of their CID.
    V1_1,
    /// `/ipfs/bitswap/1.2.0`: HAVE and DONT_HAVE too.
    V1_2,
}

/// The protocols, the one that we like best first.
pub(super) const PROTOCOLS: [(StreamProtocol, Version); 4] = [
    (StreamProtocol::new("/ipfs/bitswap/1.2.0"), Version::V1_2),
    (StreamProtocol::new("/ipfs/bitswap/1.1.0"), Version::V1_1),
    (StreamProtocol::new("/ipfs/bitswap/1.0.0"), Version::V1_0),
    (StreamProtocol::new("/ipfs/bitswap"), Version::V1_0),
];

/// What a peer wants to know of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum WantKind {
    /// Whether we have it.
    Have,
    /// The block.
    Block,
}

/// An entry of a want-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantEntry {
    pub(super) cid: Cid,
    pub(super) kind: WantKind,
    pub(super) cancel: bool,
    pub(super) send_dont_have: bool,
}

/// Whether a peer has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Have,
    DontHave,
}

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Whether `wants` is the whole want-list, not a change of it.
    pub(super) full: bool,
    pub(super) wants: Vec<WantEntry>,
    pub(super) blocks: Vec<Block>,
    pub(super) presences: Vec<(Cid, Presence)>,
}

/// The priority of each want: the order of the entries says more.
const PRIORITY: u64 = 1;

/// Bytes around a block in a message: three keys, three lengths and the prefix of its CID, at most.
pub(super) const BLOCK_OVERHEAD: usize = 24;

/// Bytes of a presence or a want in a message, at most: a CID of 36 bytes and its framing.
pub(super) const ENTRY_BYTES: usize = 56;

impl Message {
    pub(super) fn is_empty(&self) -> bool {
        !self.full && self.wants.is_empty() && self.blocks.is_empty() && self.presences.is_empty()
    }

    /// The frame for a stream of `version`: a length and the message. What the version cannot say
    /// is left out: HAVE, DONT_HAVE and the question for them before 1.2.0.
    pub(super) fn encode(&self, version: Version) -> Vec<u8> {
        let blocks: usize = self
            .blocks
            .iter()
            .map(|b| b.bytes().len() + BLOCK_OVERHEAD)
            .sum();
        let entries = (self.wants.len() + self.presences.len()) * ENTRY_BYTES;
        let mut body = Vec::with_capacity(blocks + entries + 16);
        self.put_wantlist(version, &mut body);
        for block in &self.blocks {
            put_block(block, version, &mut body);
        }
        if version == Version::V1_2 {
            for (cid, presence) in &self.presences {
                let mut entry = Vec::with_capacity(ENTRY_BYTES);
                put_bytes(1, &cid.to_bytes(), &mut entry);
                put_varint_field(2, u64::from(*presence == Presence::DontHave), &mut entry);
                put_bytes(4, &entry, &mut body);
            }
        }
        let mut frame = Vec::with_capacity(body.len() + 10);
        put_varint(body.len() as u64, &mut frame);
        frame.append(&mut body);
        frame
    }

    fn put_wantlist(&self, version: Version, out: &mut Vec<u8>) {
        let mut list = Vec::new();
        for want in &self.wants {
            if version != Version::V1_2 && want.kind == WantKind::Have && !want.cancel {
                continue;
            }
            let mut entry = Vec::with_capacity(ENTRY_BYTES);
            put_bytes(1, &want.cid.to_bytes(), &mut entry);
            put_varint_field(2, PRIORITY, &mut entry);
            put_varint_field(3, u64::from(want.cancel), &mut entry);
            put_varint_field(4, u64::from(want.kind == WantKind::Have), &mut entry);
            if version == Version::V1_2 {
                put_varint_field(5, u64::from(want.send_dont_have), &mut entry);
            }
            put_bytes(1, &entry, &mut list);
        }
        put_varint_field(2, u64::from(self.full), &mut list);
        if !list.is_empty() {
            put_bytes(1, &list, out);
        }
    }
}

fn put_block(block: &Block, version: Version, out: &mut Vec<u8>) {
    if version == Version::V1_0 {
        put_bytes(2, block.bytes(), out);
        return;
    }
    // CIDv1, the codec, SHA-256, 32 bytes: each below 0x80, so a byte.
    let prefix = [1, block.cid().codec() as u8, 0x12, 32];
    let data = block.bytes();
    let prefix_field = 1 + varint_len(prefix.len() as u64) + prefix.len();
    let data_field = 1 + varint_len(data.len() as u64) + data.len();
    put_varint(u64::from(3u8 << 3 | 2), out);
    put_varint((prefix_field + data_field) as u64, out);
    put_bytes(1, &prefix, out);
    put_bytes(2, data, out);
}

/// A part of a message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Wantlist(Wantlist<'a>),
    /// A block that says in which format it is to be taken.
    Block(Format, &'a [u8]),
    Presence(Cid, Presence),
    /// Something that is none of ours: another codec or hash, or a field that we do not know.
    Foreign,
}

/// The parts of a message, in the order of its bytes; the first fault ends it.
pub(super) struct Parts<'a>(Wire<'a>);

impl<'a> Parts<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(Wire::new(message))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = match self.0.next()? {
            Ok(field) => field,
            Err(error) => return Some(Err(error)),
        };
        Some(match (field.number, field.bytes) {
            (1, Some(list)) => Ok(Part::Wantlist(Wantlist(list))),
            // A bare block stands for a CIDv0, which is DAG-PB with SHA-256.
            (2, Some(data)) => Ok(Part::Block(Format::DagPb, data)),
            (3, Some(payload)) => parse_payload(payload),
            (4, Some(presence)) => parse_presence(presence),
            _ => Ok(Part::Foreign),
        })
    }
}

fn parse_payload(payload: &[u8]) -> Result<Part<'_>, WireError> {
    let (mut prefix, mut data): (&[u8], &[u8]) = (&[], &[]);
    for field in Wire::new(payload) {
        let field = field?;
        match (field.number, field.bytes) {
            (1, Some(bytes)) => prefix = bytes,
            (2, Some(bytes)) => data = bytes,
            _ => {}
        }
    }
    Ok(match prefix {
        [1, 0x71, 0x12, 32] => Part::Block(Format::DagCbor, data),
        [1, 0x70, 0x12, 32] => Part::Block(Format::DagPb, data),
        // The prefix of a CIDv0.
        [0, 0x70, 0x12, 32] => Part::Block(Format::DagPb, data),
        _ => Part::Foreign,
    })
}

fn parse_presence(presence: &[u8]) -> Result<Part<'_>, WireError> {
    let (mut cid, mut kind): (&[u8], u64) = (&[], 0);
    for field in Wire::new(presence) {
        let field = field?;
        match (field.number, field.bytes) {
            (1, Some(bytes)) => cid = bytes,
            (2, None) => kind = field.varint,
            _ => {}
        }
    }
    Ok(match (Cid::try_from(cid), kind) {
        (Ok(cid), 0) => Part::Presence(cid, Presence::Have),
        (Ok(cid), 1) => Part::Presence(cid, Presence::DontHave),
        _ => Part::Foreign,
    })
}

/// The want-list of a message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wantlist<'a>(&'a [u8]);

impl<'a> Wantlist<'a> {
    /// Whether it is the whole want-list of its sender.
    pub(super) fn is_full(&self) -> Result<bool, WireError> {
        let mut full = false;
        for field in Wire::new(self.0) {
            let field = field?;
            if field.number == 2 && field.bytes.is_none() {
                full = field.varint != 0;
            }
        }
        Ok(full)
    }

    /// Its entries; those whose CID we cannot read are left out.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<WantEntry, WireError>> + use<'a> {
        Wire::new(self.0).filter_map(|field| match field {
            Ok(field) if field.number == 1 => parse_entry(field.bytes?).transpose(),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

fn parse_entry(entry: &[u8]) -> Result<Option<WantEntry>, WireError> {
    let mut cid: &[u8] = &[];
    let (mut cancel, mut kind, mut send_dont_have) = (false, WantKind::Block, false);
    for field in Wire::new(entry) {
        let field = field?;
        match (field.number, field.bytes) {
            (1, Some(bytes)) => cid = bytes,
            (3, None) => cancel = field.varint != 0,
            (4, None) if field.varint == 1 => kind = WantKind::Have,
            (5, None) => send_dont_have = field.varint != 0,
            _ => {}
        }
    }
    let Ok(cid) = Cid::try_from(cid) else {
        return Ok(None);
    };
    Ok(Some(WantEntry {
        cid,
        kind,
        cancel,
        send_dont_have,
    }))
}

/// The block of a part, hashed. `None` if it is above what a block may have.
pub(super) fn hash(format: Format, data: &[u8]) -> Option<Block> {
    // A copy, so that a small block does not keep its message in memory.
    Block::new(format, Bytes::copy_from_slice(data)).ok()
}

#[cfg(test)]
mod tests;
