use std::fmt;

use datastore_core::Key;

use super::{Layout, Rate, Validate};

/// How a [`StatsStore`](super::StatsStore) behaves.
#[derive(Clone)]
#[non_exhaustive]
pub struct StatsOptions {
    /// Where counters lie. Default: [`Layout::Slots`].
    pub layout: Layout,
    /// How many slots of counters are kept in memory, so that they are read without the store; about
    /// 200 bytes each. A counter of more than half of them is never kept. Default: 131,072.
    pub cache_slots: usize,
    /// How many updates are accepted from callers; one more is
    /// [`RateLimited`](crate::Error::RateLimited). Default: no limit.
    pub rate: Option<Rate>,
    /// Asked before each update is made. Default: all are.
    pub validate: Option<Validate>,
}

impl Default for StatsOptions {
    fn default() -> Self {
        Self {
            layout: Layout::Slots,
            cache_slots: 131_072,
            rate: None,
            validate: None,
        }
    }
}

impl fmt::Debug for StatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsOptions")
            .field("layout", &self.layout)
            .field("cache_slots", &self.cache_slots)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// How a repo keeps who did what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepoOptions {
    /// Where its rows lie in the local datastore. Repos in one datastore lie apart by themselves.
    /// Default: `/stats`.
    pub root: Key,
    /// Make the intent of an action durable before its count is written. Set it with
    /// [`Options::durable`](crate::Options::durable) of the replica: then record and count agree after
    /// a power loss too. Without it a power loss may leave an action counted twice, or not counted,
    /// among those of the last moments. Default: off.
    pub durable: bool,
}

impl Default for RepoOptions {
    fn default() -> Self {
        Self {
            root: Key::new("/stats"),
            durable: false,
        }
    }
}
