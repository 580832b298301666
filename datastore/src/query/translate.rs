use std::ops::Bound;

use super::Query;
use super::interval::{earlier_end, later_start};
use crate::Key;

impl Query {
    /// For a store whose key `/k` is `prefix` + `/k` in another one (a namespace): the query of that
    /// other one that scans what [`apply`](Self::apply) needs for this one, in the order that it
    /// expects. The keys of the answer are `prefix`, for the root, and its descendants.
    ///
    /// ```
    /// use datastore_core::{Key, Query};
    ///
    /// let scan = Query::new().prefix(Key::new("/a")).scan_under(&Key::new("/ns"));
    /// assert_eq!(scan.prefix, Key::new("/ns/a"));
    /// ```
    pub fn scan_under(&self, prefix: &Key) -> Self {
        let (start, end) = self.key_bounds();
        let root_selected = self.prefix.is_root()
            && match &start {
                Bound::Included(start) => start.is_root(),
                Bound::Excluded(_) => false,
                Bound::Unbounded => true,
            };
        let mut scan = Self {
            prefix: prefix.child(&self.prefix),
            start: start.map(|key| prefix.child(&key)),
            end: end.map(|key| prefix.child(&key)),
            ..self.scan()
        };
        if root_selected && !prefix.is_root() {
            // Here the root is `prefix` itself, which is no child of it. Between it and its children
            // lie siblings such as `/ns-2`: these are scanned and dropped.
            let past = Key::new(format!("{prefix}0"));
            scan.prefix = Key::root();
            scan.start = later_start(scan.start, Bound::Included(prefix.clone()));
            scan.end = earlier_end(scan.end, Bound::Excluded(past));
            let prefix = prefix.clone();
            scan = scan.filter_keys(move |key| key.strip_prefix(&prefix).is_some());
        }
        scan
    }

    /// For a store that holds `mount` and its descendants, with `mount` taken off their keys, as part
    /// of this one: the query that scans what is selected of it; `None` if nothing is. The inverse
    /// of [`scan_under`](Self::scan_under).
    ///
    /// ```
    /// use datastore_core::{Key, Query};
    ///
    /// let query = Query::new().prefix(Key::new("/ns/a"));
    /// assert_eq!(query.scan_within(&Key::new("/ns")).unwrap().prefix, Key::new("/a"));
    /// assert!(query.scan_within(&Key::new("/elsewhere")).is_none());
    /// ```
    pub fn scan_within(&self, mount: &Key) -> Option<Self> {
        let (start, end) = self.key_bounds();
        let mut scan = self.scan();
        if let Some(prefix) = self.prefix.strip_prefix(mount) {
            scan.prefix = prefix;
            if scan.prefix.is_root() && !self.prefix.is_root() {
                // `mount` itself is no strict child of the prefix.
                scan.start = Bound::Excluded(Key::root());
            }
        } else if !self.prefix.is_ancestor_of(mount) {
            return None;
        }
        let start = match start {
            Bound::Unbounded => Bound::Unbounded,
            Bound::Included(key) | Bound::Excluded(key) if key < *mount => Bound::Unbounded,
            Bound::Included(key) | Bound::Excluded(key) if is_between(mount, &key) => {
                Bound::Excluded(Key::root())
            }
            Bound::Included(key) => Bound::Included(key.strip_prefix(mount)?),
            Bound::Excluded(key) => Bound::Excluded(key.strip_prefix(mount)?),
        };
        scan.start = later_start(scan.start, start);
        scan.end = match end {
            Bound::Included(key) | Bound::Excluded(key) if key < *mount => return None,
            Bound::Included(key) | Bound::Excluded(key) if is_between(mount, &key) => {
                Bound::Included(Key::root())
            }
            bound => match bound.map(|key| key.strip_prefix(mount)) {
                Bound::Included(Some(key)) => Bound::Included(key),
                Bound::Excluded(Some(key)) => Bound::Excluded(key),
                Bound::Included(None) | Bound::Excluded(None) | Bound::Unbounded => {
                    Bound::Unbounded
                }
            },
        };
        Some(scan)
    }

    /// A query of all keys for a scan that this query is applied to.
    fn scan(&self) -> Self {
        let unfiltered = self.filters.is_empty() && !self.sorts();
        Self {
            reverse: self.descending(),
            keys_only: !self.needs_values(),
            limit: self
                .limit
                .filter(|_| unfiltered)
                .map(|limit| self.offset.saturating_add(limit)),
            ..Self::default()
        }
    }
}

/// Whether `key` comes after `mount` but before its children, as `/a-` does for `/a`.
fn is_between(mount: &Key, key: &Key) -> bool {
    let children = [mount.as_bytes(), b"/"].concat();
    !mount.is_root() && mount < key && key.as_bytes() < children.as_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filter;

    const KEYS: [&str; 11] = [
        "/", "/a", "/a-", "/a-/x", "/a/", "/a/a", "/a/a-", "/a/a/b", "/a/b", "/a0", "/b",
    ];

    fn bounds() -> Vec<Bound<Key>> {
        let keys = || KEYS.into_iter().map(Key::new);
        let included = keys().map(Bound::Included);
        let excluded = keys().map(Bound::Excluded);
        included.chain(excluded).chain([Bound::Unbounded]).collect()
    }

    fn selects(query: &Query, key: &Key) -> bool {
        let filtered = query.filters.iter().all(|filter| match filter {
            Filter::Key(holds) => holds(key),
            Filter::Value(_) => unreachable!(),
        });
        let interval = query.interval();
        filtered && interval.is_some_and(|interval| interval.contains(key))
    }

    /// Every query by prefix and range selects the same through the translation as without it.
    #[test]
    fn translated_queries_select_the_same_keys() {
        for (start, end) in bounds()
            .into_iter()
            .flat_map(|start| bounds().into_iter().map(move |end| (start.clone(), end)))
        {
            for prefix in KEYS.map(Key::new) {
                let range = (start.clone(), end.clone());
                let query = Query::new().prefix(prefix).range(range);
                for place in KEYS.map(Key::new) {
                    let under = query.scan_under(&place);
                    let within = query.scan_within(&place);
                    for key in KEYS.map(Key::new) {
                        let expected = selects(&query, &key);
                        let moved = place.child(&key);
                        assert_eq!(selects(&under, &moved), expected, "{query:?} {place} {key}");
                        if let Some(key) = moved.strip_prefix(&place) {
                            let expected = selects(&query, &moved);
                            let selected = within.as_ref().is_some_and(|scan| selects(scan, &key));
                            assert_eq!(selected, expected, "{query:?} {place} {key}");
                        }
                    }
                    for key in KEYS.map(Key::new) {
                        let outside = key.strip_prefix(&place).is_none();
                        assert!(
                            !(outside && selects(&under, &key)),
                            "{query:?} {place} {key}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_limit_is_handed_down_only_where_nothing_is_dropped_afterwards() {
        let query = Query::new().offset(2).limit(3);
        assert_eq!(query.scan_under(&Key::root()).limit, Some(5));
        assert_eq!(
            query
                .clone()
                .filter_keys(|_| true)
                .scan_under(&Key::root())
                .limit,
            None
        );
        assert_eq!(
            query
                .order_by(crate::Order::Value)
                .scan_under(&Key::root())
                .limit,
            None
        );
    }
}
