use std::path::PathBuf;

use datastore_core::Result;

use super::FjallDatastore;

/// What a commit that returned survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A killed process; a power loss only after [`sync`](datastore_core::Datastore::sync). The
    /// default: a commit is a write to the page cache.
    #[default]
    Buffer,
    /// A power loss as well: a commit returns after an fsync, which commits that run at the same
    /// time share.
    Sync,
}

/// How to open a [`FjallDatastore`]; from [`FjallDatastore::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct FjallBuilder {
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) cache_bytes: u64,
    pub(super) memtable_bytes: u64,
    pub(super) journal_bytes: u64,
}

impl FjallBuilder {
    /// The least that [`journal_bytes`](Self::journal_bytes) may be: one journal.
    pub const MIN_JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            durability: Durability::default(),
            cache_bytes: 32 * 1024 * 1024,
            memtable_bytes: 64 * 1024 * 1024,
            journal_bytes: 512 * 1024 * 1024,
        }
    }

    /// What a commit survives. By default a killed process.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Memory for blocks read from disk, in bytes. 32 MiB by default; a fifth of the memory of a
    /// machine that does little else is a good choice.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How many bytes are collected in memory before they go into a sorted file. 64 MiB by default;
    /// up to five times as much is in use when the disk falls behind. Less saves memory and makes
    /// opening faster, at the price of more background work. Set when a store is created: later
    /// ones are ignored.
    pub fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.memtable_bytes = bytes;
        self
    }

    /// How large the journals may grow together, in bytes, before their data is moved into sorted
    /// files: a bound on the disk they take and on the work of opening after a crash. 512 MiB by
    /// default; what is below [`MIN_JOURNAL_BYTES`](Self::MIN_JOURNAL_BYTES) counts as that.
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes.max(Self::MIN_JOURNAL_BYTES);
        self
    }

    /// Opens the store, or creates it if the directory is empty or not there.
    ///
    /// # Errors
    /// As [`FjallDatastore::open`].
    pub async fn open(self) -> Result<FjallDatastore> {
        FjallDatastore::open_with(self).await
    }
}
