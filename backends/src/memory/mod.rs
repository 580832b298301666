//! A store in memory.

mod entries;
mod extras;
mod transaction;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{
    Batch, Datastore, Error, Extras, Key, Query, QueryStream, Result, new_handle_id,
};

use self::entries::{Entries, Snapshot};

/// A store in memory: an ordered map whose snapshots cost nothing.
///
/// A clone is another handle on the same store, which lives until the last handle, transaction and
/// query stream of it is dropped. [`sync`](Datastore::sync) has nothing to do, and no value or key is
/// too large.
///
/// Values of up to 16 KiB are copied when they are put, lest a small one keep a large buffer alive.
///
/// Extras: transactions (optimistic), TTL, instance. What has expired is not seen again, and leaves
/// memory at the next commit.
///
/// ```
/// use datastore_backends::MemoryDatastore;
/// use datastore_core::{Datastore, DatastoreExt, Key};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> datastore_core::Result<()> {
/// let store = MemoryDatastore::new();
/// store.put(&Key::new("/greeting"), "hello".into()).await?;
/// assert_eq!(store.get(&Key::new("/greeting")).await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryDatastore {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once closed.
    entries: RwLock<Option<Entries>>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    handle_id: u64,
    marks: Mutex<Vec<Bytes>>,
}

impl MemoryDatastore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_clock(Instant::now)
    }

    /// An empty store whose TTLs go by `clock`, which must not run backwards.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                entries: RwLock::new(Some(Entries::default())),
                clock: Box::new(clock),
                handle_id: new_handle_id(),
                marks: Mutex::default(),
            }),
        }
    }

    fn snapshot(&self) -> Result<Snapshot> {
        self.read(|entries| entries.snapshot((self.shared.clock)()))
    }

    fn read<T>(&self, read: impl FnOnce(&Entries) -> T) -> Result<T> {
        let entries = self.shared.entries.read();
        let entries = entries.unwrap_or_else(PoisonError::into_inner);
        entries.as_ref().map(read).ok_or(Error::Closed)
    }

    /// Commits are serialised by the lock, and seen by no reader until it is released.
    fn write<T>(&self, write: impl FnOnce(&mut Entries, Instant) -> Result<T>) -> Result<T> {
        let entries = self.shared.entries.write();
        let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
        write(
            entries.as_mut().ok_or(Error::Closed)?,
            (self.shared.clock)(),
        )
    }
}

impl Default for MemoryDatastore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryDatastore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handle_id = self.shared.handle_id;
        f.debug_struct("MemoryDatastore")
            .field("handle_id", &handle_id)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        let now = (self.shared.clock)();
        self.read(|entries| entries.get(key, now).cloned())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let snapshot = self.snapshot()?;
        Ok(keys.iter().map(|key| snapshot.get(key).cloned()).collect())
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        let now = (self.shared.clock)();
        self.read(|entries| entries.get(key, now).is_some())
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        let now = (self.shared.clock)();
        self.read(|entries| entries.get(key, now).map(|value| value.len() as u64))
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        self.write(|entries, now| {
            entries.commit(batch, None, now);
            Ok(())
        })
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        let snapshot = self.snapshot()?;
        let scan = snapshot.scan(query.interval(), query.descending());
        Ok(query.apply(scan))
    }

    async fn sync(&self, _prefix: &Key) -> Result<()> {
        self.read(|_| ())
    }

    async fn close(&self) -> Result<()> {
        let entries = self.shared.entries.write();
        entries.unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    fn extras(&self) -> Extras<'_> {
        Extras {
            transactions: Some(self),
            ttl: Some(self),
            instance: Some(self),
            ..Extras::default()
        }
    }
}
