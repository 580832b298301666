use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datastore_core::Key;

use super::count_cache::{CountCache, Countable};
use super::guard::Guard;
use super::{Members, Stat, StatsOptions, Target, Totals, Update};
use crate::types::{OrSet, escape};
use crate::{CrdtDatastore, Result};

/// Changes of one tweet exclude each other; those that share a lock by chance only wait.
const LOCKS: usize = 256;

/// Sets of users, one a tweet.
pub(super) struct ReplicatedLikes {
    store: CrdtDatastore,
    root: Key,
    locks: Vec<Arc<tokio::sync::Mutex<()>>>,
    cache: CountCache,
    guard: Guard,
}

/// Members are slots that count one.
struct CountedMembers {
    root: Key,
}

impl Countable for CountedMembers {
    fn root(&self) -> &Key {
        &self.root
    }

    fn parents_scanned(&self, set: &Key) -> Vec<Key> {
        vec![set.clone()]
    }

    fn counter_of(&self, member: &Key) -> Option<Key> {
        let set = member.parent();
        (set.parent() == self.root).then_some(set)
    }

    fn totals(&self, _member: &Key, _tag: &[u8]) -> Option<Totals> {
        Some(Totals { up: 1, down: 0 })
    }
}

impl ReplicatedLikes {
    pub(super) fn open(
        store: CrdtDatastore,
        namespace: &str,
        options: StatsOptions,
    ) -> Result<Self> {
        let root = Key::new(escape("network namespace", namespace)?);
        let members = Arc::new(CountedMembers { root: root.clone() });
        Ok(Self {
            guard: Guard::new(options.rate, options.validate)?,
            cache: CountCache::new(store.clone(), members, options.cache_slots),
            locks: std::iter::repeat_with(Arc::default).take(LOCKS).collect(),
            store,
            root,
        })
    }

    fn key(&self, tweet: &str) -> Result<Key> {
        Ok(self.root.child_str(&escape("subject", tweet)?))
    }

    fn likes(&self, tweet: &str) -> Result<OrSet> {
        let mut hasher = DefaultHasher::new();
        tweet.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        let turn = self.locks.get(index).cloned().unwrap_or_default();
        Ok(OrSet::sharing(self.store.clone(), self.key(tweet)?, turn))
    }

    pub(super) async fn set(&self, tweet: &str, user: &str, likes: bool) -> Result<()> {
        escape("user id", user)?;
        let set = self.likes(tweet)?;
        self.guard.check(&Update {
            target: Target::Stat {
                subject: tweet,
                stat: &Stat::LIKES,
            },
            up: u64::from(likes),
            down: u64::from(!likes),
        })?;
        if likes {
            set.add(user).await?;
        } else {
            set.remove(user).await?;
        }
        Ok(())
    }

    pub(super) async fn has(&self, tweet: &str, user: &str) -> Result<bool> {
        self.likes(tweet)?.contains(user).await
    }

    pub(super) async fn likers(
        &self,
        tweet: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Members> {
        self.likes(tweet)?.members(cursor, limit).await
    }

    pub(super) async fn count(&self, tweet: &str) -> Result<u64> {
        Ok(self.cache.sum(&self.key(tweet)?).await?.count())
    }

    pub(super) async fn close(&self) {
        self.cache.close().await;
    }
}
