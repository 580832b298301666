use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::testkit::{Factory, batch_of, keys_of};
use crate::{DatastoreExt, Entry, Filter, Key, Order, Query};

pub async fn a_prefix_selects_strict_children(factory: &dyn Factory) {
    let store = factory.fresh().await;
    for key in [
        "/foo",
        "/foo!",
        "/foo-/a",
        "/foo/bar",
        "/foo/bar/baz",
        "/foo0",
        "/foobar",
        "/fo/o",
    ] {
        store.put(&Key::new(key), "".into()).await.unwrap();
    }
    let below = Query::new().prefix(Key::new("/foo"));
    let children = ["/foo/bar", "/foo/bar/baz"].map(Key::new);
    assert_eq!(keys_of(&store, below).await, children);
    assert_eq!(
        keys_of(&store, Query::new().prefix(Key::new("/foo/bar/baz"))).await,
        []
    );
    assert_eq!(keys_of(&store, Query::new()).await.len(), 8);
}

pub async fn entries_come_in_byte_order(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let mut keys = [
        "/b",
        "/a/b",
        "/a-b",
        "/a",
        "/A",
        "/aa",
        "/ü",
        "/z",
        "/a/B",
        "/a0",
        "/🦀",
        "/\u{ffff}",
    ]
    .map(Key::new);
    for key in &keys {
        store.put(key, "".into()).await.unwrap();
    }
    keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(keys_of(&store, Query::new()).await, keys);
    keys.reverse();
    assert_eq!(keys_of(&store, Query::new().reversed()).await, keys);
}

pub async fn pages_by_start_after_hold_every_entry_once(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let mut keys: Vec<Key> = (0..1000)
        .map(|index| Key::new(format!("/kit/{index:03}")))
        .collect();
    let puts = keys.iter().map(|key| (key.clone(), "x"));
    store.commit(batch_of(puts)).await.unwrap();
    for reverse in [false, true] {
        let mut read = Vec::new();
        loop {
            let start_after = read.last().cloned();
            let query = Query {
                reverse,
                start_after,
                limit: Some(77),
                ..Query::default()
            };
            let page = keys_of(&store, query).await;
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, keys);
        keys.reverse();
    }
}

pub async fn a_query_keeps_its_snapshot(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let keys: Vec<Key> = (0..3000)
        .map(|index| Key::new(format!("/kit/{index:04}")))
        .collect();
    let all = |value: &'static str| batch_of(keys.iter().map(|key| (key.clone(), value)));
    store.commit(all("old")).await.unwrap();
    let mut entries = store.query(Query::new()).await.unwrap();
    let first = entries.next().await.unwrap().unwrap();
    store.commit(all("new")).await.unwrap();
    store.delete(&keys[2000]).await.unwrap();
    store
        .put(&Key::new("/kit/0000/later"), "new".into())
        .await
        .unwrap();
    let mut read = vec![first];
    read.extend(entries.try_collect::<Vec<_>>().await.unwrap());
    assert!(read.iter().map(|entry| &entry.key).eq(&keys));
    assert!(
        read.iter()
            .all(|entry| entry.value.as_deref() == Some(b"old"))
    );
}

pub async fn a_query_may_be_dropped_part_way(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let puts = (0..3000).map(|index| (Key::new(format!("/kit/{index:04}")), "x"));
    store.commit(batch_of(puts)).await.unwrap();
    for read in [0, 1, 500] {
        let entries = store.query(Query::new()).await.unwrap();
        assert_eq!(entries.take(read).count().await, read);
    }
    store.delete(&Key::new("/kit/0000")).await.unwrap();
    assert_eq!(keys_of(&store, Query::new()).await.len(), 2999);
}

/// Some hundred random queries, between random puts and deletes, against a naive reading of the
/// contract.
pub async fn every_query_option_agrees_with_the_model(factory: &dyn Factory) {
    let seed = match std::env::var("DATASTORE_TESTKIT_SEED") {
        Ok(seed) => seed.parse().expect("DATASTORE_TESTKIT_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("DATASTORE_TESTKIT_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let store = factory.fresh().await;
    let mut model = BTreeMap::new();
    for _ in 0..20 {
        for _ in 0..20 {
            // One key a commit, since a store may refuse a batch that is spread too far.
            let key = random_key(&mut rng);
            if rng.random_bool(0.8) {
                let value = random_value(&mut rng);
                store.put(&key, value.clone()).await.unwrap();
                model.insert(key, value);
            } else {
                store.delete(&key).await.unwrap();
                model.remove(&key);
            }
        }
        for _ in 0..20 {
            let query = random_query(&mut rng);
            let expected = naive(&model, &query);
            let read = store.query_all(query.clone()).await.unwrap();
            assert_eq!(read, expected, "{query:#?}");
        }
    }
}

/// Few, so that they meet; and some that sort around the separator.
fn random_key(rng: &mut StdRng) -> Key {
    let namespaces = ["a", "b", "a-", "a.b", "ab", "a!", "A:1", "0", "ü"];
    let depth = *[0, 1, 1, 2, 2, 2, 3, 3, 4].choose(rng).unwrap();
    let path: Vec<_> = (0..depth)
        .map(|_| *namespaces.choose(rng).unwrap())
        .collect();
    Key::new(path.join("/"))
}

fn random_value(rng: &mut StdRng) -> Bytes {
    let length = *[0, 1, 1, 2, 40].choose(rng).unwrap();
    (0..length).map(|_| rng.random_range(b'a'..=b'c')).collect()
}

fn random_query(rng: &mut StdRng) -> Query {
    let bound = |rng: &mut StdRng| match rng.random_range(0..6) {
        0 => Bound::Included(random_key(rng)),
        1 => Bound::Excluded(random_key(rng)),
        _ => Bound::Unbounded,
    };
    let mut query = Query {
        prefix: if rng.random_bool(0.5) {
            random_key(rng)
        } else {
            Key::root()
        },
        start: bound(rng),
        end: bound(rng),
        start_after: rng.random_bool(0.2).then(|| random_key(rng)),
        reverse: rng.random(),
        offset: if rng.random_bool(0.3) {
            rng.random_range(0..10)
        } else {
            0
        },
        limit: rng.random_bool(0.4).then(|| rng.random_range(0..20)),
        keys_only: rng.random(),
        sizes: rng.random(),
        ..Query::default()
    };
    if rng.random_bool(0.3) {
        query = query.filter_keys(|key| key.len() % 2 == 0);
    }
    if rng.random_bool(0.3) {
        query = query.filter(|_, value| value.first() != Some(&b'a'));
    }
    let by_length: Order = Order::By(Arc::new(|a: (&Key, &[u8]), b: (&Key, &[u8])| {
        a.1.len().cmp(&b.1.len())
    }));
    let orders = [
        Order::Key,
        Order::KeyDescending,
        Order::Value,
        Order::ValueDescending,
        by_length,
    ];
    while rng.random_bool(0.3) {
        query = query.order_by(orders.choose(rng).unwrap().clone());
    }
    query
}

fn naive(model: &BTreeMap<Key, Bytes>, query: &Query) -> Vec<Entry> {
    let mut entries: Vec<(&Key, &Bytes)> = model
        .iter()
        .filter(|(key, _)| query.prefix.is_root() || query.prefix.is_ancestor_of(key))
        .filter(|(key, _)| (query.start.as_ref(), query.end.as_ref()).contains(*key))
        .filter(|(key, _)| match &query.start_after {
            None => true,
            Some(after) if query.reverse => *key < after,
            Some(after) => *key > after,
        })
        .filter(|(key, value)| {
            query.filters.iter().all(|filter| match filter {
                Filter::Key(holds) => holds(key),
                Filter::Value(holds) => holds(key, value),
            })
        })
        .collect();
    if query.orders.is_empty() {
        if query.reverse {
            entries.reverse();
        }
    } else {
        entries.sort_by(|a, b| {
            query
                .orders
                .iter()
                .fold(Ordering::Equal, |ordering, order| {
                    ordering.then_with(|| match order {
                        Order::Key => a.0.cmp(b.0),
                        Order::KeyDescending => b.0.cmp(a.0),
                        Order::Value => a.1.cmp(b.1),
                        Order::ValueDescending => b.1.cmp(a.1),
                        Order::By(compare) => compare((a.0, a.1), (b.0, b.1)),
                    })
                })
        });
    }
    entries
        .into_iter()
        .skip(query.offset)
        .take(query.limit.unwrap_or(usize::MAX))
        .map(|(key, value)| Entry {
            key: key.clone(),
            value: (!query.keys_only).then(|| value.clone()),
            size: query.sizes.then_some(value.len() as u64),
        })
        .collect()
}
