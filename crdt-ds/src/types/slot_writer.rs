//! Writes the slots of one node: many adds at once, one batch, each counted once.
//!
//! A slot holds running totals, and only the replica whose generation is in its key writes it. The
//! totals are handed out here, by one owner in one process, not inside the committer: the generation
//! of an open replica does not change, and [`OpenSlots`] sees that there is one owner, so the order in
//! which this writer hands out totals is the order in which they are committed (one batch is under way
//! at a time).
//!
//! What is handed out is absolute, so writing it again is harmless: a batch whose callers all went
//! away is simply written again with the next one.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use datastore_core::{Batch, Datastore, Key};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::time::Instant;

use super::Totals;
use super::slots_open::OpenSlots;
use crate::{CrdtDatastore, Error, Result};

/// The most changes that go out together. Their puts then fit into a block of 1 MiB unless their
/// keys are long, and if they do not fit, they are split.
const MAX_GROUP: usize = 4096;

/// How many slots are remembered; others are read again when they are written next.
const MAX_REMEMBERED: usize = 65_536;

/// Where a slot lies and how it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) key: Key,
    pub(crate) encoding: Encoding,
}

/// Which totals a slot's value holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Encoding {
    /// Up and down, 16 bytes.
    Both,
    /// Up alone, 8 bytes.
    #[cfg_attr(
        not(feature = "stats"),
        allow(dead_code, reason = "of the stats' layouts")
    )]
    Up,
    /// Down alone, 8 bytes.
    #[cfg_attr(
        not(feature = "stats"),
        allow(dead_code, reason = "of the stats' layouts")
    )]
    Down,
}

impl Encoding {
    pub(crate) fn encode(self, totals: Totals) -> Bytes {
        match self {
            Self::Both => totals.into(),
            Self::Up => Bytes::copy_from_slice(&totals.up.to_be_bytes()),
            Self::Down => Bytes::copy_from_slice(&totals.down.to_be_bytes()),
        }
    }

    pub(crate) fn decode(self, value: &[u8]) -> Option<Totals> {
        let number = || value.try_into().ok().map(u64::from_be_bytes);
        match self {
            Self::Both => Totals::from_bytes(value),
            Self::Up => Some(Totals {
                up: number()?,
                down: 0,
            }),
            Self::Down => Some(Totals {
                up: 0,
                down: number()?,
            }),
        }
    }
}

/// How much a counter grows.
pub(crate) type Amount = Totals;

/// A local store in which intents are kept.
pub(crate) struct Journal {
    pub(crate) store: Arc<dyn Datastore>,
    /// Whether an intent is made durable before its count is written.
    pub(crate) durable: bool,
}

impl Journal {
    async fn commit(&self, batch: Batch) -> Result<()> {
        self.store.commit(batch).await?;
        if self.durable
            && let Err(error) = self.store.sync(&Key::root()).await
        {
            tracing::error!(%error, "intents could not be made durable");
            // They are there, and may be lost again.
            return Err(Error::OutcomeUnknown);
        }
        Ok(())
    }
}

/// A row that is stored in a journal before the totals are that it names: `head`, then the totals that
/// include the change. Once it may be stored, the change is never taken back, so that the slot covers
/// these totals exactly if the change was counted.
pub(crate) struct Intent {
    pub(crate) journal: Arc<Journal>,
    pub(crate) key: Key,
    pub(crate) head: Vec<u8>,
}

struct Change {
    slot: Slot,
    amount: Amount,
    intent: Option<Intent>,
}

/// What the writer knows of a slot.
#[derive(Debug, Clone, Copy)]
struct Known {
    encoding: Encoding,
    /// Handed out.
    totals: Totals,
    /// The store may not have them: the slot is in [`State::dirty`].
    dirty: bool,
    /// Nobody knows whether the intents of a change are stored: what was handed out must not be
    /// written, for then a change that has none would be counted, and nothing more handed out, for
    /// then one that has would seem to be.
    frozen: bool,
}

type Outcomes = Arc<Vec<Result<()>>>;

/// Changes that will go out together. `None` once they do.
struct Group(Mutex<Option<Vec<Change>>>);

struct Gathering {
    group: Arc<Group>,
    /// Weak, so that a group whose callers all went away gives its turn back.
    done: WeakShared<BoxFuture<'static, Outcomes>>,
}

/// The owner of a node's slots under a key. Clones are one owner.
#[derive(Clone)]
pub(crate) struct SlotWriter {
    inner: Arc<Inner>,
}

struct Inner {
    store: CrdtDatastore,
    state: Mutex<State>,
    /// Held while a batch is under way.
    turn: tokio::sync::Mutex<Turn>,
    saturated: AtomicU64,
    /// Given up on close.
    open: Mutex<Option<OpenSlots>>,
}

/// What the last group was.
#[derive(Default)]
struct Turn {
    changes: usize,
    took: Duration,
}

#[derive(Default)]
struct State {
    closed: bool,
    gathering: Option<Gathering>,
    known: HashMap<Key, Known>,
    /// Slots of which the store may not have what was handed out, each once.
    dirty: Vec<Key>,
}

impl SlotWriter {
    /// # Errors
    /// [`Error::NodeOpen`] if somebody owns slots of `node` there.
    pub(crate) fn open(store: CrdtDatastore, root: &Key, node: &str) -> Result<Self> {
        let open = OpenSlots::take(&store, root, node)?;
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                state: Mutex::default(),
                turn: tokio::sync::Mutex::default(),
                saturated: AtomicU64::new(0),
                open: Mutex::new(Some(open)),
            }),
        })
    }

    /// How often a total reached its end.
    pub(crate) fn saturated(&self) -> u64 {
        self.inner.saturated.load(Ordering::Relaxed)
    }

    /// Adds to a slot, together with what others add at the time. A caller that goes away leaves the
    /// change counted wholly or not at all.
    pub(crate) async fn add(
        &self,
        slot: Slot,
        amount: Amount,
        intent: Option<Intent>,
    ) -> Result<()> {
        let change = Change {
            slot,
            amount,
            intent,
        };
        let (position, done) = self.enqueue(change)?;
        let outcomes = done.await;
        outcomes
            .get(position)
            .cloned()
            .unwrap_or(Err(Error::OutcomeUnknown))
    }

    fn enqueue(&self, change: Change) -> Result<(usize, Shared<BoxFuture<'static, Outcomes>>)> {
        let mut state = self.inner.state();
        if state.closed {
            return Err(Error::Closed);
        }
        if let Some(gathering) = &state.gathering
            && let Some(changes) = &mut *gathering.group.changes()
            && changes.len() < MAX_GROUP
            && let Some(done) = gathering.done.upgrade()
        {
            changes.push(change);
            return Ok((changes.len() - 1, done));
        }
        let group = Arc::new(Group(Mutex::new(Some(vec![change]))));
        // Whoever waits holds the writer; if nobody does, nobody asks.
        let (inner, changes) = (Arc::downgrade(&self.inner), group.clone());
        let done = async move {
            match inner.upgrade() {
                Some(inner) => inner.write_group(&changes).await,
                None => Outcomes::default(),
            }
        };
        let done = done.boxed().shared();
        state.gathering = done.downgrade().map(|done| Gathering { group, done });
        Ok((0, done))
    }

    /// Writes what was handed out and may not be stored; then tells whether the slot covers `totals`.
    #[cfg(feature = "stats")]
    pub(crate) async fn covers(&self, slot: &Slot, totals: Totals) -> Result<bool> {
        let _turn = self.inner.turn.lock().await;
        let frozen = self
            .inner
            .state()
            .known
            .get(&slot.key)
            .is_some_and(|known| known.frozen);
        if frozen {
            return Err(Error::OutcomeUnknown);
        }
        first_error(self.inner.write_dirty().await)?;
        let stored = self.inner.stored(slot).await?;
        Ok(stored.covers(totals))
    }

    /// Writes what may not be stored yet and gives the slots up.
    pub(crate) async fn close(&self) -> Result<()> {
        let gathering = {
            let mut state = self.inner.state();
            state.closed = true;
            state.gathering.take()
        };
        if let Some(done) = gathering.and_then(|gathering| gathering.done.upgrade()) {
            done.await;
        }
        let _turn = self.inner.turn.lock().await;
        let failed = self.inner.write_dirty().await;
        self.inner
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first_error(failed)
    }
}

impl fmt::Debug for SlotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotWriter").finish_non_exhaustive()
    }
}

impl Group {
    fn len(&self) -> usize {
        self.changes().as_ref().map_or(0, Vec::len)
    }

    fn changes(&self) -> MutexGuard<'_, Option<Vec<Change>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stored(&self, slot: &Slot) -> Result<Totals> {
        let value = self.store.get(&slot.key).await?;
        // What is no total was not written by an owner of the slot, and is overwritten.
        Ok(value
            .and_then(|value| slot.encoding.decode(&value))
            .unwrap_or_default())
    }

    /// Lets those whose changes just went out join, for they may have more: without this, callers of
    /// slow commits fall into two halves, each of which waits for the other. It waits for a part of
    /// what the last commit took, which full groups win back.
    async fn gather(&self, group: &Group, last: &Turn) {
        if last.changes < 2 {
            return;
        }
        let all = group.len() + last.changes;
        let begun = Instant::now();
        for _ in 0..last.changes {
            if group.len() >= all || begun.elapsed() > last.took / 4 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// IMPORTANT: intents before totals; and what has intents before what has none, for of those that
    /// have none a failed write takes its amount back from the end.
    async fn write_group(&self, group: &Group) -> Outcomes {
        let mut turn = self.turn.lock().await;
        self.gather(group, &turn).await;
        let begun = Instant::now();
        let changes = group.changes().take().unwrap_or_default();
        turn.changes = changes.len();
        let mut outcomes: Vec<Result<()>> = changes.iter().map(|_| Ok(())).collect();
        if let Err(error) = self.load(&changes).await {
            outcomes.fill(Err(error));
            return Arc::new(outcomes);
        }
        let mut changes: Vec<(usize, Change)> = changes.into_iter().enumerate().collect();
        let (mut plain, mut intended) = (Vec::new(), Vec::new());
        for (position, change) in changes.drain(..) {
            match change.intent {
                Some(intent) => intended.push((position, change.slot, change.amount, intent)),
                None => plain.push((position, change.slot, change.amount)),
            }
        }
        let mut counted = Vec::with_capacity(intended.len());
        while let Some((_, _, _, first)) = intended.first() {
            let journal = first.journal.clone();
            let (same, rest) = intended
                .into_iter()
                .partition(|(_, _, _, intent)| Arc::ptr_eq(&intent.journal, &journal));
            intended = rest;
            counted.extend(self.write_intents(&journal, same, &mut outcomes).await);
        }
        let mut grown = Vec::with_capacity(plain.len());
        for (position, slot, amount) in plain {
            match self.hand_out(&slot, amount) {
                Ok((_, grew)) => grown.push((position, slot.key, grew)),
                Err(error) => set(&mut outcomes, position, Err(error)),
            }
        }
        let failed = self.write_dirty().await;
        let mut state = self.state();
        let counted = counted.into_iter().map(|(at, key)| (at, key, None));
        let grown = grown
            .into_iter()
            .map(|(at, key, grew)| (at, key, Some(grew)));
        for (position, key, grew) in counted.chain(grown) {
            let Some(known) = state.known.get_mut(&key) else {
                continue;
            };
            let error = match failed.get(&key) {
                Some(error) => error.clone(),
                // It was not written.
                None if known.frozen => Error::OutcomeUnknown,
                None => continue,
            };
            if let Some(grew) = grew {
                known.totals.shrink(grew);
            }
            set(&mut outcomes, position, Err(error));
        }
        if state.known.len() > MAX_REMEMBERED {
            state.known.retain(|_, known| known.frozen || known.dirty);
        }
        drop(state);
        turn.took = begun.elapsed();
        Arc::new(outcomes)
    }

    /// Stores the intents of changes of one journal; which of the changes may be written.
    async fn write_intents(
        &self,
        journal: &Journal,
        changes: Vec<(usize, Slot, Amount, Intent)>,
        outcomes: &mut [Result<()>],
    ) -> Vec<(usize, Key)> {
        let mut batch = Batch::with_capacity(changes.len());
        let mut grown = Vec::with_capacity(changes.len());
        for (position, slot, amount, intent) in changes {
            match self.hand_out(&slot, amount) {
                Ok((totals, grew)) => {
                    let mut row = intent.head;
                    row.extend(totals.to_bytes());
                    batch.put(intent.key, row);
                    grown.push((position, slot.key, grew));
                }
                Err(error) => set(outcomes, position, Err(error)),
            }
        }
        let Err(error) = journal.commit(batch).await else {
            return grown
                .into_iter()
                .map(|(position, key, _)| (position, key))
                .collect();
        };
        let unknown = matches!(
            error,
            Error::OutcomeUnknown | Error::Datastore(datastore_core::Error::OutcomeUnknown { .. })
        );
        let mut state = self.state();
        for (position, key, grew) in grown {
            if let Some(known) = state.known.get_mut(&key) {
                if unknown {
                    known.frozen = true;
                } else {
                    known.totals.shrink(grew);
                }
            }
            set(outcomes, position, Err(error.clone()));
        }
        Vec::new()
    }

    /// Reads the slots that are not known.
    async fn load(&self, changes: &[Change]) -> Result<()> {
        let unknown: Vec<&Slot> = {
            let state = self.state();
            let slots = changes.iter().map(|change| &change.slot);
            slots
                .filter(|slot| !state.known.contains_key(&slot.key))
                .collect()
        };
        for slot in unknown {
            let totals = self.stored(slot).await?;
            self.state().known.entry(slot.key.clone()).or_insert(Known {
                encoding: slot.encoding,
                totals,
                dirty: false,
                frozen: false,
            });
        }
        Ok(())
    }

    /// New totals of a slot that was loaded, and by what they grew.
    fn hand_out(&self, slot: &Slot, amount: Amount) -> Result<(Totals, Totals)> {
        let mut state = self.state();
        let State { known, dirty, .. } = &mut *state;
        let known = known.get_mut(&slot.key).ok_or(Error::OutcomeUnknown)?;
        if known.frozen {
            return Err(Error::OutcomeUnknown);
        }
        let grew = known.totals.grow(amount);
        if !std::mem::replace(&mut known.dirty, true) {
            dirty.push(slot.key.clone());
        }
        if grew != amount {
            self.saturated.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(slot = %slot.key, "a counter's total reached its end and stays there");
        }
        Ok((known.totals, grew))
    }

    /// Writes all that may not be stored; the slots of which that failed. Call it with the turn held.
    async fn write_dirty(&self) -> HashMap<Key, Error> {
        let mut failed = HashMap::new();
        let puts: Vec<(Key, Bytes)> = {
            let mut state = self.state();
            let State { known, dirty, .. } = &mut *state;
            let put = |key: &Key| {
                let known = known.get(key).filter(|known| !known.frozen)?;
                Some((key.clone(), known.encoding.encode(known.totals)))
            };
            dirty.iter().filter_map(put).collect()
        };
        let mut parts = vec![puts];
        while let Some(mut puts) = parts.pop() {
            if puts.is_empty() {
                continue;
            }
            let mut batch = Batch::with_capacity(puts.len());
            for (key, value) in &puts {
                batch.put(key.clone(), value.clone());
            }
            match self.store.write(batch).await {
                Ok(_) => {
                    let mut state = self.state();
                    let State { known, dirty, .. } = &mut *state;
                    for (key, _) in puts {
                        if let Some(known) = known.get_mut(&key) {
                            known.dirty = false;
                        }
                    }
                    dirty.retain(|key| known.get(key).is_some_and(|known| known.dirty));
                }
                Err(Error::DeltaTooLarge { .. }) if puts.len() > 1 => {
                    parts.push(puts.split_off(puts.len() / 2));
                    parts.push(puts);
                }
                Err(error) => failed.extend(puts.into_iter().map(|(key, _)| (key, error.clone()))),
            }
        }
        failed
    }
}

fn first_error(failed: HashMap<Key, Error>) -> Result<()> {
    failed.into_values().next().map_or(Ok(()), Err)
}

fn set(outcomes: &mut [Result<()>], position: usize, outcome: Result<()>) {
    if let Some(place) = outcomes.get_mut(position) {
        *place = outcome;
    }
}
