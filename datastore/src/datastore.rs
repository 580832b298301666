use async_trait::async_trait;
use bytes::Bytes;

use crate::{Batch, Extras, Key, Query, QueryStream, Result};

/// A key-value store.
///
/// Object-safe, without default bodies, so that no wrapper can forget a method. Sugar such as `put`
/// and `delete` lives in [`DatastoreExt`](crate::DatastoreExt).
///
/// # Contract
///
/// - **Atomic.** [`commit`](Self::commit) takes effect as a whole or not at all, for readers and
///   after a crash. Dropping its future leaves all or nothing too, perhaps a moment later; who must
///   know runs it in a task of its own.
/// - **Errors.** An error means that nothing took effect, unless it is
///   [`OutcomeUnknown`](crate::Error::OutcomeUnknown).
/// - **Consistent.** [`query`](Self::query) and [`get_many`](Self::get_many) each read one snapshot:
///   every commit is in it wholly or not at all.
/// - **Durable.** What returned survives a killed process; what returned before a
///   [`sync`](Self::sync) that succeeded survives a power loss.
/// - **Closed.** After [`close`](Self::close) every call but `close` fails with
///   [`Closed`](crate::Error::Closed).
///
/// The test-kit (feature `testkit`) checks all of this.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// The value of `key`, or `None` if it is not there. An empty value is a value.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>>;

    /// The values of `keys`, in their order, all from one snapshot.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>>;

    /// Whether `key` is there. Its being a prefix of another key does not count.
    async fn has(&self, key: &Key) -> Result<bool>;

    /// The size of the value of `key` in bytes, or `None` if it is not there.
    async fn get_size(&self, key: &Key) -> Result<Option<u64>>;

    /// Commits a batch, all or nothing. An empty one does nothing. Of several operations on one key
    /// the last wins.
    async fn commit(&self, batch: Batch) -> Result<()>;

    /// The entries that `query` selects, from one snapshot, in its order. The stream holds what it
    /// needs: the store may be dropped or written while it is read.
    async fn query(&self, query: Query) -> Result<QueryStream>;

    /// Makes what was committed at and under `prefix` durable; other keys may become durable with it.
    async fn sync(&self, prefix: &Key) -> Result<()>;

    /// Closes the store. Closing twice is no error.
    async fn close(&self) -> Result<()>;

    /// What the store can do beyond this trait.
    fn extras(&self) -> Extras<'_>;
}
