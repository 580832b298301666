use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use multihash::Multihash;
use sha2::{Digest, Sha256};

use super::MAX_BLOCK_BYTES;

/// Multihash code of SHA-256.
pub(crate) const SHA2_256: u64 = 0x12;

/// How blocks are written. A store writes one format for life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Format {
    /// DAG-CBOR (codec 0x71), ours: priorities are a hybrid clock, equal writes are two versions.
    #[default]
    DagCbor,
    /// DAG-PB (codec 0x70), go-ds-crdt's, byte for byte: priorities are heights.
    DagPb,
}

impl Format {
    /// The multicodec of the format.
    pub fn codec(self) -> u64 {
        match self {
            Self::DagCbor => 0x71,
            Self::DagPb => 0x70,
        }
    }

    /// The format with this multicodec.
    pub fn from_codec(codec: u64) -> Option<Self> {
        match codec {
            0x71 => Some(Self::DagCbor),
            0x70 => Some(Self::DagPb),
            _ => None,
        }
    }

    /// Its name in options, topics and messages: `dag-cbor` or `dag-pb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DagCbor => "dag-cbor",
            Self::DagPb => "dag-pb",
        }
    }

    /// The format of the block that `cid` names.
    ///
    /// # Errors
    /// [`BlockError::ForeignCid`] unless it is a CIDv1 of one of the two codecs with a SHA-256
    /// multihash of 32 bytes.
    pub fn of(cid: &Cid) -> Result<Self, BlockError> {
        let format = Self::from_codec(cid.codec());
        match format {
            Some(format)
                if cid.version() == cid::Version::V1
                    && cid.hash().code() == SHA2_256
                    && cid.hash().size() == 32 =>
            {
                Ok(format)
            }
            _ => Err(BlockError::ForeignCid { cid: *cid }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The id of a version of a key: the SHA-256 multihash of the block that added it, without the
/// multihash's two leading bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub [u8; 32]);

impl VersionId {
    /// The id of the versions that the block named `cid` adds; `None` if no block of ours can have
    /// that name.
    pub fn of(cid: &Cid) -> Option<Self> {
        Format::of(cid).ok()?;
        cid.hash().digest().try_into().ok().map(Self)
    }

    /// The CID of the block of this format with this multihash.
    pub fn cid(self, format: Format) -> Cid {
        // A SHA-256 digest always fits a 64-byte multihash; the default is never taken.
        Cid::new_v1(
            format.codec(),
            Multihash::wrap(SHA2_256, &self.0).unwrap_or_default(),
        )
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// A random id that a replica draws at every open, so that (writer, sequence) never names two blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(pub [u8; 16]);

impl fmt::Debug for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// The name of a DAG; empty for the unnamed one. Each name has its own heads and heights; keys are
/// shared by all.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DagName(Arc<str>);

impl DagName {
    /// The most bytes a DAG-CBOR block's name may have. (DAG-PB's is bounded by the block.)
    pub const MAX_BYTES: usize = 256;

    /// A name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DagName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of a block with the CID that they hash to.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    bytes: Bytes,
}

impl Block {
    /// The block of these bytes.
    ///
    /// # Errors
    /// [`BlockError::TooLarge`] above [`MAX_BLOCK_BYTES`].
    pub fn new(format: Format, bytes: Bytes) -> Result<Self, BlockError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge {
                size: bytes.len(),
                limit: MAX_BLOCK_BYTES,
            });
        }
        let id = VersionId(Sha256::digest(&bytes).into());
        Ok(Self {
            cid: id.cid(format),
            bytes,
        })
    }

    /// Checks that `bytes` are what `cid` names.
    ///
    /// # Errors
    /// [`BlockError::ForeignCid`], [`BlockError::TooLarge`], or [`BlockError::WrongHash`].
    pub fn verify(cid: &Cid, bytes: Bytes) -> Result<Self, BlockError> {
        let block = Self::new(Format::of(cid)?, bytes)?;
        if block.cid != *cid {
            return Err(BlockError::WrongHash { cid: *cid });
        }
        Ok(block)
    }

    /// The error that this block is malformed.
    pub(super) fn malformed(&self, reason: &'static str) -> BlockError {
        BlockError::Malformed {
            cid: self.cid,
            reason,
        }
    }

    /// A block from where only checked blocks are kept: `bytes` are not hashed again.
    pub(crate) fn trusted(cid: Cid, bytes: Bytes) -> Self {
        Self { cid, bytes }
    }

    /// Its name.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.bytes.len())
    }
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Not a name that a block of ours can have.
    #[error("{cid} names no block of ours: only CIDv1, dag-cbor or dag-pb, SHA-256 of 32 bytes")]
    ForeignCid {
        /// The CID.
        cid: Cid,
    },
    /// The bytes hash to another CID.
    #[error("the bytes received for {cid} hash to another CID: ask another peer")]
    WrongHash {
        /// The CID that was asked for.
        cid: Cid,
    },
    /// Above [`MAX_BLOCK_BYTES`].
    #[error("a block of {size} bytes is above the format's limit of {limit}")]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// What was to be written has no place in the format.
    #[error("no block can be written: {reason}")]
    Unwritable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bytes are no block of this format. Such a block is never stored nor merged.
    #[error("{cid} is malformed: {reason}")]
    Malformed {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The block was made for another network. Never merged here.
    #[error("{cid} belongs to the network {network:?}, not to this one: check the topics of both")]
    OtherNetwork {
        /// The block.
        cid: Cid,
        /// The network that it names.
        network: Box<str>,
    },
    /// The block's version is newer than this program's. It waits, stored, for an upgrade.
    #[error("{cid} has block version {version}, unknown to this program: upgrade it")]
    UnknownVersion {
        /// The block.
        cid: Cid,
        /// Its version.
        version: u64,
    },
}

impl BlockError {
    pub(super) fn unwritable(reason: &'static str) -> Self {
        Self::Unwritable { reason }
    }
}
