use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::testkit::{Factory, batch_of, reopened};
use crate::{Batch, Datastore, DatastoreExt, Key, Query};

/// From none to 8 MiB, or to the largest that the store takes.
pub async fn values_of_every_size_are_read_back(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let largest = factory.largest_value().unwrap_or(u64::MAX).min(8 << 20);
    let sizes = [
        0,
        1,
        255,
        256,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        1 << 20,
        largest,
    ];
    let value = |size: u64| -> Bytes { (0..size).map(|index| (index % 251) as u8).collect() };
    let mut sizes = Vec::from(sizes);
    sizes.retain(|size| *size <= largest);
    sizes.sort_unstable();
    sizes.dedup();
    for &size in &sizes {
        let key = Key::new(format!("/kit/{size}"));
        store.put(&key, value(size)).await.unwrap();
        assert_eq!(
            store.get(&key).await.unwrap().unwrap(),
            value(size),
            "{size} bytes"
        );
        assert_eq!(store.get_size(&key).await.unwrap(), Some(size));
    }
    let check = async |store: Arc<dyn Datastore>| {
        let mut read = Vec::new();
        let mut entries = store.query(Query::new().with_sizes()).await.unwrap();
        while let Some(entry) = entries.try_next().await.unwrap() {
            let size = entry.size.unwrap();
            assert_eq!(entry.key, Key::new(format!("/kit/{size}")));
            assert_eq!(entry.value.unwrap(), value(size), "{size} bytes");
            read.push(size);
        }
        read.sort_unstable();
        assert_eq!(read, sizes);
    };
    check(store.clone()).await;
    if let Some(store) = reopened(factory, store).await {
        check(store).await;
    }
}

pub async fn a_hundred_thousand_keys_are_kept(factory: &dyn Factory) {
    const KEYS: usize = 100_000;
    let store = factory.fresh().await;
    // In an order of its own: 7919 is a prime, and so comes by every index once.
    let key = |index: usize| Key::new(format!("/kit/{:02}/{index:05}", index % 10));
    let mut indexes = (0..KEYS).map(|index| index * 7919 % KEYS);
    for _ in 0..KEYS / 1000 {
        let puts = indexes
            .by_ref()
            .take(1000)
            .map(|index| (key(index), format!("{index}")));
        store.commit(batch_of(puts)).await.unwrap();
    }
    let entries = store.query(Query::new()).await.unwrap();
    let mut last = Key::root();
    let count = entries
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(last < entry.key, "{last} before {}", entry.key);
            last = entry.key;
        })
        .count()
        .await;
    assert_eq!(count, KEYS);
    for index in (0..KEYS).step_by(997) {
        let value = store.get(&key(index)).await.unwrap();
        assert_eq!(value, Some(format!("{index}").into()), "{index}");
    }
    for chunk in 0..KEYS / 1000 {
        let mut batch = Batch::new();
        let odd = (chunk * 1000..(chunk + 1) * 1000).filter(|index| index % 2 == 1);
        odd.for_each(|index| batch.delete(key(index)));
        store.commit(batch).await.unwrap();
    }
    let check = async |store: Arc<dyn Datastore>| {
        let left = store.query(Query::new().keys_only()).await.unwrap();
        assert_eq!(left.count().await, KEYS / 2);
        let prefix = Query::new()
            .prefix(Key::new("/kit/04"))
            .offset(4000)
            .limit(100);
        let page = store.query_all(prefix).await.unwrap();
        assert_eq!(page[0].key, key(40_004));
        assert_eq!(page.len(), 100);
    };
    check(store.clone()).await;
    if let Some(store) = reopened(factory, store).await {
        check(store).await;
    }
}
