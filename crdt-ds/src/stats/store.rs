use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datastore_core::Key;
use futures::stream::{self, Stream};
use futures::{FutureExt, StreamExt};

use super::count_cache::{self, CountCache, Countable};
use super::guard::Guard;
use super::layout::KeySpace;
use super::{Layout, Stat, StatsOptions, Sum, Target, Totals, TweetStats, Update, top};
use crate::types::{Intent, Slot, SlotWriter};
use crate::{CrdtDatastore, Event, From, Result};

/// Counters of subjects, such as the likes of a tweet, replicated.
///
/// A write costs the same however large the count is; a read costs a look at each node's slot, or one
/// look into memory where the counter was read lately. Clones are one store. The keys and what is
/// counted when: [the module](super).
///
/// Dropping the future of a write leaves it counted wholly or not at all, perhaps a moment later, at
/// the latest on [`close`](Self::close).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use crdt_ds::CrdtDatastore;
/// use crdt_ds::stats::{Stat, StatsOptions, StatsStore};
/// use datastore_backends::MemoryDatastore;
///
/// let store = CrdtDatastore::builder(MemoryDatastore::new()).open().await?;
/// let stats = StatsStore::open(store.clone(), "net", "node-1", StatsOptions::default()).await?;
/// stats.add("tweet-1", &Stat::LIKES, 2).await?;
/// stats.subtract("tweet-1", &Stat::LIKES, 1).await?;
/// assert_eq!(stats.get("tweet-1", &Stat::LIKES).await?, 1);
/// # stats.close().await?; store.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct StatsStore {
    inner: Arc<Inner>,
}

struct Inner {
    store: CrdtDatastore,
    space: Arc<KeySpace>,
    writer: SlotWriter,
    cache: CountCache,
    guard: Guard,
}

/// What a [`StatsStore`] has seen since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatsInfo {
    /// Reads that found their counter in memory.
    pub cache_hits: u64,
    /// Reads that went to the store.
    pub cache_misses: u64,
    /// Updates of which a part was not counted, because this node's total had reached `u64::MAX`.
    pub saturated: u64,
}

impl StatsStore {
    /// The counters of a network in `store`, written as `node`. The replica stays the caller's to
    /// close, after this.
    ///
    /// # Errors
    /// [`NodeOpen`](crate::Error::NodeOpen) if the node is open on this replica already;
    /// [`EmptyName`](crate::Error::EmptyName), [`NameTooLong`](crate::Error::NameTooLong) for a name;
    /// [`Option`](crate::Error::Option) for a rate that lets nothing through.
    pub async fn open(
        store: CrdtDatastore,
        namespace: &str,
        node: &str,
        options: StatsOptions,
    ) -> Result<Self> {
        let generation = store.info().generation;
        let space = KeySpace::new(options.layout, namespace, node, &generation)?;
        let space = Arc::new(space);
        let guard = Guard::new(options.rate, options.validate)?;
        let writer = SlotWriter::open(store.clone(), space.root(), &space.node)?;
        let cache = CountCache::new(store.clone(), space.clone(), options.cache_slots);
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                space,
                writer,
                cache,
                guard,
            }),
        })
    }

    /// Adds `n` to a stat of a subject. Calls at one time share a block.
    ///
    /// # Errors
    /// [`RateLimited`](crate::Error::RateLimited), [`Refused`](crate::Error::Refused) by the guards;
    /// [`EmptyName`](crate::Error::EmptyName), [`NameTooLong`](crate::Error::NameTooLong) for an id;
    /// [`Closed`](crate::Error::Closed); else as [`CrdtDatastore::write`]. Nothing was added then,
    /// unless the outcome is unknown.
    pub async fn add(&self, subject: &str, stat: &Stat, n: u64) -> Result<()> {
        self.update(subject, stat, Totals { up: n, down: 0 }).await
    }

    /// Subtracts `n`. A count below zero shows as zero.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn subtract(&self, subject: &str, stat: &Stat, n: u64) -> Result<()> {
        self.update(subject, stat, Totals { up: 0, down: n }).await
    }

    async fn update(&self, subject: &str, stat: &Stat, amount: Totals) -> Result<()> {
        let slot = self.slot(subject, stat, amount)?;
        self.check(subject, stat, amount)?;
        if amount == Totals::default() {
            return Ok(());
        }
        self.grow(slot, amount, None).await
    }

    /// The count of a stat: the sum over all nodes, never below zero.
    ///
    /// # Errors
    /// What the datastore said; [`EmptyName`](crate::Error::EmptyName),
    /// [`NameTooLong`](crate::Error::NameTooLong) for an id.
    pub async fn get(&self, subject: &str, stat: &Stat) -> Result<u64> {
        let counter = self.inner.space.counter(subject, stat)?;
        Ok(self.inner.cache.sum(&counter).await?.count())
    }

    /// The four named stats.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_all(&self, subject: &str) -> Result<TweetStats> {
        Ok(TweetStats {
            likes: self.get(subject, &Stat::LIKES).await?,
            retweets: self.get(subject, &Stat::RETWEETS).await?,
            replies: self.get(subject, &Stat::REPLIES).await?,
            views: self.get(subject, &Stat::VIEWS).await?,
        })
    }

    /// What each node added and subtracted, over all its generations. Reads the store.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn breakdown(&self, subject: &str, stat: &Stat) -> Result<BTreeMap<String, Sum>> {
        let counter = self.inner.space.counter(subject, stat)?;
        self.nodes(&counter).await
    }

    async fn nodes(&self, counter: &Key) -> Result<BTreeMap<String, Sum>> {
        let mut nodes: BTreeMap<String, Sum> = BTreeMap::new();
        for (slot, totals) in self.inner.cache.load(counter).await? {
            // One that nobody's escape made still counts.
            let node = self.inner.space.node_of(&slot);
            let node = node.unwrap_or_else(|| slot.base_namespace().to_owned());
            nodes.entry(node).or_default().add(totals);
        }
        Ok(nodes)
    }

    /// Makes this node's part of any other counter `value`, by adding or subtracting the difference to
    /// what all its generations that are here come to. `key` lies below the namespace, in
    /// [`Layout::IncrDecr`] it is the data key; `/{subject}/{stat}` is also that stat. Not to be called
    /// for one counter twice at a time.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn put(&self, key: &Key, value: u64) -> Result<()> {
        let counter = self.inner.space.counter_at(key)?;
        let node = crate::types::unescape(&self.inner.space.node).unwrap_or_default();
        let ours = self
            .nodes(&counter)
            .await?
            .remove(&node)
            .unwrap_or_default();
        let target = u128::from(value) + ours.down;
        let part = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
        let amount = Totals {
            up: part(target.saturating_sub(ours.up)),
            down: part(ours.up.saturating_sub(target)),
        };
        self.inner.guard.check(&Update {
            target: Target::Key(key),
            up: amount.up,
            down: amount.down,
        })?;
        if amount == Totals::default() {
            return Ok(());
        }
        self.grow(self.inner.space.slot(&counter, amount), amount, None)
            .await
    }

    /// The count of any other counter, see [`put`](Self::put).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_aggregated(&self, key: &Key) -> Result<u64> {
        let counter = self.inner.space.counter_at(key)?;
        Ok(self.inner.cache.sum(&counter).await?.count())
    }

    /// The `n` subjects with the highest counts above zero, the highest first, of equal ones in the
    /// order of their ids. Reads every slot of the namespace, and holds `n` subjects.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn top(&self, stat: &Stat, n: usize) -> Result<Vec<(String, u64)>> {
        top::top(&self.inner.store, &self.inner.space, stat, n).await
    }

    /// The counts of a subject: now, and after each change of them. Changes that come faster than they
    /// are taken are given as one. It lives until the replica is closed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn watch(
        &self,
        subject: &str,
    ) -> Result<impl Stream<Item = Result<TweetStats>> + Send + 'static + use<>> {
        let mut counters = Vec::with_capacity(Stat::NAMED.len());
        for stat in &Stat::NAMED {
            counters.push(self.inner.space.counter(subject, stat)?);
        }
        let root = match self.inner.space.layout {
            // The subject's own keys.
            Layout::Slots => counters.first().map_or_else(Key::root, Key::parent),
            Layout::IncrDecr => self.inner.space.root().clone(),
        };
        let watch = Watch {
            changes: self.inner.store.subscribe(&root, From::Now).boxed(),
            store: self.inner.store.clone(),
            space: self.inner.space.clone(),
            counters,
            last: None,
        };
        Ok(stream::unfold(watch, |mut watch| async move {
            let next = watch.next().await.transpose()?;
            Some((next, watch))
        }))
    }

    /// What it has seen since it was opened.
    pub fn info(&self) -> StatsInfo {
        let (cache_hits, cache_misses) = self.inner.cache.hits_and_misses();
        StatsInfo {
            cache_hits,
            cache_misses,
            saturated: self.inner.writer.saturated(),
        }
    }

    /// Writes what is under way, takes no more updates, and lets the node be opened again. Close it
    /// before the replica. Closing twice is no error.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn close(&self) -> Result<()> {
        let written = self.inner.writer.close().await;
        self.inner.cache.close().await;
        written
    }

    /// Where `amount`, which adds or else subtracts, is counted.
    pub(super) fn slot(&self, subject: &str, stat: &Stat, amount: Totals) -> Result<Slot> {
        let counter = self.inner.space.counter(subject, stat)?;
        Ok(self.inner.space.slot(&counter, amount))
    }

    /// The slot at a key that an intent names.
    pub(super) fn slot_at(&self, key: Key) -> Slot {
        self.inner.space.slot_at(key)
    }

    pub(super) fn check(&self, subject: &str, stat: &Stat, amount: Totals) -> Result<()> {
        self.inner.guard.check(&Update {
            target: Target::Stat { subject, stat },
            up: amount.up,
            down: amount.down,
        })
    }

    /// Past the guards.
    pub(super) async fn grow(
        &self,
        slot: Slot,
        amount: Totals,
        intent: Option<Intent>,
    ) -> Result<()> {
        self.inner.writer.add(slot, amount, intent).await
    }

    /// Whether what an intent names was counted.
    pub(super) async fn covers(&self, slot: &Slot, totals: Totals) -> Result<bool> {
        self.inner.writer.covers(slot, totals).await
    }
}

impl fmt::Debug for StatsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsStore")
            .field("space", &self.inner.space)
            .finish_non_exhaustive()
    }
}

/// A subject that is watched. It reads the store, for the cache may be behind the events given here.
struct Watch {
    store: CrdtDatastore,
    space: Arc<KeySpace>,
    changes: stream::BoxStream<'static, Result<Event>>,
    /// Of the four named stats.
    counters: Vec<Key>,
    last: Option<TweetStats>,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<TweetStats>> {
        loop {
            if self.last.is_some() {
                let Some(event) = self.changes.next().await else {
                    return Ok(None);
                };
                let mut concerned = self.concerns(&event?);
                while let Some(Some(event)) = self.changes.next().now_or_never() {
                    concerned |= self.concerns(&event?);
                }
                if !concerned {
                    continue;
                }
            }
            let now = read(&self.store, &self.space, &self.counters).await?;
            if self.last != Some(now) {
                self.last = Some(now);
                return Ok(self.last);
            }
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Changed(change) => {
                let counter = self.space.counter_of(&change.key);
                counter.is_some_and(|counter| self.counters.contains(&counter))
            }
            Event::Reset(_) => true,
        }
    }
}

/// The counts of the four named stats, whose counters these are.
async fn read(store: &CrdtDatastore, space: &KeySpace, counters: &[Key]) -> Result<TweetStats> {
    let mut counts = [0; 4];
    for (count, counter) in counts.iter_mut().zip(counters) {
        let slots = count_cache::load(store, space, counter).await?;
        *count = slots.into_values().collect::<Sum>().count();
    }
    let [likes, retweets, replies, views] = counts;
    Ok(TweetStats {
        likes,
        retweets,
        replies,
        views,
    })
}
