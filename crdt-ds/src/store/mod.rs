//! The replicated datastore as its users see it.

mod builder;
mod changes;
mod committer;
mod datastore;
mod history;
mod shared;
mod view;
mod wait;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use datastore_core::{Batch, Key};
use futures::Stream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::task::JoinHandle;

pub use self::builder::Builder;
pub use self::changes::{Cursor, Event, From, KeyChanged, Origin};
use self::committer::Committer;
pub(crate) use self::committer::Request;
pub use self::history::{HistoryBlock, Imported, Version};
pub(crate) use self::shared::{Counters, Shared};
pub use self::view::DagView;

use crate::block::{DagName, Format, WriterId};
use crate::replica::{Outcome, Receipt, Work, Write};
use crate::sync::{PeerDigests, Peers, SyncStatus};
use crate::{Error, Result};

/// A replica: a [`Datastore`](datastore_core::Datastore) whose every put and delete becomes a block
/// of a Merkle-DAG that reaches every other replica. Cheap to clone; clones are one replica.
///
/// Reads go to the datastore underneath. Writes go through one queue, where those that wait share a
/// block; a caller that is alone commits by itself. Dropping the future of a write does not cut it: it
/// takes effect wholly or not at all, perhaps a moment later.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use crdt_ds::CrdtDatastore;
/// use crdt_ds::datastore::{Datastore, Key};
/// use crdt_ds::sync::{Hub, Peers};
/// use datastore_backends::MemoryDatastore;
///
/// let hub = Hub::new(1);
/// let a = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("a")).open().await?;
/// let b = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("b")).open().await?;
/// a.put(&Key::new("/greeting"), "hello".into()).await?;
/// b.wait_for_sync(Peers::Any, Duration::from_secs(5)).await?;
/// assert_eq!(b.get(&Key::new("/greeting")).await?.as_deref(), Some(&b"hello"[..]));
/// # a.close().await?; b.close().await?; Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CrdtDatastore {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// `None` once the replica is closed.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    /// Owned by the task that takes the queue, and lent to callers that are alone.
    committer: Weak<tokio::sync::Mutex<Committer>>,
    /// Where that task runs.
    runtime: Handle,
    /// Dropping it stops the sync task.
    shutdown: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<Option<Tasks>>,
}

struct Tasks {
    worker: JoinHandle<(OwnedMutexGuard<Committer>, OpenNamespace)>,
    engine: Option<JoinHandle<()>>,
}

/// A head of a DAG name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadInfo {
    /// The DAG name.
    pub dag_name: DagName,
    /// The block.
    pub cid: Cid,
    /// Its priority; in DAG-PB the height.
    pub priority: u64,
}

/// What a replica is and holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// How blocks are written.
    pub format: Format,
    /// The network.
    pub network: String,
    /// Names the store, for life.
    pub store_id: [u8; 16],
    /// Lasts while the store is closed cleanly and lies where it was closed.
    pub generation: [u8; 8],
    /// Names the writer since the store was opened.
    pub writer: WriterId,
    /// Visible keys.
    pub keys: u64,
    /// Hidden versions.
    pub hidden_versions: u64,
    /// Tombstones kept for blocks that are not merged.
    pub kept_tombstones: u64,
    /// Merged blocks.
    pub blocks: u64,
    /// Merged blocks of each DAG name.
    pub dag_names: Vec<(DagName, u64)>,
    /// Blocks refused since the store was opened: malformed, of another network, of another format.
    pub refused_blocks: u64,
    /// Announcements refused since then.
    pub refused_announcements: u64,
    /// Commits that failed since then.
    pub failed_commits: u64,
    /// Stored blocks found since then that no longer hash.
    pub damaged_blocks: u64,
}

impl CrdtDatastore {
    /// Begins to open a replica over `store`.
    pub fn builder(store: impl datastore_core::Datastore) -> Builder {
        Builder::new(Arc::new(store))
    }

    /// Sets the value of a key, under the unnamed DAG.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn put(&self, key: &Key, value: Bytes) -> Result<Receipt> {
        self.dag(DagName::default()).put(key, value).await
    }

    /// Deletes a key: every version of it that this replica holds. Versions added concurrently
    /// elsewhere survive. Deleting what is not there succeeds and makes no block.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn delete(&self, key: &Key) -> Result<Receipt> {
        self.dag(DagName::default()).delete(key).await
    }

    /// Commits a batch, under the unnamed DAG: all or nothing here, and its puts in one block, so
    /// that they merge together elsewhere too.
    ///
    /// # Errors
    /// [`Error::DeltaTooLarge`] if the puts do not fit into one block, [`Error::KeyTooLong`],
    /// [`Error::Closed`], [`Error::OutcomeUnknown`], or what the datastore underneath said.
    pub async fn write(&self, batch: Batch) -> Result<Receipt> {
        self.dag(DagName::default()).write(batch).await
    }

    /// A view that writes under a DAG name. Keys are shared by all names; heads are not.
    pub fn dag(&self, name: DagName) -> DagView {
        DagView::new(self.clone(), name)
    }

    /// The heads of every DAG name, in order: the merged blocks that no merged block of their name
    /// links to.
    pub fn heads(&self) -> Vec<HeadInfo> {
        let state = self.shared().state.borrow().clone();
        let heads = state.names.iter().flat_map(|(name, state)| {
            state.heads().map(|head| HeadInfo {
                dag_name: name.clone(),
                cid: head.cid,
                priority: head.priority,
            })
        });
        let mut heads: Vec<HeadInfo> = heads.collect();
        heads.sort_unstable();
        heads
    }

    /// What the replica is and holds.
    pub fn info(&self) -> Info {
        let shared = self.shared();
        let state = shared.state.borrow().clone();
        let read = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        Info {
            format: shared.rules.format,
            network: shared.rules.network.clone(),
            store_id: shared.identity.store_id,
            generation: shared.identity.generation,
            writer: shared.rules.writer,
            keys: state.sums.keys,
            hidden_versions: state.sums.hidden,
            kept_tombstones: state.sums.kept,
            blocks: state.sequence,
            dag_names: state
                .names
                .iter()
                .map(|(name, s)| (name.clone(), s.blocks))
                .collect(),
            refused_blocks: read(&shared.counters.refused_blocks),
            refused_announcements: read(&shared.counters.refused_announcements),
            failed_commits: read(&shared.counters.failed_commits),
            damaged_blocks: read(&shared.counters.damaged_blocks),
        }
    }

    /// The digests of the history and of the state, of one snapshot. Replicas with equal histories
    /// have equal states; if not, that is a bug worth a report.
    pub fn digests(&self) -> PeerDigests {
        self.shared().digests()
    }

    /// Where the merge log ends: a cursor to resume [`subscribe`](Self::subscribe) from.
    pub fn cursor(&self) -> Cursor {
        self.shared().cursor()
    }

    /// The ordered stream of changes of the visible values of keys at and under `prefix`: one a key
    /// a commit, after the commit. It lives until the replica is closed.
    ///
    /// A stream that resumes from a cursor, or that fell behind, first gives each key touched since
    /// then once, with its value now and the old one unknown, then live changes.
    pub fn subscribe(
        &self,
        prefix: &Key,
        from: From,
    ) -> impl Stream<Item = Result<Event>> + Send + 'static + use<> {
        changes::subscribe(self.inner.shared.clone(), prefix.clone(), from)
    }

    /// What is known to be missing.
    pub fn sync_status(&self) -> SyncStatus {
        self.shared().sync_status()
    }

    /// Waits until this replica has what the peers have: every head that they announced is merged,
    /// nothing is wanted, and, where the transport can ask for them, digests are equal.
    ///
    /// # Errors
    /// [`Error::NotInSync`] after `timeout`, with what is missing.
    pub async fn wait_for_sync(&self, peers: Peers, timeout: Duration) -> Result<()> {
        wait::wait_for_sync(self.shared(), peers, timeout).await
    }

    /// Declares that a missing block shall not be waited for: blocks above it merge, and it merges
    /// when it turns up. Kept on disk: it is a gap from the moment a merged block links to it.
    ///
    /// # Errors
    /// [`Error::Block`] if no block of this store can have that CID; else as [`write`](Self::write).
    pub async fn declare_gap(&self, cid: &Cid) -> Result<()> {
        Format::of(cid)?;
        self.request(
            vec![Work::Gap {
                cid: *cid,
                declared: true,
            }],
            0,
        )
        .await?;
        Ok(())
    }

    /// Closes the replica: what is queued is committed, the tasks end, all is made durable, and last
    /// of all the clean mark is set. The datastore underneath stays open. Closing twice is no error.
    ///
    /// # Errors
    /// What the datastore said; the replica is closed all the same, but not cleanly.
    pub async fn close(&self) -> Result<()> {
        self.queue().take();
        self.inner.shutdown.send_replace(true);
        let mut tasks = self.inner.tasks.lock().await;
        let Some(Tasks { worker, engine }) = tasks.take() else {
            return Ok(());
        };
        if let Some(engine) = engine {
            // It only ends early if it panicked, which is not the caller's to handle.
            let _ = engine.await;
        }
        self.shared().leave();
        match worker.await {
            // The namespace is free again once the clean mark is set.
            Ok((mut committer, _open)) => committer.close().await,
            Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Request>>> {
        self.inner
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.queue().is_some() {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }

    /// Has work committed and waits for what comes of it.
    async fn request(&self, work: Vec<Work>, bytes: usize) -> Result<Vec<Outcome>> {
        let queue = self.queue().clone().ok_or(Error::Closed)?;
        let lent = self.lent_committer();
        let (request, outcomes) = Request::new(work, bytes, self.shared());
        match lent {
            Some(committer) => {
                Committer::commit_here(committer, request, queue, &self.inner.runtime);
            }
            None => {
                queue.send(request).await.map_err(|_| Error::Closed)?;
                // Who is not polled further must not hold up the close.
                drop(queue);
            }
        }
        outcomes.await.map_err(|_| Error::OutcomeUnknown)?
    }

    /// The committer, if the caller is alone.
    fn lent_committer(&self) -> Option<OwnedMutexGuard<Committer>> {
        if self.shared().waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let committer = self.inner.committer.upgrade()?.try_lock_owned().ok()?;
        committer.can_be_lent().then_some(committer)
    }

    pub(crate) async fn write_under(&self, name: &DagName, batch: Batch) -> Result<Receipt> {
        self.check_open()?;
        if batch.is_empty() {
            return Ok(Receipt { cid: None });
        }
        let write = Write {
            name: name.clone(),
            batch,
        };
        let bytes = write.check(&self.shared().rules)?;
        let outcomes = self.request(vec![Work::Write(write)], bytes).await?;
        match outcomes.first() {
            Some(Outcome::Wrote(receipt)) => Ok(*receipt),
            _ => Err(Error::OutcomeUnknown),
        }
    }
}

impl fmt::Debug for CrdtDatastore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrdtDatastore")
            .field("options", &self.shared().options)
            .finish_non_exhaustive()
    }
}

/// The namespaces that are open in this process, by the handle of their datastore.
static OPEN: Mutex<BTreeSet<(u64, Key)>> = Mutex::new(BTreeSet::new());

/// Holds a namespace of a datastore open.
pub(crate) struct OpenNamespace(Option<(u64, Key)>);

impl OpenNamespace {
    /// A datastore that does not say which one it is cannot be told from others.
    fn take(store: &dyn datastore_core::Datastore, namespace: &Key) -> Result<Self> {
        let Some(instance) = store.extras().instance else {
            return Ok(Self(None));
        };
        let entry = (instance.handle_id(), namespace.clone());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.insert(entry.clone()) {
            return Err(Error::AlreadyOpen {
                namespace: namespace.clone(),
            });
        }
        Ok(Self(Some(entry)))
    }
}

impl Drop for OpenNamespace {
    fn drop(&mut self) {
        if let Some(entry) = self.0.take() {
            OPEN.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&entry);
        }
    }
}
