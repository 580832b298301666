use std::sync::Arc;
use std::time::Duration;

use cid::Cid;

use crate::block::{BlockError, Format};

/// What most functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a replica did not do what it was asked. Unless it is [`OutcomeUnknown`](Error::OutcomeUnknown),
/// nothing of a failed write took effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The datastore underneath failed.
    #[error("the datastore underneath failed")]
    Datastore(#[from] datastore_core::Error),

    /// The replica was closed.
    #[error("the replica is closed: open it again to use it")]
    Closed,

    /// A commit may or may not have taken effect, so the replica takes no more writes.
    #[error(
        "it is not known whether an earlier commit took effect: close the replica and open it again"
    )]
    OutcomeUnknown,

    /// The puts of one batch do not fit into one block.
    #[error(
        "a batch of about {size} bytes is above the limit of {limit} a delta: split it, or raise `max_delta_bytes`"
    )]
    DeltaTooLarge {
        /// Bytes the delta would have, an upper estimate.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },

    /// The key is longer than [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
    #[error("a key of {size} bytes is above the limit of {limit}")]
    KeyTooLong {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },

    /// A DAG name or network id is longer than its format takes.
    #[error("the {what} has {size} bytes, more than the limit of {limit}")]
    NameTooLong {
        /// Which name.
        what: &'static str,
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },

    /// An id is empty, and so would not be a part of a key.
    #[error("the {what} is empty: give it a name")]
    EmptyName {
        /// Which id.
        what: &'static str,
    },

    /// Somebody in this process writes the counters of this node there already.
    #[error("the counters of node {node} under {root} are open already: close them first")]
    NodeOpen {
        /// The node.
        node: String,
        /// Where its counters lie.
        root: datastore_core::Key,
    },

    /// The update exceeds the rate that was allowed.
    #[error("too many updates: try again in {retry_after:?}")]
    RateLimited {
        /// When there will be room for it.
        retry_after: Duration,
    },

    /// The validation hook refused the update.
    #[error("the update was refused: {reason}")]
    Refused {
        /// What the hook said.
        reason: String,
    },

    /// The store was made with another format, which it keeps for life.
    #[error(
        "this store was made with format {stored}, not {given}: open it with {stored}, or use another namespace"
    )]
    OtherFormat {
        /// The store's format.
        stored: Format,
        /// The format asked for.
        given: Format,
    },

    /// The store belongs to another network, which it does for life.
    #[error(
        "this store belongs to the network {stored:?}, not {given:?}: open it with that one, or use another namespace"
    )]
    OtherNetwork {
        /// The store's network.
        stored: String,
        /// The network asked for.
        given: String,
    },

    /// The layout on disk is of another version of the program.
    #[error(
        "the store has layout version {version}, this program knows {known} alone: open it with the \
         program that wrote it"
    )]
    UnknownLayout {
        /// The store's version.
        version: u32,
        /// The version that this program knows.
        known: u32,
    },

    /// This namespace of this store is open already.
    #[error(
        "the namespace {namespace} of this store is open already: close that replica first, or choose another namespace"
    )]
    AlreadyOpen {
        /// The namespace.
        namespace: datastore_core::Key,
    },

    /// A row of the store is damaged.
    #[error(
        "{what} is damaged: restore the store from a backup, or start from an empty one and sync"
    )]
    Damaged {
        /// Which row.
        what: Arc<str>,
    },

    /// The CID names no block that this store can have.
    #[error(transparent)]
    Block(#[from] BlockError),

    /// The block is not here.
    #[error("{cid} is not stored here")]
    NoSuchBlock {
        /// The block.
        cid: Cid,
    },

    /// The merge log does not have this place: it is of another store, or of a later state of this
    /// one that was lost.
    #[error("the merge log does not confirm a cursor at {sequence}: begin anew")]
    UnknownCursor {
        /// The cursor's sequence number.
        sequence: u64,
    },

    /// An option has a value that it cannot have.
    #[error("the option {option} cannot be {value}: {reason}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
    },

    /// A wait for sync ended before the replicas were in sync.
    #[error("not in sync after {waited:?}: {status}")]
    NotInSync {
        /// How long it waited.
        waited: Duration,
        /// What was missing then.
        status: String,
    },
}

impl Error {
    pub(crate) fn damaged(what: impl Into<Arc<str>>) -> Self {
        Self::Damaged { what: what.into() }
    }
}

impl From<Error> for datastore_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Datastore(error) => error,
            Error::Closed => Self::Closed,
            Error::KeyTooLong { size, limit } => Self::TooLarge {
                what: "key",
                size: size as u64,
                limit: limit as u64,
            },
            Error::DeltaTooLarge { size, limit } => Self::TooLarge {
                what: "batch",
                size: size as u64,
                limit: limit as u64,
            },
            Error::OutcomeUnknown => Self::OutcomeUnknown {
                context: "an earlier commit".to_owned(),
                source: Arc::new(error),
            },
            error => Self::backend("the replica's operation", error),
        }
    }
}
