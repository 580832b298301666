//! Who did what, in a local datastore, and how often it was done, in the replicated counters.
//!
//! Rows, under the repo's root:
//!
//! | row | holds |
//! |---|---|
//! | `by/{subject}/{actor}` | the actor does it |
//! | `tally/{subject}` | how often it was done by nobody in particular, 8 bytes |
//! | `intent/{subject}/{actor}` | an action whose count or record may be missing |
//!
//! An action goes: the intent, durably; the count; then, in one commit, the record and the end of the
//! intent. Whatever a crash leaves of that, the intent tells by its slot and totals whether it was
//! counted, and opening the repo does the rest. If the count fails the record is made all the same,
//! and the intent stays as a debt.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};
use futures::TryStreamExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::intent::{Action, Intended};
use super::{Members, RepoOptions, Stat, StatsStore};
use crate::types::{Intent, Journal, escape, members, unescape};
use crate::{Error, Result};

/// Actions on one actor exclude each other; those that share a lock by chance only wait.
const LOCKS: usize = 256;

/// How many intents are read at a time.
const INTENTS_PER_READ: usize = 256;

/// The actor of the one debt in which those of a subject are added up while there are no counters.
const DEBT: &str = "debt";

/// One kind of action.
#[derive(Clone)]
pub(super) struct Actions {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Arc<Journal>,
    stats: Option<StatsStore>,
    stat: Stat,
    root: Key,
    locks: Vec<tokio::sync::Mutex<()>>,
    /// Actions under way, so that a caller that goes away cuts none. `None` once closed.
    tasks: Mutex<Option<JoinSet<()>>>,
    fallbacks: AtomicU64,
}

/// An action's place.
#[derive(Clone)]
struct Place {
    subject: String,
    /// Escaped.
    actor: String,
    intent: Key,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// It was done already.
    Nothing,
    /// Recorded and counted.
    Counted,
    /// Recorded; to be counted later.
    Owed,
}

impl Actions {
    /// Opens the actions of one kind and finishes what a crash or a failure left.
    pub(super) async fn open(
        local: Arc<dyn Datastore>,
        stats: Option<StatsStore>,
        stat: Stat,
        kind: &str,
        options: &RepoOptions,
    ) -> Result<Self> {
        let actions = Self {
            inner: Arc::new(Inner {
                journal: Arc::new(Journal {
                    store: local,
                    durable: options.durable,
                }),
                stats,
                stat,
                root: options.root.child_str(kind),
                locks: std::iter::repeat_with(tokio::sync::Mutex::default)
                    .take(LOCKS)
                    .collect(),
                tasks: Mutex::new(Some(JoinSet::new())),
                fallbacks: AtomicU64::new(0),
            }),
        };
        actions.settle().await?;
        Ok(actions)
    }

    /// An actor does it, or takes it back.
    pub(super) async fn act(&self, subject: &str, actor: &str, action: Action) -> Result<Done> {
        let place = self.inner.place(subject, actor)?;
        let inner = self.inner.clone();
        self.run(async move {
            let _lock = inner.lock(&place).await;
            inner.act(&place, action).await
        })
        .await
    }

    /// It was done, by nobody in particular.
    pub(super) async fn tally(&self, subject: &str, times: u64) -> Result<Done> {
        let inner = self.inner.clone();
        let debt = inner.place(subject, DEBT)?;
        self.run(async move {
            let _lock = inner.lock(&debt.of_all()).await;
            inner.check(&debt, Action::Tally(times))?;
            let place = inner.place_of_tally(debt).await?;
            inner.count(&place, Action::Tally(times), false).await
        })
        .await
    }

    pub(super) async fn has(&self, subject: &str, actor: &str) -> Result<bool> {
        let place = self.inner.place(subject, actor)?;
        Ok(self
            .inner
            .journal
            .store
            .has(&self.inner.by(&place)?)
            .await?)
    }

    pub(super) async fn actors(
        &self,
        subject: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Members> {
        let by = self.inner.row("by", subject)?;
        members(&*self.inner.journal.store, &by, cursor, limit).await
    }

    /// The replicated count; the local one where that fails, or after an action that is not in it yet.
    pub(super) async fn count_after(&self, subject: &str, done: Done) -> Result<u64> {
        match &self.inner.stats {
            Some(stats) if done != Done::Owed => match stats.get(subject, &self.inner.stat).await {
                Ok(count) => return Ok(count),
                Err(error @ (Error::EmptyName { .. } | Error::NameTooLong { .. })) => {
                    return Err(error);
                }
                Err(error) => self.inner.fall_back(subject, Some(&error)),
            },
            // Noted when it was owed.
            Some(_) => {}
            None => self.inner.fall_back(subject, None),
        }
        self.inner.count_local(subject).await
    }

    /// Counts what is owed; how many actions still are.
    pub(super) async fn settle(&self) -> Result<usize> {
        let root = self.inner.root.child_str("intent");
        let (mut left, mut after) = (0, None);
        loop {
            let mut query = Query::new().prefix(root.clone()).limit(INTENTS_PER_READ);
            if let Some(after) = after.take() {
                query = query.start_after(after);
            }
            let rows = self.inner.journal.store.query_all(query).await?;
            let Some(last) = rows.last() else {
                return Ok(left);
            };
            after = Some(last.key.clone());
            for row in &rows {
                let place = self.inner.place_at(&row.key)?;
                let inner = self.inner.clone();
                let settled = self.run(async move { inner.settle(&place).await }).await?;
                left += usize::from(!settled);
            }
        }
    }

    pub(super) fn fallbacks(&self) -> u64 {
        self.inner.fallbacks.load(Ordering::Relaxed)
    }

    /// Waits for the actions that are under way, and takes no more.
    pub(super) async fn close(&self) {
        let tasks = self.inner.tasks().take();
        if let Some(tasks) = tasks {
            tasks.join_all().await;
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, done) = oneshot::channel();
        {
            let mut tasks = self.inner.tasks();
            let tasks = tasks.as_mut().ok_or(Error::Closed)?;
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // Who asked may be gone.
                let _ = reply.send(work.await);
            });
        }
        done.await.map_err(|_| Error::OutcomeUnknown)?
    }
}

impl Place {
    /// Stands for all actors of the subject.
    fn of_all(&self) -> Self {
        Self {
            actor: String::new(),
            ..self.clone()
        }
    }
}

impl Inner {
    fn tasks(&self) -> std::sync::MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, kind: &str, subject: &str) -> Result<Key> {
        Ok(self
            .root
            .child_str(kind)
            .child_str(&escape("subject", subject)?))
    }

    fn place(&self, subject: &str, actor: &str) -> Result<Place> {
        let actor = escape("user id", actor)?;
        Ok(Place {
            intent: self.row("intent", subject)?.child_str(&actor),
            subject: subject.to_owned(),
            actor,
        })
    }

    fn place_at(&self, intent: &Key) -> Result<Place> {
        let subject = unescape(intent.parent().base_namespace());
        Ok(Place {
            subject: subject.ok_or_else(|| Error::damaged(format!("the intent {intent}")))?,
            actor: intent.base_namespace().to_owned(),
            intent: intent.clone(),
        })
    }

    fn by(&self, place: &Place) -> Result<Key> {
        Ok(self.row("by", &place.subject)?.child_str(&place.actor))
    }

    async fn lock(&self, place: &Place) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        (&place.subject, &place.actor).hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        match self.locks.get(index) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }

    fn check(&self, place: &Place, action: Action) -> Result<()> {
        match &self.stats {
            Some(stats) => stats.check(&place.subject, &self.stat, action.amount()),
            None => Ok(()),
        }
    }

    async fn act(&self, place: &Place, action: Action) -> Result<Done> {
        let mut debt = self.intent(place).await?;
        if let Some(intended) = debt.take()
            && !self.finish(place, intended).await?
        {
            debt = self.intent(place).await?;
        }
        let done = self.journal.store.has(&self.by(place)?).await?;
        if done == (action == Action::Do) {
            return Ok(Done::Nothing);
        }
        self.check(place, action)?;
        match debt {
            None => self.count(place, action, false).await,
            // Neither needs counting.
            Some(debt) if debt.counted_in.is_none() => {
                let mut batch = Batch::with_capacity(2);
                self.record(&mut batch, place, action).await?;
                batch.delete(place.intent.clone());
                self.journal.store.commit(batch).await?;
                Ok(Done::Owed)
            }
            Some(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// Each tally has an intent of its own; where there are no counters, they are one debt, unless
    /// it was to be paid once and may have been.
    async fn place_of_tally(&self, debt: Place) -> Result<Place> {
        let owed = match self.intent(&debt).await? {
            Some(intended) => intended.counted_in.is_none(),
            None => true,
        };
        if self.stats.is_none() && owed {
            return Ok(debt);
        }
        let own = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>());
        self.place(&debt.subject, &own)
    }

    async fn settle(&self, place: &Place) -> Result<bool> {
        let Some(intended) = self.intent(place).await? else {
            return Ok(true);
        };
        let _lock = match intended.action {
            Action::Tally(_) => self.lock(&place.of_all()).await,
            Action::Do | Action::Undo => self.lock(place).await,
        };
        // It may have been finished meanwhile.
        match self.intent(place).await? {
            Some(intended) => self.finish(place, intended).await,
            None => Ok(true),
        }
    }

    /// Brings an action to its end, if the counters let it; whether they did.
    async fn finish(&self, place: &Place, intended: Intended) -> Result<bool> {
        let covered = match (&self.stats, &intended.counted_in) {
            (Some(_), None) => Ok(false),
            (Some(stats), Some((slot, totals))) => stats
                .covers(&stats.slot_at(slot.clone()), *totals)
                .await
                .map_err(Some),
            (None, _) => Err(None),
        };
        let mut batch = Batch::with_capacity(2);
        if !intended.recorded {
            self.record(&mut batch, place, intended.action).await?;
        }
        match covered {
            Ok(true) => {
                batch.delete(place.intent.clone());
                self.journal.store.commit(batch).await?;
                Ok(true)
            }
            Ok(false) => {
                // Those totals may be reached by other actions from now on.
                let owed = Intended::owed(intended.action, true);
                batch.put(place.intent.clone(), owed.encode());
                self.journal.store.commit(batch).await?;
                Ok(self.count(place, intended.action, true).await? == Done::Counted)
            }
            Err(error) => {
                self.fall_back(&place.subject, error.as_ref());
                let action = intended.action;
                if !intended.recorded {
                    let kept = Intended {
                        recorded: true,
                        ..intended
                    };
                    batch.put(place.intent.clone(), kept.encode());
                    self.journal.store.commit(batch).await?;
                }
                tracing::debug!(subject = place.subject, ?action, "an action stays owed");
                Ok(false)
            }
        }
    }

    /// Counts an action, and records it unless it is.
    async fn count(&self, place: &Place, action: Action, recorded: bool) -> Result<Done> {
        let mut failure = None;
        if let Some(stats) = &self.stats {
            let slot = stats.slot(&place.subject, &self.stat, action.amount())?;
            let intent = Intent {
                journal: self.journal.clone(),
                key: place.intent.clone(),
                head: Intended::head(action, recorded, &slot.key),
            };
            match stats.grow(slot, action.amount(), Some(intent)).await {
                Ok(()) => {
                    let mut batch = Batch::with_capacity(2);
                    if !recorded {
                        self.record(&mut batch, place, action).await?;
                    }
                    batch.delete(place.intent.clone());
                    self.journal.store.commit(batch).await?;
                    return Ok(Done::Counted);
                }
                Err(error) => failure = Some(error),
            }
        }
        self.fall_back(&place.subject, failure.as_ref());
        let mut batch = Batch::with_capacity(2);
        if !recorded {
            self.record(&mut batch, place, action).await?;
        }
        // If its intent got as far as the store, it may be counted.
        let debt = match (self.intent(place).await?, action) {
            (Some(intended), _) if intended.counted_in.is_some() => Intended {
                recorded: true,
                ..intended
            },
            (Some(debt), Action::Tally(more)) if !recorded => match debt.action {
                Action::Tally(times) => {
                    Intended::owed(Action::Tally(times.saturating_add(more)), true)
                }
                Action::Do | Action::Undo => Intended::owed(action, true),
            },
            _ => Intended::owed(action, true),
        };
        batch.put(place.intent.clone(), debt.encode());
        self.journal.store.commit(batch).await?;
        Ok(Done::Owed)
    }

    async fn record(&self, batch: &mut Batch, place: &Place, action: Action) -> Result<()> {
        match action {
            Action::Do => batch.put(self.by(place)?, Bytes::new()),
            Action::Undo => batch.delete(self.by(place)?),
            Action::Tally(times) => {
                let row = self.row("tally", &place.subject)?;
                let tally = self.tally(&row).await?.saturating_add(times);
                batch.put(row, Bytes::copy_from_slice(&tally.to_be_bytes()));
            }
        }
        Ok(())
    }

    async fn tally(&self, row: &Key) -> Result<u64> {
        let Some(value) = self.journal.store.get(row).await? else {
            return Ok(0);
        };
        let tally = value.as_ref().try_into().map(u64::from_be_bytes);
        tally.map_err(|_| Error::damaged(format!("the tally {row}")))
    }

    async fn intent(&self, place: &Place) -> Result<Option<Intended>> {
        let Some(row) = self.journal.store.get(&place.intent).await? else {
            return Ok(None);
        };
        match Intended::decode(&row) {
            Some(intended) => Ok(Some(intended)),
            None => Err(Error::damaged(format!("the intent {}", place.intent))),
        }
    }

    async fn count_local(&self, subject: &str) -> Result<u64> {
        let query = Query::new().prefix(self.row("by", subject)?).keys_only();
        let mut actors = self.journal.store.query(query).await?;
        let mut count = self.tally(&self.row("tally", subject)?).await?;
        while actors.try_next().await?.is_some() {
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    fn fall_back(&self, subject: &str, error: Option<&Error>) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        let stat = &self.stat;
        match error {
            Some(error) => {
                tracing::warn!(%stat, subject, %error, "counted locally: the replicated counters failed");
            }
            None => {
                tracing::debug!(%stat, subject, "counted locally: there are no replicated counters")
            }
        }
    }
}
