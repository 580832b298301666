use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::lock::Mutex as AsyncMutex;

use crate::{Batch, Datastore, Error, Extras, Instance, Key, Op, Query, QueryStream, Result};

/// How a store came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process was killed: every commit that took effect is there.
    Process,
    /// The power failed: what was committed before the last `sync` is there, and nothing else.
    Power,
}

/// On which side of the operation that it cuts a crash comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The operation has no effect.
    Before,
    /// The operation takes effect, but its caller does not learn of it.
    After,
}

/// A store that crashes where it is told to, and shows what a crash leaves. For tests.
///
/// Its *operations* are what changes it or what of it is durable: commits (but not empty ones),
/// syncs, and marks set or cleared. They are numbered from 0 in the order in which they came, so a
/// test counts them in a run without a crash, and then crashes at each:
///
/// ```
/// use datastore_core::{
///     CrashDatastore, CrashPoint, Datastore, DatastoreExt, Key, Loss, Result,
/// };
///
/// # async fn a_scenario(store: &impl Datastore) -> Result<()> {
/// #     store.put(&Key::new("/a"), "1".into()).await?;
/// #     store.sync(&Key::root()).await
/// # }
/// async fn at_each_operation<S: Datastore>(fresh: impl Fn() -> S) -> Result<()> {
///     let whole = CrashDatastore::new(fresh());
///     a_scenario(&whole).await?;
///     for operation in 0..whole.operations() {
///         for point in [CrashPoint::Before, CrashPoint::After] {
///             for loss in [Loss::Process, Loss::Power] {
///                 let store = CrashDatastore::new(fresh());
///                 store.crash_at(operation, point);
///                 assert!(a_scenario(&store).await.is_err());
///                 let left = store.survivors(loss, fresh()).await?;
///                 // … open `left`, and see that it is whole.
/// #               let _ = left;
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
///
/// The operation that is cut fails with [`OutcomeUnknown`](Error::OutcomeUnknown), whether or not it
/// took effect; every call after it, reads included, with [`Backend`](Error::Backend).
///
/// A `sync` makes all earlier commits durable, whatever their keys, as a journal does. Marks are
/// durable when set. It starts out empty, and `inner` must be too; all that is committed is also held
/// here, so it is for tests of modest size. Transactions and TTL are not passed on. Clones share it.
#[derive(Debug)]
pub struct CrashDatastore<D> {
    inner: D,
    disk: Arc<Mutex<Disk>>,
    /// Held over an operation, so that the images tell of the same order of commits as `inner`.
    turn: Arc<AsyncMutex<()>>,
}

impl<D: Clone> Clone for CrashDatastore<D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            disk: self.disk.clone(),
            turn: self.turn.clone(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Disk {
    durable: BTreeMap<Key, Bytes>,
    /// Live, but not durable yet.
    unsynced: Vec<Batch>,
    marks: BTreeSet<Bytes>,
    operations: u64,
    crash: Option<(u64, CrashPoint)>,
    crashed: bool,
}

impl Disk {
    fn sync(&mut self) {
        for op in self.unsynced.drain(..).flatten() {
            match op {
                Op::Put { key, value } => self.durable.insert(key, value),
                Op::Delete { key } => self.durable.remove(&key),
            };
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the datastore crashed, as it was told to")]
struct Crashed;

impl<D: Datastore> CrashDatastore<D> {
    /// `inner`, which must be empty, not crashing yet.
    pub fn new(inner: D) -> Self {
        Self {
            inner,
            disk: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// How many operations there were: the number of the next one.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Crashes at the operation of this number.
    pub fn crash_at(&self, operation: u64, point: CrashPoint) {
        self.disk().crash = Some((operation, point));
    }

    /// Crashes now: every call fails from here on.
    pub fn crash(&self) {
        self.disk().crashed = true;
    }

    /// Whether it has crashed.
    pub fn has_crashed(&self) -> bool {
        self.disk().crashed
    }

    /// What is left, put into `fresh`, which must be empty: the store as the next process opens it. It
    /// has the marks of this one. After [`Loss::Process`] what was not durable still is not.
    ///
    /// # Errors
    /// As `fresh.commit`.
    pub async fn survivors<S: Datastore>(&self, loss: Loss, fresh: S) -> Result<CrashDatastore<S>> {
        let disk = self.disk().clone();
        let unsynced = match loss {
            Loss::Process => disk.unsynced,
            Loss::Power => Vec::new(),
        };
        CrashDatastore::with_disk(
            fresh,
            Disk {
                durable: disk.durable,
                marks: disk.marks,
                unsynced,
                ..Disk::default()
            },
        )
        .await
    }

    /// A copy of the store's files, put into `fresh`, which must be empty: all that is live, but none
    /// of the marks.
    ///
    /// # Errors
    /// As `fresh.commit`.
    pub async fn copy<S: Datastore>(&self, fresh: S) -> Result<CrashDatastore<S>> {
        let mut disk = self.disk().clone();
        disk.sync();
        CrashDatastore::with_disk(
            fresh,
            Disk {
                durable: disk.durable,
                ..Disk::default()
            },
        )
        .await
    }

    async fn with_disk(inner: D, disk: Disk) -> Result<Self> {
        let mut live = disk.clone();
        live.sync();
        let entries = live.durable.into_iter();
        inner
            .commit(entries.map(|(key, value)| Op::Put { key, value }).collect())
            .await?;
        Ok(Self {
            inner,
            disk: Arc::new(Mutex::new(disk)),
            turn: Arc::default(),
        })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.disk().crashed {
            return Err(Error::backend(
                "an operation on a crashed datastore",
                Crashed,
            ));
        }
        Ok(())
    }

    /// Runs an operation: `run`, and if that succeeds `record`.
    async fn operation<T>(
        &self,
        context: &'static str,
        run: impl Future<Output = Result<T>> + Send,
        record: impl FnOnce(&mut Disk) + Send,
    ) -> Result<T> {
        let _turn = self.turn.lock().await;
        self.alive()?;
        let point = {
            let mut disk = self.disk();
            let number = disk.operations;
            disk.operations += 1;
            let point = disk
                .crash
                .filter(|(at, _)| *at == number)
                .map(|(_, point)| point);
            disk.crashed |= point.is_some();
            point
        };
        let cut = || Error::OutcomeUnknown {
            context: context.into(),
            source: Arc::new(Crashed),
        };
        if point == Some(CrashPoint::Before) {
            return Err(cut());
        }
        let done = run.await?;
        record(&mut self.disk());
        if point.is_some() {
            Err(cut())
        } else {
            Ok(done)
        }
    }
}

#[async_trait]
impl<D: Datastore> Datastore for CrashDatastore<D> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.alive()?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.alive()?;
        self.inner.get_many(keys).await
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        self.alive()?;
        self.inner.has(key).await
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        self.alive()?;
        self.inner.get_size(key).await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            self.alive()?;
            return self.inner.commit(batch).await;
        }
        let record = batch.clone();
        self.operation("a commit", self.inner.commit(batch), |disk| {
            disk.unsynced.push(record)
        })
        .await
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        self.alive()?;
        self.inner.query(query).await
    }

    async fn sync(&self, prefix: &Key) -> Result<()> {
        self.operation("a sync", self.inner.sync(prefix), Disk::sync)
            .await
    }

    async fn close(&self) -> Result<()> {
        self.alive()?;
        self.inner.close().await
    }

    fn extras(&self) -> Extras<'_> {
        let inner = self.inner.extras();
        Extras {
            transactions: None,
            ttl: None,
            instance: inner.instance.map(|_| self as _),
            ..inner
        }
    }
}

/// Marks of its own, since they have to outlive `inner`.
#[async_trait]
impl<D: Datastore> Instance for CrashDatastore<D> {
    fn handle_id(&self) -> u64 {
        self.inner
            .extras()
            .instance
            .map(Instance::handle_id)
            .unwrap_or_default()
    }

    async fn set_mark(&self) -> Result<Option<Bytes>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let identity = Bytes::from(format!("crash datastore mark {number}"));
        let mark = identity.clone();
        let set = async move { Ok(Some(identity)) };
        self.operation("setting a mark", set, |disk| {
            disk.marks.insert(mark);
        })
        .await
    }

    async fn has_mark(&self, identity: &[u8]) -> Result<bool> {
        self.alive()?;
        Ok(self.disk().marks.contains(identity))
    }

    async fn clear_mark(&self, identity: &[u8]) -> Result<()> {
        self.operation("clearing a mark", async { Ok(()) }, |disk| {
            disk.marks.remove(identity);
        })
        .await
    }
}
