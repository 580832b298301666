use std::cmp::Ordering;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, future, stream};

use super::{Entry, Filter, Order, Query, QueryStream};
use crate::{Key, Result};

/// How many entries a sort collects before it drops those beyond the limit, at the least.
const SORT_BUFFER: usize = 1024;

impl Query {
    /// Whether to scan the [`interval`](Self::interval) from its end: what [`apply`](Self::apply)
    /// expects.
    pub fn descending(&self) -> bool {
        match self.orders.first() {
            None => self.reverse,
            Some(Order::KeyDescending) => true,
            Some(Order::Key | Order::Value | Order::ValueDescending | Order::By(_)) => false,
        }
    }

    /// Whether [`apply`](Self::apply) looks at values. If not, any bytes will do in their place.
    pub fn needs_values(&self) -> bool {
        !self.keys_only
            || self.sizes
            || self
                .filters
                .iter()
                .any(|filter| matches!(filter, Filter::Value(_)))
            || self.sorts()
    }

    /// Whether the result is in another order than that of a scan.
    pub(super) fn sorts(&self) -> bool {
        !matches!(
            self.orders.first(),
            None | Some(Order::Key | Order::KeyDescending)
        )
    }

    /// Answers the query from a scan: the entries of its [`interval`](Self::interval), from one
    /// snapshot, in key order, or in reverse if it is [`descending`](Self::descending). Filters,
    /// sorts, skips, ends, and leaves out what was not asked for.
    ///
    /// The scan is polled only as far as the answer is, unless entries have to be sorted.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use bytes::Bytes;
    /// use datastore_core::{Key, Query, QueryStream};
    /// use futures::{StreamExt, stream};
    ///
    /// fn query(map: &BTreeMap<Key, Bytes>, query: Query) -> QueryStream {
    ///     let Some(interval) = query.interval() else {
    ///         return stream::empty().boxed();
    ///     };
    ///     let range = map.range::<[u8], _>(interval.bounds());
    ///     let mut scan: Vec<_> = range.map(|(k, v)| Ok((k.clone(), v.clone()))).collect();
    ///     if query.descending() {
    ///         scan.reverse();
    ///     }
    ///     query.apply(stream::iter(scan))
    /// }
    /// ```
    pub fn apply(
        self,
        scan: impl Stream<Item = Result<(Key, Bytes)>> + Send + 'static,
    ) -> QueryStream {
        if self.limit == Some(0) {
            return stream::empty().boxed();
        }
        let (sorts, keys_only, sizes) = (self.sorts(), self.keys_only, self.sizes);
        let Self {
            filters,
            orders,
            offset,
            limit,
            ..
        } = self;
        let limit = limit.unwrap_or(usize::MAX);
        let kept = scan.try_filter(move |(key, value)| {
            future::ready(filters.iter().all(|filter| match filter {
                Filter::Key(holds) => holds(key),
                Filter::Value(holds) => holds(key, value),
            }))
        });
        let arranged = if sorts {
            let wanted = offset.saturating_add(limit);
            stream::once(sorted(kept, orders, wanted))
                .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
                .try_flatten()
                .boxed()
        } else {
            kept.boxed()
        };
        skip(arranged, offset)
            .take(limit)
            .map_ok(move |(key, value)| Entry {
                key,
                size: sizes.then_some(value.len() as u64),
                value: (!keys_only).then_some(value),
            })
            .boxed()
    }
}

/// Skips entries, but no error.
fn skip<T: Send + 'static>(
    entries: impl Stream<Item = Result<T>> + Send + 'static,
    offset: usize,
) -> impl Stream<Item = Result<T>> + Send + 'static {
    let mut left = offset;
    entries.try_filter(move |_| {
        let skipped = left > 0;
        left = left.saturating_sub(1);
        future::ready(!skipped)
    })
}

/// The first `wanted` entries in the order of `orders`, then of keys.
async fn sorted(
    entries: impl Stream<Item = Result<(Key, Bytes)>>,
    orders: Vec<Order>,
    wanted: usize,
) -> Result<Vec<(Key, Bytes)>> {
    let full = wanted.saturating_mul(2).max(SORT_BUFFER);
    let mut best = Vec::new();
    let mut entries = std::pin::pin!(entries);
    while let Some(entry) = entries.try_next().await? {
        best.push(entry);
        if best.len() >= full {
            best.sort_by(|a, b| compare(&orders, a, b));
            best.truncate(wanted);
        }
    }
    best.sort_by(|a, b| compare(&orders, a, b));
    best.truncate(wanted);
    Ok(best)
}

fn compare(orders: &[Order], a: &(Key, Bytes), b: &(Key, Bytes)) -> Ordering {
    orders
        .iter()
        .map(|order| match order {
            Order::Key => a.0.cmp(&b.0),
            Order::KeyDescending => b.0.cmp(&a.0),
            Order::Value => a.1.cmp(&b.1),
            Order::ValueDescending => b.1.cmp(&a.1),
            Order::By(compare) => compare((&a.0, &a.1), (&b.0, &b.1)),
        })
        .find(|ordering| ordering.is_ne())
        .unwrap_or_else(|| a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures::FutureExt;

    use super::*;
    use crate::Error;

    /// A scan of `/0000`… with values that fall as the keys rise, which counts how far it was polled.
    fn scan(
        entries: usize,
    ) -> (
        Arc<AtomicUsize>,
        impl Stream<Item = Result<(Key, Bytes)>> + Send + 'static,
    ) {
        let polled = Arc::new(AtomicUsize::new(0));
        let counter = polled.clone();
        let scan = stream::iter(0..entries).map(move |index| {
            counter.fetch_add(1, Relaxed);
            Ok((
                Key::new(format!("/{index:04}")),
                format!("{:04}", entries - index).into(),
            ))
        });
        (polled, scan)
    }

    fn keys(answer: QueryStream) -> Vec<String> {
        let entries: Vec<Entry> = answer.try_collect().now_or_never().unwrap().unwrap();
        entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    #[test]
    fn a_limit_ends_the_scan() {
        let (polled, scan) = scan(5000);
        let answer = Query::new().offset(3).limit(2).apply(scan);
        assert_eq!(keys(answer), ["/0003", "/0004"]);
        assert_eq!(polled.load(Relaxed), 5);
    }

    #[test]
    fn a_sort_with_a_limit_finds_the_best_of_all() {
        let (_, entries) = scan(5000);
        let query = Query::new().order_by(Order::Value).offset(1).limit(2);
        assert_eq!(keys(query.apply(entries)), ["/4998", "/4997"]);
        let (_, entries) = scan(5000);
        let query = Query::new()
            .order_by(Order::By(Arc::new(|a, b| a.1[3].cmp(&b.1[3]))))
            .limit(2);
        assert_eq!(
            keys(query.apply(entries)),
            ["/0000", "/0010"],
            "equals come in key order"
        );
    }

    #[test]
    fn an_error_ends_the_answer_even_where_entries_are_skipped() {
        let broken = stream::iter([Err(Error::Closed), Ok((Key::root(), Bytes::new()))]);
        let mut answer = Query::new().offset(1).apply(broken);
        let first = answer.next().now_or_never().unwrap();
        assert!(matches!(first, Some(Err(Error::Closed))));
    }

    #[test]
    fn values_are_needed_unless_nothing_looks_at_them() {
        let keys = Query::new().keys_only();
        assert!(!keys.needs_values() && !keys.clone().filter_keys(|_| true).needs_values());
        assert!(Query::new().needs_values());
        assert!(keys.clone().with_sizes().needs_values());
        assert!(keys.clone().filter(|_, _| true).needs_values());
        assert!(keys.clone().order_by(Order::Value).needs_values());
        assert!(!keys.order_by(Order::KeyDescending).needs_values());
    }
}
