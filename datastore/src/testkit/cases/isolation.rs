use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};

use crate::testkit::Factory;
use crate::{Batch, Datastore, DatastoreExt, Key, Query, Result};

const BATCH: usize = 1000;

/// Two sets of keys, of which each batch puts one and deletes the other.
fn racing_keys(generation: u64) -> impl Iterator<Item = Key> {
    (0..BATCH).map(move |index| Key::new(format!("/kit/{index:03}/{}", generation % 2)))
}

/// Readers that race a writer of batches of a thousand puts and a thousand deletes, for as long as it
/// takes the store to reorganise itself beneath them: every reading is that of one batch.
pub async fn readers_never_see_half_a_batch(factory: &dyn Factory) {
    const VALUE: usize = 512;
    let store = factory.fresh().await;
    let generations = (2 * factory.flushes_after())
        .div_ceil((BATCH * VALUE) as u64)
        .max(20);
    let commit = |generation: u64| {
        let mut value = generation.to_be_bytes().to_vec();
        // Noise, so that no compression keeps the store from filling up.
        let mut noise = generation;
        value.resize_with(VALUE, || {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (noise >> 56) as u8
        });
        let value = Bytes::from(value);
        let mut batch = Batch::with_capacity(2 * BATCH);
        racing_keys(generation).for_each(|key| batch.put(key, value.clone()));
        racing_keys(generation + 1).for_each(|key| batch.delete(key));
        store.commit(batch)
    };
    commit(0).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let by_query = tokio::spawn(read_until(
        done.clone(),
        store.clone(),
        |store| async move {
            let entries = store.query(Query::new().prefix(Key::new("/kit"))).await?;
            entries.map_ok(|entry| entry.value).try_collect().await
        },
    ));
    let by_get_many = tokio::spawn(read_until(
        done.clone(),
        store.clone(),
        |store| async move {
            let keys: Vec<Key> = racing_keys(0).chain(racing_keys(1)).collect();
            let values = store.get_many(&keys).await?;
            Ok(values.into_iter().filter(Option::is_some).collect())
        },
    ));
    for generation in 1..=generations {
        commit(generation).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for (reader, readings) in [("query", by_query.await), ("get_many", by_get_many.await)] {
        let readings = readings.unwrap();
        println!("{generations} batches, {readings} readings by {reader}");
        assert!(readings > 0);
    }
}

/// Reads until `done`, and checks that what it read is one whole batch. Returns how often.
async fn read_until<R>(
    done: Arc<AtomicBool>,
    store: Arc<dyn Datastore>,
    read: impl Fn(Arc<dyn Datastore>) -> R,
) -> u64
where
    R: Future<Output = Result<Vec<Option<Bytes>>>>,
{
    let mut readings = 0;
    let mut last = 0;
    loop {
        let over = done.load(Ordering::Relaxed);
        let values = read(store.clone()).await.unwrap();
        let generation = |value: &Option<Bytes>| value.as_ref().map(|value| value.slice(..8));
        let first = generation(&values[0]);
        let torn = values
            .iter()
            .filter(|value| generation(value) != first)
            .count();
        assert_eq!(
            (values.len(), torn),
            (BATCH, 0),
            "half a batch, in reading {readings}"
        );
        let first = u64::from_be_bytes(first.unwrap()[..].try_into().unwrap());
        assert!(first >= last, "batch {first} was read after batch {last}");
        last = first;
        readings += 1;
        if over {
            return readings;
        }
        tokio::task::yield_now().await;
    }
}

/// Several tasks put, overwrite and delete keys of their own, and all of one shared key.
pub async fn writers_at_once_lose_nothing(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for index in 0..200 {
                let key = Key::new(format!("/kit/{writer}/{:03}", index / 2));
                if index % 4 == 3 {
                    store.delete(&key).await.unwrap();
                } else {
                    store.put(&key, format!("{index}").into()).await.unwrap();
                }
                let shared = format!("{writer}");
                store
                    .put(&Key::new("/kit/shared"), shared.into())
                    .await
                    .unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let entries = store
        .query(Query::new().prefix(Key::new("/kit")))
        .await
        .unwrap();
    let entries: Vec<_> = entries.map(Result::unwrap).collect().await;
    // Of each writer every second of its hundred keys is left, with its only value.
    let mut expected: Vec<_> = (0..8)
        .flat_map(|writer| (0..100).step_by(2).map(move |index| (writer, index)))
        .map(|(writer, index)| {
            (
                format!("/kit/{writer}/{index:03}"),
                format!("{}", 2 * index + 1),
            )
        })
        .collect();
    let shared = entries.last().unwrap();
    assert_eq!(shared.key, Key::new("/kit/shared"));
    let shared = str::from_utf8(shared.value.as_ref().unwrap()).unwrap();
    expected.push(("/kit/shared".to_owned(), shared.to_owned()));
    assert!(matches!(shared.parse::<u32>(), Ok(0..8)));
    assert_eq!(entries.len(), expected.len());
    for (entry, (key, value)) in entries.iter().zip(&expected) {
        assert_eq!(entry.key.as_str(), key);
        assert_eq!(entry.value.as_deref(), Some(value.as_bytes()), "{key}");
    }
}
