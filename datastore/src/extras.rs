use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Batch, Key, Result};

/// What a store can do beyond [`Datastore`](crate::Datastore): each a trait object, `None` where it
/// cannot. Wrappers pass them on, with keys translated where they translate keys.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Transactions.
    pub transactions: Option<&'a dyn Transactions>,
    /// Values that expire.
    pub ttl: Option<&'a dyn Ttl>,
    /// Disk usage.
    pub disk_usage: Option<&'a dyn DiskUsage>,
    /// Garbage collection.
    pub garbage_collection: Option<&'a dyn GarbageCollection>,
    /// Integrity check.
    pub check: Option<&'a dyn Check>,
    /// Which instance of its data this is.
    pub instance: Option<&'a dyn Instance>,
}

/// Starts transactions.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// A transaction over a snapshot of now.
    async fn begin(&self) -> Result<Box<dyn Transaction>>;
}

/// Reads one snapshot, and commits only if what it read did not change since. Dropping it discards it.
#[async_trait]
pub trait Transaction: Send {
    /// The value of `key`: what this transaction wrote, else what the snapshot holds.
    async fn get(&mut self, key: &Key) -> Result<Option<Bytes>>;

    /// Adds a put.
    fn put(&mut self, key: Key, value: Bytes);

    /// Adds a delete.
    fn delete(&mut self, key: Key);

    /// Commits, all or nothing.
    ///
    /// # Errors
    /// [`Conflict`](crate::Error::Conflict) if a key that it read has changed since it began.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Values that expire.
#[async_trait]
pub trait Ttl: Send + Sync {
    /// Commits `batch`; its puts expire after `ttl`.
    async fn commit_with_ttl(&self, batch: Batch, ttl: Duration) -> Result<()>;

    /// How long `key` still lives: `None` if it is not there or never expires.
    async fn ttl(&self, key: &Key) -> Result<Option<Duration>>;
}

/// Disk usage.
#[async_trait]
pub trait DiskUsage: Send + Sync {
    /// Bytes used on the device by all data of the store, an estimate.
    async fn disk_usage(&self) -> Result<u64>;
}

/// Garbage collection.
#[async_trait]
pub trait GarbageCollection: Send + Sync {
    /// Gives back what deleted and overwritten values still occupy; may take long.
    async fn collect_garbage(&self) -> Result<()>;
}

/// Integrity check.
#[async_trait]
pub trait Check: Send + Sync {
    /// Reads everything and verifies what the backend can verify.
    ///
    /// # Errors
    /// [`Damaged`](crate::Error::Damaged) names the first damage found.
    async fn check(&self) -> Result<()>;
}

/// Tells whether data lies where it was left, or is a copy, or was put back from a backup.
///
/// A *mark* is a thing beside the data that a copy of the data does not carry along unchanged: for a
/// directory a file with a random name, known by device, inode and birth time.
#[async_trait]
pub trait Instance: Send + Sync {
    /// The same for all handles on one open store in this process, different for any two stores
    /// open at once: a backend draws one with [`new_handle_id`] when it opens.
    fn handle_id(&self) -> u64;

    /// Makes a new mark, durably, and returns what identifies it; `None` where the platform has
    /// nothing to tell a copy by.
    async fn set_mark(&self) -> Result<Option<Bytes>>;

    /// Whether exactly the mark that `identity` identifies is here.
    async fn has_mark(&self, identity: &[u8]) -> Result<bool>;

    /// Removes that mark, durably. One that is not here is no error.
    async fn clear_mark(&self, identity: &[u8]) -> Result<()>;
}

/// A handle id that no other store in this process has drawn; see [`Instance::handle_id`].
pub fn new_handle_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
