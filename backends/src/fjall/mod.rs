//! [`FjallDatastore`]: a directory on disk, an LSM tree.

mod blocking;
mod directory;
mod engine;
mod failure;
mod group_sync;
mod limits;
mod mark;
mod options;
mod scan;
mod store;
mod transaction;
mod upkeep;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Batch, Datastore, Extras, Key, Query, QueryStream, Result};
use fjall::PersistMode;

pub use self::options::{Durability, FjallBuilder};
use self::store::Store;

/// How many entries are read at a time. So many are read inline: 30 µs of work in a scan, up to 1 ms
/// in point reads that hit the page cache.
const READ_INLINE: usize = 256;

/// A [`Datastore`] in a directory, over the LSM tree of [fjall](https://docs.rs/fjall).
///
/// A clone is another handle on the same open store. When the last handle is gone, and the last query
/// and transaction, the store is closed and the directory free; [`close`](Datastore::close) does so
/// at once, and tells whether it went well. Both wait for work in the background to end.
///
/// ```
/// use datastore_backends::FjallDatastore;
/// use datastore_core::{Datastore, DatastoreExt, Key};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let store = FjallDatastore::open(&path).await?;
/// store.put(&Key::new("/greeting"), "hello".into()).await?;
/// store.sync(&Key::root()).await?;
/// store.close().await?;
///
/// let store = FjallDatastore::open(&path).await?;
/// assert_eq!(store.get(&Key::new("/greeting")).await?.as_deref(), Some(&b"hello"[..]));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Durability
///
/// | a commit returned, then | [`Durability::Buffer`] | [`Durability::Sync`] |
/// |---|---|---|
/// | the process is killed | there | there |
/// | the power fails | there if a later [`sync`](Datastore::sync) returned | there |
/// | the commit was under way instead | all of it or nothing | all of it or nothing |
/// | costs | a write to the page cache | an fsync, shared with commits that wait for one too |
///
/// Readers see a commit as soon as it is written, so with `Sync` perhaps before it is durable. If the
/// fsync fails, the commit fails with [`OutcomeUnknown`](datastore_core::Error::OutcomeUnknown).
///
/// # Limits
///
/// A key has at most 65,535 bytes, a value 1 GiB; more is
/// [`TooLarge`](datastore_core::Error::TooLarge). One process at a time, one store a directory; the
/// directory holds nothing else. A snapshot (a query under way, a transaction) keeps the disk from
/// giving back what it shows, so finish or drop it.
///
/// # Runtimes
///
/// What is short is done in place: reads of up to 256 entries, and commits of up to 64 operations and
/// 256 KiB when no other commit or fsync runs and fjall has nothing to catch up with. All else runs on
/// tokio's blocking pool, or in place without tokio.
///
/// # Failures
///
/// If the disk is full, a commit fails with [`StorageFull`](datastore_core::Error::StorageFull) and
/// has no effect; once there is room, commits succeed again. To get there the backend opens fjall
/// anew, which ends queries and transactions that are under way with an error, at worst.
///
/// Of a journal that is damaged, what follows the damage may be taken for a commit that a crash cut
/// short, and dropped: a checksum tells the two apart only inside a commit.
#[derive(Clone)]
pub struct FjallDatastore {
    store: Arc<Store>,
}

impl FjallDatastore {
    /// Opens the store in the directory `path`, or creates it if the directory is empty or not there.
    ///
    /// # Errors
    /// - [`Locked`](datastore_core::Error::Locked) if another process, or another handle in this one
    ///   that is no clone, has it open;
    /// - [`NotOurs`](datastore_core::Error::NotOurs) if the directory holds something else; nothing
    ///   in it was changed;
    /// - [`Damaged`](datastore_core::Error::Damaged) if files are missing or their content is broken;
    /// - [`StorageFull`](datastore_core::Error::StorageFull) if there is no room to open it;
    /// - [`Backend`](datastore_core::Error::Backend) for any other failure, such as a lack of
    ///   permission.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder(path).open().await
    }

    /// Options for opening the store in the directory `path`.
    pub fn builder(path: impl Into<PathBuf>) -> FjallBuilder {
        FjallBuilder::new(path.into())
    }

    async fn open_with(options: FjallBuilder) -> Result<Self> {
        let open = move || Store::open(options);
        let store = blocking::run("opening a store", open).await?;
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.store.path()
    }
}

#[async_trait]
impl Datastore for FjallDatastore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.store
            .with(|engine| engine.get(&engine.snapshot(), key))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        if keys.len() <= READ_INLINE {
            return self.store.get_many(keys);
        }
        let (store, keys) = (self.store.clone(), keys.to_vec());
        blocking::run("a read", move || store.get_many(&keys)).await
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        Ok(self.get_size(key).await?.is_some())
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        self.store.with(|engine| engine.size_of(key))
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return self.store.with(|_| Ok(()));
        }
        self.store.commit(batch, |_| Ok(())).await
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        scan::query(&self.store, query)
    }

    async fn sync(&self, _prefix: &Key) -> Result<()> {
        let store = self.store.clone();
        // fjall lets nobody write meanwhile.
        let sync = move || store.between_writes(|engine| engine.persist(PersistMode::SyncData));
        blocking::run("a sync", sync).await
    }

    async fn close(&self) -> Result<()> {
        let store = self.store.clone();
        blocking::run("closing a store", move || store.close()).await
    }

    fn extras(&self) -> Extras<'_> {
        Extras {
            transactions: Some(self),
            ttl: None,
            disk_usage: Some(self),
            garbage_collection: Some(self),
            check: Some(self),
            instance: Some(self),
        }
    }
}

impl fmt::Debug for FjallDatastore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallDatastore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
