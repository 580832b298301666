use std::ops::{Bound, RangeBounds};

use bytes::Bytes;

use super::Query;
use crate::Key;

/// The keys between two bounds, in byte order: what a backend scans for a query. Never empty by its
/// bounds, so an ordered map's `range` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    start: Bound<Bytes>,
    end: Bound<Bytes>,
}

impl Interval {
    /// The keys between `start` and `end`; `None` if there can be none.
    pub fn new(start: Bound<Bytes>, end: Bound<Bytes>) -> Option<Self> {
        use Bound::{Excluded, Included, Unbounded};
        let empty = match (&start, &end) {
            (Unbounded, _) | (_, Unbounded) => false,
            (Included(start), Included(end)) => start > end,
            (Included(start) | Excluded(start), Included(end) | Excluded(end)) => start >= end,
        };
        (!empty).then_some(Self { start, end })
    }

    /// The lower bound.
    pub fn start(&self) -> Bound<&[u8]> {
        self.start.as_ref().map(AsRef::as_ref)
    }

    /// The upper bound.
    pub fn end(&self) -> Bound<&[u8]> {
        self.end.as_ref().map(AsRef::as_ref)
    }

    /// Both, as `range` methods take them.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start(), self.end())
    }

    /// Whether `key` lies within.
    pub fn contains(&self, key: &Key) -> bool {
        RangeBounds::<[u8]>::contains(&self.bounds(), key.as_bytes())
    }

    /// What is left once a scan has returned `key`; `None` if nothing can be.
    pub fn after(self, key: &Key, descending: bool) -> Option<Self> {
        let key = Bound::Excluded(key.clone().into_bytes());
        if descending {
            Self::new(self.start, key)
        } else {
            Self::new(key, self.end)
        }
    }
}

impl Query {
    /// The keys to scan: prefix, range and start-after in one. `None` if nothing can be selected.
    ///
    /// ```
    /// use datastore_core::{Key, Query};
    ///
    /// let interval = Query::new().prefix(Key::new("/foo")).interval().unwrap();
    /// assert!(interval.contains(&Key::new("/foo/bar")));
    /// ```
    pub fn interval(&self) -> Option<Interval> {
        let (start, end) = self.key_bounds();
        let mut start = start.map(Key::into_bytes);
        let mut end = end.map(Key::into_bytes);
        if !self.prefix.is_root() {
            // Strict children of `/foo` are the keys from `/foo/` up to, without, `/foo0`: `0` is the
            // byte after `/`. That a child is longer than `/foo/` needs no care: no key ends in `/`.
            let first = [self.prefix.as_bytes(), b"/"].concat().into();
            let past = [self.prefix.as_bytes(), b"0"].concat().into();
            start = later_start(start, Bound::Included(first));
            end = earlier_end(end, Bound::Excluded(past));
        }
        Interval::new(start, end)
    }

    /// Range and start-after in one.
    pub(super) fn key_bounds(&self) -> (Bound<Key>, Bound<Key>) {
        let (start, end) = (self.start.clone(), self.end.clone());
        match self.start_after.clone().map(Bound::Excluded) {
            None => (start, end),
            Some(after) if self.reverse => (start, earlier_end(end, after)),
            Some(after) => (later_start(start, after), end),
        }
    }
}

/// The lower bound that admits less.
pub(super) fn later_start<T: Ord>(a: Bound<T>, b: Bound<T>) -> Bound<T> {
    match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x > y {
                a
            } else {
                b
            }
        }
        (Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x >= y {
                a
            } else {
                b
            }
        }
    }
}

/// The upper bound that admits less.
pub(super) fn earlier_end<T: Ord>(a: Bound<T>, b: Bound<T>) -> Bound<T> {
    match (&a, &b) {
        (Bound::Unbounded, _) => b,
        (_, Bound::Unbounded) => a,
        (Bound::Included(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x < y {
                a
            } else {
                b
            }
        }
        (Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            if x <= y {
                a
            } else {
                b
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(query: &Query) -> Vec<&'static str> {
        let keys = [
            "/", "/foo", "/foo!", "/foo/a", "/foo/b", "/foo/b/c", "/foo0", "/foobar",
        ];
        let Some(interval) = query.interval() else {
            return Vec::new();
        };
        keys.into_iter()
            .filter(|key| interval.contains(&Key::new(key)))
            .collect()
    }

    #[test]
    fn a_prefix_selects_strict_children_and_the_root_everything() {
        assert_eq!(selected(&Query::new()).len(), 8);
        let foo = Query::new().prefix(Key::new("/foo"));
        assert_eq!(selected(&foo), ["/foo/a", "/foo/b", "/foo/b/c"]);
    }

    #[test]
    fn prefix_range_and_start_after_fold_into_one_interval() {
        let foo = Query::new().prefix(Key::new("/foo"));
        let after = foo.clone().start_after(Key::new("/foo/b"));
        assert_eq!(selected(&after), ["/foo/b/c"]);
        assert_eq!(selected(&after.reversed()), ["/foo/a"]);
        let range = foo.clone().range(Key::new("/foo/b")..Key::new("/foo/b/c"));
        assert_eq!(selected(&range), ["/foo/b"]);
        assert_eq!(selected(&range.start_after(Key::new("/foo/b"))), [""; 0]);
        assert_eq!(selected(&foo.range(..=Key::new("/foo/a"))), ["/foo/a"]);
    }

    #[test]
    fn an_interval_that_can_hold_no_key_is_none() {
        let (a, b) = (Key::new("/a"), Key::new("/b"));
        let both_excluded = (Bound::Excluded(a.clone()), Bound::Excluded(a.clone()));
        assert_eq!(Query::new().range(both_excluded).interval(), None);
        assert_eq!(Query::new().range(b.clone()..a.clone()).interval(), None);
        assert_eq!(Query::new().range(a.clone()..a.clone()).interval(), None);
        assert!(
            Query::new()
                .range(a.clone()..=a.clone())
                .interval()
                .is_some()
        );
        assert_eq!(Query::new().prefix(a).range(b..).interval(), None);
    }
}
