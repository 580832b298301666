use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use datastore_core::{Error, Interval, Key, Op, Result};
use fjall::{
    Database, Iter, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, SeqNo,
    Snapshot, UserValue,
};
use lsm_tree::AbstractTree;

use super::group_sync::GroupSync;
use super::options::FjallBuilder;
use super::{blocking, failure, limits};

const KEYSPACE: &str = "data";

/// Values from this size on are handed out as fjall holds them. Smaller ones are copied, so that
/// none keeps a block of many values in memory.
const SHARED_FROM: usize = 4096;

/// From so many runs on fjall slows writes down.
const SLOWED_FROM_RUNS: usize = 20;

/// fjall tells nobody when work in the background is done.
const BACKGROUND_POLL: Duration = Duration::from_millis(5);

/// After how many snapshots were closed fjall looks which is the oldest one left.
const SNAPSHOTS_UNTIL_LOOK: usize = 10_000;

/// How long fjall's threads may take to let go of the journal once the database is dropped.
const THREADS_END: Duration = Duration::from_millis(20);

/// fjall, opened.
///
/// fjall's own snapshots can be torn: while a memtable is flushed, the sequence number that a new
/// snapshot takes moves past a batch that is being applied, and half of it shows. So nobody takes
/// one but [`write`](Self::write), when its batch is applied and the next has not begun; readers
/// share the last one taken. They see whole commits only, and wait for none.
pub(super) struct Engine {
    published: RwLock<Arc<Snapshot>>,
    keyspace: Keyspace,
    database: Database,
    group_sync: Arc<GroupSync>,
    generation: u64,
    /// At about this size a memtable is full.
    memtable_bytes: u64,
    path: PathBuf,
}

/// Numbers engines.
static GENERATIONS: AtomicU64 = AtomicU64::new(0);

impl Engine {
    /// Opens fjall's files in `data`, of the store at `options.path`; they must be there unless
    /// `create`.
    pub(super) fn open(data: &Path, options: &FjallBuilder, create: bool) -> Result<Self> {
        let path = &options.path;
        let failed = |error| failure::error("opening", path, error);
        let damaged = |source| Error::Damaged {
            what: failure::store(path),
            source,
        };
        // fjall itself would make a new database where one of these is gone.
        if !create && !is_complete(data) {
            return Err(damaged(None));
        }
        let builder = Database::builder(data)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes);
        // Some damage makes fjall panic.
        let database = blocking::caught(|| builder.open())
            .map_err(|panicked| damaged(Some(Arc::new(panicked))))?
            .map_err(failed)?;
        if !create && !database.keyspace_exists(KEYSPACE) {
            return Err(damaged(None));
        }
        let settings =
            || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
        let keyspace = database.keyspace(KEYSPACE, settings).map_err(failed)?;
        Ok(Self {
            published: RwLock::new(Arc::new(database.snapshot())),
            keyspace,
            database,
            group_sync: Arc::default(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            memtable_bytes: options.memtable_bytes,
            path: path.into(),
        })
    }

    /// Different for any two engines of this process: snapshots of one are no good to another.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// All that was committed.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The value of `key` in `snapshot`, which this engine made.
    pub(super) fn get(&self, snapshot: &Snapshot, key: &Key) -> Result<Option<Bytes>> {
        if !limits::is_storable(key) {
            return Ok(None);
        }
        let value = snapshot.get(&self.keyspace, key.as_bytes());
        Ok(value.map_err(self.failed_reading())?.map(into_bytes))
    }

    pub(super) fn size_of(&self, key: &Key) -> Result<Option<u64>> {
        if !limits::is_storable(key) {
            return Ok(None);
        }
        let size = self.snapshot().size_of(&self.keyspace, key.as_bytes());
        Ok(size.map_err(self.failed_reading())?.map(u64::from))
    }

    /// The entries of all that was committed, for [`entry`](Self::entry).
    pub(super) fn range(&self, interval: &Interval) -> Iter {
        self.snapshot()
            .range::<&[u8], _>(&self.keyspace, interval.bounds())
    }

    /// One of a [`range`](Self::range).
    pub(super) fn entry(&self, guard: fjall::Guard, with_value: bool) -> Result<(Key, Bytes)> {
        let (key, value) = guard.into_inner().map_err(self.failed_reading())?;
        let key = Key::try_from(&*key).map_err(|error| Error::Damaged {
            what: format!("a key in {}", failure::store(&self.path)),
            source: Some(Arc::new(error)),
        })?;
        Ok((
            key,
            if with_value {
                into_bytes(value)
            } else {
                Bytes::new()
            },
        ))
    }

    /// Whether `key` was written after `snapshot`, which this engine made. A key that was absent,
    /// came and went counts as not written.
    pub(super) fn written_since(&self, snapshot: &Snapshot, key: &Key) -> Result<bool> {
        if !limits::is_storable(key) {
            return Ok(false);
        }
        let version = |seqno: SeqNo| {
            let entry = self.keyspace.tree.get_internal_entry(key.as_bytes(), seqno);
            let entry = entry.map_err(|error| self.failed_reading()(error.into()))?;
            Ok(entry.map(|entry| entry.key.seqno))
        };
        Ok(version(snapshot.seqno())? != version(self.snapshot().seqno())?)
    }

    fn failed_reading(&self) -> impl Fn(fjall::Error) -> Error {
        |error| failure::error("reading", &self.path, error)
    }

    /// Writes `ops` as one, to the operating system, and shows them to readers. The caller sees to
    /// it that no other write runs.
    pub(super) fn write(&self, ops: &[Op]) -> fjall::Result<()> {
        // A commit that finds too much waiting for the background waits too, and for ever if that
        // work has failed. So wait before it, for less, and where the failure shows.
        while self.is_congested() {
            self.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(BACKGROUND_POLL);
        }
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), ops.len())
            .durability(Some(PersistMode::Buffer));
        // Of several operations on a key the last wins: they get one sequence number and are applied
        // in order, each in the place of the one before.
        for op in ops {
            match op {
                Op::Put { key, value } => {
                    batch.insert(&self.keyspace, key.as_bytes(), value.as_ref());
                }
                Op::Delete { key } => batch.remove(&self.keyspace, key.as_bytes()),
            }
        }
        batch.commit()?;
        self.publish();
        Ok(())
    }

    /// Whether so much waits for work in the background that a commit might have to: fjall stops at
    /// 4 memtables or 30 runs, and one commit may add one of each.
    fn is_congested(&self) -> bool {
        let tree = &self.keyspace.tree;
        tree.sealed_memtable_count() >= 3 || tree.l0_run_count() >= 29
    }

    /// Whether a commit would wait for nothing: no memtable is full, which fjall's threads would take
    /// away, and nothing that they have to do slows writes down.
    pub(super) fn is_calm(&self) -> bool {
        let tree = &self.keyspace.tree;
        tree.sealed_memtable_count() == 0
            && tree.l0_run_count() < SLOWED_FROM_RUNS
            && tree.active_memtable().size() < self.memtable_bytes
    }

    /// Shows all that was written to readers. The caller sees to it that no write runs.
    fn publish(&self) {
        let snapshot = Arc::new(self.database.snapshot());
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let previous = std::mem::replace(&mut *published, snapshot);
        drop(published);
        drop(previous);
    }

    /// Makes all that was written durable.
    pub(super) fn persist(&self, mode: PersistMode) -> Result<()> {
        self.database.persist(mode).map_err(|error| {
            let refused = matches!(error, fjall::Error::Poisoned);
            let cause = if refused { self.refusal() } else { error };
            failure::error("syncing", &self.path, cause)
        })
    }

    /// Why fjall refuses writes, as far as it shows: it does so once work in the background has
    /// failed, and does not say how. So do that work here, in the hope that it fails again.
    pub(super) fn refusal(&self) -> fjall::Error {
        let tree = &self.keyspace.tree;
        let strategy = self.keyspace.config.compaction_strategy.clone();
        let flushed = tree.flush(&tree.get_flush_lock(), 0);
        let worked = flushed.and_then(|_| tree.compact(strategy, 0));
        worked.map_or_else(fjall::Error::Storage, |()| fjall::Error::Poisoned)
    }

    /// Makes commits durable together.
    pub(super) fn group_sync(&self) -> &Arc<GroupSync> {
        &self.group_sync
    }

    /// The number that the next write gets; all that were written have lower ones.
    pub(super) fn next_seqno(&self) -> SeqNo {
        self.database.seqno()
    }

    /// Whether a write that got `seqno` or a higher one is in the store.
    pub(super) fn has_write_from(&self, seqno: SeqNo) -> bool {
        self.keyspace.tree.get_highest_seqno() >= Some(seqno)
    }

    /// Begins to move what is in memory into a sorted file. The caller sees to it that no write runs.
    pub(super) fn start_flush(&self) -> Result<()> {
        let rotated = self.keyspace.rotate_memtable();
        rotated.map(drop).map_err(self.failed_compacting())
    }

    /// Waits until [`start_flush`](Self::start_flush) is done.
    pub(super) fn wait_for_flush(&self) -> Result<()> {
        while self.keyspace.sealed_memtable_count() > 0 {
            // Fails once the thread that flushes has failed.
            self.persist(PersistMode::Buffer)?;
            std::thread::sleep(BACKGROUND_POLL);
        }
        Ok(())
    }

    /// Merges all sorted files, leaving out what was deleted and overwritten and
    /// [let go of](Self::let_go).
    pub(super) fn compact(&self) -> Result<()> {
        self.keyspace
            .major_compact()
            .map_err(self.failed_compacting())
    }

    /// Lets go of all that only earlier published snapshots show: what was deleted and overwritten,
    /// and files that were merged. The caller sees to it that no write runs.
    pub(super) fn let_go(&self) -> Result<()> {
        // fjall keeps what the snapshot before the oldest open one would show, so leave out a number.
        let supervisor = &self.database.supervisor;
        supervisor.snapshot_tracker.publish(supervisor.seqno.next());
        self.publish();
        // It looks for the oldest one every so many times that one is closed.
        for _ in 0..SNAPSHOTS_UNTIL_LOOK {
            drop(self.database.snapshot());
        }
        let kept_from = supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        let mut versions = self.keyspace.tree.get_version_history_lock();
        let maintained = versions.maintenance(self.keyspace.path(), kept_from);
        maintained.map_err(|error| self.failed_compacting()(error.into()))
    }

    fn failed_compacting(&self) -> impl Fn(fjall::Error) -> Error {
        |error| failure::error("compacting", &self.path, error)
    }

    /// Closes what a failed write left, so that its files can be opened again.
    ///
    /// fjall tries to write the rest of a failed batch when its journal is dropped, and threads of
    /// its may do that a moment after the database is gone. By then nobody else must write the file,
    /// so wait for them, and drop it here.
    pub(super) fn abandon(self) {
        let supervisor = self.database.supervisor.clone();
        drop(self);
        std::thread::sleep(THREADS_END);
        drop(supervisor);
    }
}

/// Whether `data` holds what no database is without.
fn is_complete(data: &Path) -> bool {
    let is_journal = |entry: DirEntry| entry.path().extension() == Some("jnl".as_ref());
    let mut entries = fs::read_dir(data).into_iter().flatten().flatten();
    data.join("version").exists() && entries.any(is_journal)
}

fn into_bytes(value: UserValue) -> Bytes {
    if value.len() < SHARED_FROM {
        Bytes::copy_from_slice(&value)
    } else {
        Bytes::from_owner(value)
    }
}
