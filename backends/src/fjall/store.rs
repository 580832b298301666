use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use bytes::Bytes;
use datastore_core::{Batch, Error, Key, Op, Result};
use fjall::{PersistMode, SeqNo};

use super::directory::Directory;
use super::engine::Engine;
use super::group_sync::GroupSync;
use super::options::{Durability, FjallBuilder};
use super::{blocking, failure, limits};

/// What all handles on one open store share.
pub(super) struct Store {
    options: FjallBuilder,
    state: RwLock<State>,
    /// Held by the one write, or fsync, that runs. Taken before `state`.
    turn: Mutex<()>,
}

struct State {
    /// Or why there is none: the store was closed, or could not be opened again after a failure.
    engine: Result<Engine>,
    /// Until the store is closed.
    directory: Option<Directory>,
}

/// A commit that was written, and is still to be made durable.
#[must_use]
struct Written {
    number: u64,
    group_sync: Arc<GroupSync>,
    /// Of the engine that wrote it.
    generation: u64,
}

/// What became of a write.
enum Attempt {
    Written(Written),
    /// It was not begun.
    Refused,
    /// It was begun, with this number, and failed midway.
    Cut {
        seqno: SeqNo,
        failure: fjall::Error,
    },
}

impl Store {
    pub(super) fn open(options: FjallBuilder) -> Result<Self> {
        let create = |data: &Path| {
            let engine = Engine::open(data, &options, true)?;
            engine.persist(PersistMode::SyncAll)
        };
        let directory = Directory::open(&options.path, create)?;
        let engine = Engine::open(&directory.data(), &options, false)?;
        let state = State {
            engine: Ok(engine),
            directory: Some(directory),
        };
        Ok(Self {
            options,
            state: RwLock::new(state),
            turn: Mutex::new(()),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.options.path
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn to write, if nothing foreseeable would make the write wait.
    fn quick_turn(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let calm = self.state().engine.as_ref().is_ok_and(Engine::is_calm);
        calm.then_some(turn)
    }

    /// Uses the engine, which stays open meanwhile.
    pub(super) fn with<R>(&self, f: impl FnOnce(&Engine) -> Result<R>) -> Result<R> {
        f(self.state().engine.as_ref().map_err(Error::clone)?)
    }

    /// The same, with no write running.
    pub(super) fn between_writes<R>(&self, f: impl FnOnce(&Engine) -> Result<R>) -> Result<R> {
        let _turn = self.turn();
        self.with(f)
    }

    /// The values of `keys`, all from one snapshot.
    pub(super) fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.with(|engine| {
            let snapshot = engine.snapshot();
            keys.iter().map(|key| engine.get(&snapshot, key)).collect()
        })
    }

    /// Writes `ops` as one, if `check` passes, with no other write between the two.
    fn write(
        &self,
        _turn: MutexGuard<'_, ()>,
        ops: &[Op],
        check: impl Fn(&Engine) -> Result<()>,
    ) -> Result<Written> {
        if self.state().needs_reopening() {
            self.reopen()?;
        }
        let mut attempt = self.attempt(ops, &check)?;
        if matches!(attempt, Attempt::Refused) {
            // Work in the background has failed, as for want of room. A fresh start may help.
            self.reopen()?;
            attempt = self.attempt(ops, &check)?;
        }
        match attempt {
            Attempt::Written(written) => Ok(written),
            Attempt::Refused => self.with(|engine| Err(self.failed_commit(engine.refusal()))),
            Attempt::Cut { seqno, failure } => {
                // fjall takes no more writes now, and whether all of this one got into the journal
                // is seen when that is read again.
                let error = self.failed_commit(failure);
                if self.reopen().is_err() {
                    return Err(outcome_unknown(self.path(), error));
                }
                self.with(|engine| {
                    let written = engine.has_write_from(seqno);
                    written.then(|| Written::by(engine)).ok_or(error)
                })
            }
        }
    }

    fn attempt(&self, ops: &[Op], check: impl Fn(&Engine) -> Result<()>) -> Result<Attempt> {
        self.with(|engine| {
            check(engine)?;
            let seqno = engine.next_seqno();
            Ok(match engine.write(ops) {
                Ok(()) => Attempt::Written(Written::by(engine)),
                Err(fjall::Error::Poisoned) => Attempt::Refused,
                Err(failure) => Attempt::Cut { seqno, failure },
            })
        })
    }

    fn failed_commit(&self, failure: fjall::Error) -> Error {
        failure::error("a commit to", self.path(), failure)
    }

    /// Commits `batch`, as durably as the options ask, if `check` passes, with no other write between
    /// the two.
    pub(super) async fn commit(
        self: &Arc<Self>,
        batch: Batch,
        check: impl Fn(&Engine) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        limits::check(&batch)?;
        match self.options.durability {
            Durability::Buffer => self.write_batch(batch, check).await.map(drop),
            Durability::Sync => {
                let group = self.with(|engine| Ok(engine.group_sync().clone()))?;
                let turn = group.turn().await;
                let written = self.write_batch(batch, check).await?;
                drop(turn);
                let durable = self.clone().make_durable(written).await;
                durable.map_err(|error| outcome_unknown(self.path(), error))
            }
        }
    }

    /// Writes `batch`, here if that is a matter of microseconds: to hand it over would cost more.
    async fn write_batch(
        self: &Arc<Self>,
        batch: Batch,
        check: impl Fn(&Engine) -> Result<()> + Send + 'static,
    ) -> Result<Written> {
        const WHAT: &str = "a commit";
        if limits::is_short(&batch)
            && let Some(turn) = self.quick_turn()
        {
            return blocking::guarded(WHAT, || self.write(turn, batch.ops(), check));
        }
        let store = self.clone();
        blocking::run(WHAT, move || store.write(store.turn(), batch.ops(), check)).await
    }

    async fn make_durable(self: Arc<Self>, written: Written) -> Result<()> {
        let Written {
            number,
            group_sync,
            generation,
        } = written;
        let fsync = blocking::run("an fsync", move || {
            self.between_writes(|engine| {
                if engine.generation() != generation {
                    // What an engine wrote that failed since may never have got to the disk,
                    // whatever a later fsync says.
                    return Err(Error::backend("an fsync", fjall::Error::Poisoned));
                }
                engine.persist(PersistMode::SyncData)
            })
        });
        group_sync.wait(number, fsync).await
    }

    /// Closes the engine and opens a new one.
    fn reopen(&self) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(engine) = std::mem::replace(&mut state.engine, Err(Error::Closed)) {
            engine.abandon();
        }
        if let Some(directory) = &state.directory {
            state.engine = Engine::open(&directory.data(), &self.options, false);
        }
        state.engine.as_ref().map(drop).map_err(Error::clone)
    }

    /// Closes the store for all handles, and lets go of the directory.
    pub(super) fn close(&self) -> Result<()> {
        let _turn = self.turn();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let engine = std::mem::replace(&mut state.engine, Err(Error::Closed));
        let directory = state.directory.take();
        let synced = engine.map_or(Ok(()), |engine| engine.persist(PersistMode::SyncAll));
        drop(directory);
        synced
    }
}

impl State {
    fn needs_reopening(&self) -> bool {
        self.engine.is_err() && self.directory.is_some()
    }
}

impl Written {
    fn by(engine: &Engine) -> Self {
        let group_sync = engine.group_sync().clone();
        Self {
            number: group_sync.count(),
            group_sync,
            generation: engine.generation(),
        }
    }
}

fn outcome_unknown(path: &Path, cause: Error) -> Error {
    Error::OutcomeUnknown {
        context: format!("a commit to {}", path.display()),
        source: Arc::new(cause),
    }
}
