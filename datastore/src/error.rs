use std::path::PathBuf;
use std::sync::Arc;

use crate::Key;

/// What a [`Datastore`](crate::Datastore) returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error, shared so that one failed commit can be reported to every caller that
/// waited for it.
pub type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// Why a store did not do what it was asked.
///
/// Unless it is [`OutcomeUnknown`](Error::OutcomeUnknown), an error of a write means that nothing
/// of it took effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store was closed.
    #[error("the datastore is closed: open it again to use it")]
    Closed,

    /// The key or value exceeds what the store takes.
    #[error("{what} has {size} bytes, more than the limit of {limit}: store it in smaller parts")]
    TooLarge {
        /// What is too large: "value", "key", "batch".
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },

    /// The bytes are not a key: not UTF-8.
    #[error("the bytes of a key are not valid UTF-8 (first bad byte at {valid_up_to})")]
    InvalidKey {
        /// How many of the bytes are valid UTF-8.
        valid_up_to: usize,
    },

    /// The store, or a wrapper over it, cannot do this.
    #[error("{store} does not support {what}")]
    Unsupported {
        /// Who refused.
        store: &'static str,
        /// What was asked of it.
        what: &'static str,
    },

    /// A batch names keys of several mounts, which no commit could make atomic.
    #[error(
        "a batch writes under both {first} and {second}, which are different mounts: commit one batch a mount"
    )]
    AcrossMounts {
        /// The mount of the first operation.
        first: Key,
        /// Another mount.
        second: Key,
    },

    /// No mount holds the key.
    #[error("no datastore is mounted at or above {key}")]
    NotMounted {
        /// The key.
        key: Key,
    },

    /// Two datastores were to be mounted at one key.
    #[error("two datastores are mounted at {key}: mount each at a key of its own")]
    MountedTwice {
        /// The key.
        key: Key,
    },

    /// A transaction read what another commit has changed since.
    #[error("the transaction conflicts with a later commit at {key}: run it again")]
    Conflict {
        /// A key that changed.
        key: Key,
    },

    /// The device has no room. Nothing took effect; writing goes on when there is room again.
    #[error("no room left for {context}: free some space and try again")]
    StorageFull {
        /// What was being done.
        context: String,
        /// The cause.
        #[source]
        source: Source,
    },

    /// The write may or may not have taken effect, as when an fsync failed after the write. Open the
    /// store again and look.
    #[error("it is not known whether {context} took effect: open the datastore again and check")]
    OutcomeUnknown {
        /// What was being done.
        context: String,
        /// The cause.
        #[source]
        source: Source,
    },

    /// Another process, or another handle in this one, holds the directory.
    #[error("{path} is in use by another process or handle: close that one first")]
    Locked {
        /// The directory.
        path: PathBuf,
    },

    /// The directory holds something else than this backend's data. Nothing was changed.
    #[error("{path} is not a {expected} directory: choose an empty or a new one")]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What was expected there.
        expected: &'static str,
    },

    /// Stored data is damaged.
    #[error("{what} is damaged: restore it from a backup, or start from an empty store")]
    Damaged {
        /// What and where.
        what: String,
        /// The cause, if the backend named one.
        #[source]
        source: Option<Source>,
    },

    /// Any other failure of the backend.
    #[error("{context} failed")]
    Backend {
        /// What was being done, and where.
        context: String,
        /// The cause.
        #[source]
        source: Source,
    },
}

impl Error {
    /// A [`Backend`](Error::Backend) error of `source` while doing `context`.
    pub fn backend(
        context: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Backend {
            context: context.into(),
            source: Arc::new(source),
        }
    }
}
