use bytes::Bytes;
use cid::Cid;
use datastore_core::Key;

use super::{DagName, VersionId, WriterId};

/// A put of a delta: a new version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The key, cleaned.
    pub key: Key,
    /// Its value: in a decoded block a slice of the block's bytes.
    pub value: Bytes,
}

/// The versions of one key that a delta deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletes {
    /// The key, cleaned.
    pub key: Key,
    /// The versions that it had where the delete was made.
    pub ids: Vec<VersionId>,
}

/// What a block says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Orders versions: the higher wins.
    pub priority: u64,
    /// The DAG that the block belongs to.
    pub dag_name: DagName,
    /// New versions. A decoded block has one a key.
    pub puts: Vec<Put>,
    /// Versions that end. In a decoded block a key may come more than once.
    pub deletes: Vec<Deletes>,
}

/// Who made a DAG-CBOR block: what makes each block unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The network that the block was made for; empty by default.
    pub network: String,
    /// The writer.
    pub writer: WriterId,
    /// The writer's how-manieth block this is, from 1.
    pub sequence: u64,
}

/// What a block's bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The heads that it builds on: CIDs that a block of ours can have, without repetition.
    pub links: Vec<Cid>,
    /// Links that no block of ours can have (DAG-PB only; Go merges such a block, so do we): gaps for
    /// ever.
    pub foreign_links: Vec<Bytes>,
    /// What it says.
    pub delta: Delta,
    /// Who made it; `None` in DAG-PB, which does not say.
    pub origin: Option<Origin>,
    /// Who vouches for it; `None` in DAG-PB, and in a block that is not signed.
    pub signature: Option<Signature>,
}

/// Who vouches for a DAG-CBOR block. Not checked here: a signature that does not verify is a matter of
/// policy, and its block is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The author's public key in libp2p's protobuf encoding; not empty.
    pub author: Bytes,
    /// The signature over [`signed_bytes`](super::dag_cbor::signed_bytes); not empty.
    pub signature: Bytes,
}
