//! Counts in memory, kept right by the stream of changes.
//!
//! An entry holds each slot of a counter, so an event sets a slot and is harmless when the entry
//! already has it. Events are taken in by whoever reads, before reading: a write that returned has put
//! its event into the stream, so a reader sees its own writes. A task takes them in meanwhile, so
//! that the stream does not fall behind when nobody reads.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use datastore_core::{Datastore, Key, Query};
use futures::stream::BoxStream;
use futures::{Future, StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use crate::types::{Sum, Totals};
use crate::{CrdtDatastore, Event, From, Result};

/// The most events kept for a counter while it is read from the store; then it is not remembered.
const MAX_EVENTS_WHILE_LOADING: usize = 4096;

/// How keys are counters.
pub(super) trait Countable: Send + Sync + 'static {
    /// Above all slots.
    fn root(&self) -> &Key;
    /// Above the slots of a counter.
    fn parents_scanned(&self, counter: &Key) -> Vec<Key>;
    /// The counter of the slot at a key.
    fn counter_of(&self, slot: &Key) -> Option<Key>;
    /// What a slot's value says.
    fn totals(&self, slot: &Key, value: &[u8]) -> Option<Totals>;
}

/// The slots of a counter, by key.
pub(super) type Slots = HashMap<Key, Totals>;

#[derive(Default)]
struct Entry {
    slots: Slots,
    sum: Sum,
}

impl Entry {
    fn set(&mut self, slot: Key, totals: Option<Totals>) {
        let old = match totals {
            Some(totals) => {
                self.sum.add(totals);
                self.slots.insert(slot, totals)
            }
            None => self.slots.remove(&slot),
        };
        if let Some(old) = old {
            self.sum.remove(old);
        }
    }
}

/// A counter that is being read from the store.
struct Loading {
    ticket: u64,
    events: Vec<(Key, Option<Totals>)>,
}

struct Feed {
    countable: Arc<dyn Countable>,
    /// `None` once it ended; then nothing is remembered any more.
    changes: Option<BoxStream<'static, Result<Event>>>,
    /// The task's: whoever polls the stream polls it for the task.
    waker: Waker,
    /// Read lately; and before that. When the first is full it becomes the second, which is dropped.
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_slots: usize,
    /// How many slots `young` may have.
    half: usize,
    loading: HashMap<Key, Loading>,
    tickets: u64,
    hits: u64,
    misses: u64,
}

/// Sums of counters.
pub(super) struct CountCache {
    store: CrdtDatastore,
    countable: Arc<dyn Countable>,
    feed: Arc<Mutex<Feed>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl CountCache {
    /// Remembers at most `slots` slots. Needs a runtime, for its task.
    pub(super) fn new(store: CrdtDatastore, countable: Arc<dyn Countable>, slots: usize) -> Self {
        let changes = store.subscribe(countable.root(), From::Now);
        let feed = Arc::new(Mutex::new(Feed {
            countable: countable.clone(),
            changes: Some(changes.boxed()),
            waker: Waker::noop().clone(),
            young: HashMap::new(),
            old: HashMap::new(),
            young_slots: 0,
            half: slots / 2,
            loading: HashMap::new(),
            tickets: 0,
            hits: 0,
            misses: 0,
        }));
        let fed = feed.clone();
        let task = tokio::spawn(poll_fn(move |context| {
            let mut feed = lock(&fed);
            feed.waker.clone_from(context.waker());
            feed.take_in();
            match feed.changes {
                Some(_) => Poll::Pending,
                None => Poll::Ready(()),
            }
        }));
        Self {
            store,
            countable,
            feed,
            task: Mutex::new(Some(task)),
        }
    }

    /// The sum of a counter's slots.
    pub(super) async fn sum(&self, counter: &Key) -> Result<Sum> {
        let ticket = {
            let mut feed = lock(&self.feed);
            feed.take_in();
            if let Some(sum) = feed.recall(counter) {
                return Ok(sum);
            }
            feed.begin(counter)
        };
        // Withdraws the ticket if this future is dropped.
        let ticket = ticket.map(|ticket| Ticket {
            feed: &self.feed,
            counter,
            ticket,
        });
        let slots = self.load(counter).await?;
        let Some(ticket) = ticket else {
            return Ok(slots.into_values().collect());
        };
        let mut feed = lock(ticket.feed);
        feed.take_in();
        let sum = feed.finish(counter, ticket.ticket, slots);
        drop(feed);
        Ok(sum)
    }

    /// A counter's slots, from the store.
    pub(super) async fn load(&self, counter: &Key) -> Result<Slots> {
        load(&self.store, &*self.countable, counter).await
    }

    /// How many reads found their counter here, and how many did not.
    pub(super) fn hits_and_misses(&self) -> (u64, u64) {
        let feed = lock(&self.feed);
        (feed.hits, feed.misses)
    }

    /// Ends the task; from then on every read goes to the store.
    pub(super) async fn close(&self) {
        lock(&self.feed).end();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // It only fails if it panicked, which is not the caller's to handle.
            let _ = task.await;
        }
    }
}

impl Drop for CountCache {
    fn drop(&mut self) {
        lock(&self.feed).end();
    }
}

/// The slots of a counter, from the store, in one snapshot for each key scanned.
pub(super) async fn load(
    store: &CrdtDatastore,
    countable: &dyn Countable,
    counter: &Key,
) -> Result<Slots> {
    let mut slots = Slots::new();
    for parent in countable.parents_scanned(counter) {
        let mut entries = store.query(Query::new().prefix(parent)).await?;
        while let Some(entry) = entries.try_next().await? {
            if countable.counter_of(&entry.key).as_ref() == Some(counter)
                && let Some(value) = &entry.value
                && let Some(totals) = countable.totals(&entry.key, value)
            {
                slots.insert(entry.key, totals);
            }
        }
    }
    Ok(slots)
}

fn lock(feed: &Mutex<Feed>) -> MutexGuard<'_, Feed> {
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Permission to remember a counter once it is read.
struct Ticket<'a> {
    feed: &'a Mutex<Feed>,
    counter: &'a Key,
    ticket: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut feed = lock(self.feed);
        let ours = feed.loading.get(self.counter);
        if ours.is_some_and(|loading| loading.ticket == self.ticket) {
            feed.loading.remove(self.counter);
        }
    }
}

impl Feed {
    /// Takes in all events that have come.
    fn take_in(&mut self) {
        while let Some(changes) = &mut self.changes {
            // Not subject to the caller's budget, or a task that reads much would read stale counts.
            let next = pin!(tokio::task::unconstrained(changes.next()));
            match next.poll(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(Event::Changed(change)))) => {
                    let Some(counter) = self.countable.counter_of(&change.key) else {
                        continue;
                    };
                    let value = change.new.as_deref();
                    let totals = value.and_then(|value| self.countable.totals(&change.key, value));
                    self.apply(&counter, change.key, totals);
                }
                Poll::Ready(Some(Ok(Event::Reset(_)))) => self.forget(),
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(%error, "the stream of changes ended: counts are read from the store");
                    self.end();
                }
                Poll::Ready(None) => self.end(),
            }
        }
    }

    fn apply(&mut self, counter: &Key, slot: Key, totals: Option<Totals>) {
        if let Some(loading) = self.loading.get_mut(counter) {
            if loading.events.len() < MAX_EVENTS_WHILE_LOADING {
                loading.events.push((slot, totals));
            } else {
                self.loading.remove(counter);
            }
            return;
        }
        let entry = match self.young.get_mut(counter) {
            Some(entry) => Some((entry, true)),
            None => self.old.get_mut(counter).map(|entry| (entry, false)),
        };
        if let Some((entry, young)) = entry {
            let before = entry.slots.len();
            entry.set(slot, totals);
            if young {
                self.young_slots = (self.young_slots + entry.slots.len()).saturating_sub(before);
            }
        }
    }

    fn recall(&mut self, counter: &Key) -> Option<Sum> {
        if let Some(entry) = self.young.get(counter) {
            self.hits += 1;
            return Some(entry.sum);
        }
        let Some(entry) = self.old.remove(counter) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        let sum = entry.sum;
        self.remember(counter, entry);
        Some(sum)
    }

    /// Events of the counter are kept from now on, unless somebody reads it already.
    fn begin(&mut self, counter: &Key) -> Option<u64> {
        if self.changes.is_none() || self.loading.contains_key(counter) {
            return None;
        }
        self.tickets += 1;
        let loading = Loading {
            ticket: self.tickets,
            events: Vec::new(),
        };
        self.loading.insert(counter.clone(), loading);
        Some(self.tickets)
    }

    /// The sum of what was read and of the events since.
    fn finish(&mut self, counter: &Key, ticket: u64, slots: Slots) -> Sum {
        let mut entry = Entry {
            sum: slots.values().copied().collect(),
            slots,
        };
        match self.loading.remove(counter) {
            Some(loading) if loading.ticket == ticket => {
                for (slot, totals) in loading.events {
                    entry.set(slot, totals);
                }
                let sum = entry.sum;
                self.remember(counter, entry);
                sum
            }
            // Withdrawn: it changed too often, or all was forgotten.
            Some(other) => {
                self.loading.insert(counter.clone(), other);
                entry.sum
            }
            None => entry.sum,
        }
    }

    fn remember(&mut self, counter: &Key, entry: Entry) {
        // A counter without slots takes room too.
        let size = entry.slots.len().max(1);
        if size > self.half {
            return;
        }
        if self.young_slots + size > self.half {
            self.old = std::mem::take(&mut self.young);
            self.young_slots = 0;
        }
        self.young_slots += size;
        self.young.insert(counter.clone(), entry);
    }

    fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_slots = 0;
        self.loading.clear();
    }

    fn end(&mut self) {
        self.changes = None;
        self.forget();
        self.waker.wake_by_ref();
    }
}
