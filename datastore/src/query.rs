use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;

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

/// Keeps the entries for which it holds. It always sees the value, also in a query for keys only.
#[derive(Clone)]
pub enum Filter {
    /// By key.
    Key(Arc<dyn Fn(&Key) -> bool + Send + Sync>),
    /// By key and value.
    Value(Arc<dyn Fn(&Key, &[u8]) -> bool + Send + Sync>),
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
