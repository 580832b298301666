//! What to read of a store, and the engine that backends and wrappers answer it with.

mod apply;
mod interval;
mod translate;

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

pub use self::interval::Interval;
use crate::{Key, Result};

/// What [`Datastore::query`](crate::Datastore::query) returns: entries in order, or the error that
/// ended them.
pub type QueryStream = BoxStream<'static, Result<Entry>>;

/// One entry of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value; `None` in a query for keys only.
    pub value: Option<Bytes>,
    /// The value's size in bytes, if the query asked for sizes.
    pub size: Option<u64>,
}

/// Whether to keep the entry of a key.
pub type KeyFilter = dyn Fn(&Key) -> bool + Send + Sync;

/// Whether to keep the entry of a key and a value.
pub type ValueFilter = dyn Fn(&Key, &[u8]) -> bool + Send + Sync;

/// Keeps the entries for which it holds. It always sees the value, also in a query for keys only.
#[derive(Clone)]
pub enum Filter {
    /// By key.
    Key(Arc<KeyFilter>),
    /// By key and value.
    Value(Arc<ValueFilter>),
}

/// Compares two entries, each a key and its value.
pub type CompareEntries = dyn Fn((&Key, &[u8]), (&Key, &[u8])) -> Ordering + Send + Sync;

/// How entries are ordered. Entries that all orders find equal come in key order.
#[derive(Clone)]
pub enum Order {
    /// By key, bytes ascending.
    Key,
    /// By key, bytes descending.
    KeyDescending,
    /// By value, bytes ascending.
    Value,
    /// By value, bytes descending.
    ValueDescending,
    /// By a function of two entries.
    By(Arc<CompareEntries>),
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key(_)",
            Self::Value(_) => "Value(_)",
        })
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "Key",
            Self::KeyDescending => "KeyDescending",
            Self::Value => "Value",
            Self::ValueDescending => "ValueDescending",
            Self::By(_) => "By(_)",
        })
    }
}

/// Which entries to return, and how.
///
/// The parts apply in this order: prefix, range and start-after select keys; filters select entries;
/// orders (or key order, or reverse key order) arrange them; offset skips; limit ends.
///
/// Entries in key order, either way, are read as the stream is polled, and none that lie beyond the
/// limit. An order by value or by a function reads all that is selected before the first entry comes
/// out, and holds the best `offset + limit` of them in memory: all of them where there is no limit.
///
/// ```
/// use datastore_core::{Key, Query};
///
/// let page = Query::new().prefix(Key::new("/users")).start_after(Key::new("/users/lia")).limit(50);
/// let newest = Query { reverse: true, limit: Some(1), ..Query::default() };
/// ```
#[derive(Debug, Clone)]
pub struct Query {
    /// Strict children of this key: `/foo` selects `/foo/bar`, neither `/foobar` nor `/foo`. The
    /// root selects every key, itself included.
    pub prefix: Key,
    /// Keys at or after (or strictly after) this.
    pub start: Bound<Key>,
    /// Keys at or before (or strictly before) this.
    pub end: Bound<Key>,
    /// Keys that come strictly after this one in the direction of the scan: greater, or with
    /// `reverse` lesser. For paging: the last key of the page before.
    pub start_after: Option<Key>,
    /// Key order, descending. Has no effect on `orders`.
    pub reverse: bool,
    /// All of them must hold.
    pub filters: Vec<Filter>,
    /// The first that tells two entries apart decides.
    pub orders: Vec<Order>,
    /// How many entries to skip.
    pub offset: usize,
    /// How many entries to return at the most.
    pub limit: Option<usize>,
    /// Leave values out.
    pub keys_only: bool,
    /// Give sizes.
    pub sizes: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            prefix: Key::root(),
            start: Bound::Unbounded,
            end: Bound::Unbounded,
            start_after: None,
            reverse: false,
            filters: Vec::new(),
            orders: Vec::new(),
            offset: 0,
            limit: None,
            keys_only: false,
            sizes: false,
        }
    }
}

impl Query {
    /// Every entry, in key order.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects strict children of `prefix`; the root selects every key.
    #[must_use]
    pub fn prefix(mut self, prefix: Key) -> Self {
        self.prefix = prefix;
        self
    }

    /// Selects keys within `range`.
    #[must_use]
    pub fn range(mut self, range: impl RangeBounds<Key>) -> Self {
        self.start = range.start_bound().cloned();
        self.end = range.end_bound().cloned();
        self
    }

    /// Selects keys that come strictly after `key` in the direction of the scan.
    #[must_use]
    pub fn start_after(mut self, key: Key) -> Self {
        self.start_after = Some(key);
        self
    }

    /// Turns key order round.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Keeps only entries whose key passes `filter`, and all filters before it.
    #[must_use]
    pub fn filter_keys(mut self, filter: impl Fn(&Key) -> bool + Send + Sync + 'static) -> Self {
        self.filters.push(Filter::Key(Arc::new(filter)));
        self
    }

    /// Keeps only entries that pass `filter`, and all filters before it.
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(&Key, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        self.filters.push(Filter::Value(Arc::new(filter)));
        self
    }

    /// Orders entries by `order` where all orders before it find them equal.
    #[must_use]
    pub fn order_by(mut self, order: Order) -> Self {
        self.orders.push(order);
        self
    }

    /// Skips the first `count` entries.
    #[must_use]
    pub fn offset(mut self, count: usize) -> Self {
        self.offset = count;
        self
    }

    /// Ends after `count` entries.
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        self.limit = Some(count);
        self
    }

    /// Leaves values out.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Gives sizes.
    #[must_use]
    pub fn with_sizes(mut self) -> Self {
        self.sizes = true;
        self
    }
}
