use bytes::Bytes;
use futures::poll;

use crate::testkit::{Factory, batch_of, keys_of};
use crate::{Batch, Datastore, DatastoreExt, Error, Key, Query};

pub async fn a_dropped_batch_leaves_nothing(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let mut kept = Batch::new();
    let mut dropped = Batch::new();
    kept.put(Key::new("/kit/kept"), "1");
    dropped.put(Key::new("/kit/dropped"), "1");
    dropped.delete(Key::new("/kit/kept"));
    drop(store.commit(dropped));
    store.commit(kept).await.unwrap();
    assert_eq!(keys_of(&store, Query::new()).await, [Key::new("/kit/kept")]);
}

pub async fn the_last_operation_on_a_key_wins(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let [a, b, c] = ["/kit/a", "/kit/b", "/kit/c"].map(Key::new);
    store.put(&b, "before".into()).await.unwrap();
    let mut batch = Batch::new();
    batch.put(a.clone(), "first");
    batch.put(a.clone(), "last");
    batch.put(b.clone(), "first");
    batch.delete(b.clone());
    batch.delete(c.clone());
    batch.put(c.clone(), "last");
    store.commit(batch).await.unwrap();
    let values = store.get_many(&[a.clone(), b, c.clone()]).await.unwrap();
    assert_eq!(values, [Some("last".into()), None, Some("last".into())]);
    assert_eq!(keys_of(&store, Query::new()).await, [a, c]);
}

pub async fn an_empty_commit_does_nothing(factory: &dyn Factory) {
    let store = factory.fresh().await;
    store.commit(Batch::new()).await.unwrap();
    store.put(&Key::new("/kit/a"), "1".into()).await.unwrap();
    store.commit(Batch::new()).await.unwrap();
    assert_eq!(keys_of(&store, Query::new()).await, [Key::new("/kit/a")]);
}

/// Nothing to test where nothing is refused: `largest_value` is `None`.
pub async fn a_batch_with_a_refused_operation_leaves_nothing(factory: &dyn Factory) {
    let Some(limit) = factory.largest_value() else {
        return;
    };
    let store = factory.fresh().await;
    store
        .put(&Key::new("/kit/before"), "1".into())
        .await
        .unwrap();
    let mut batch = Batch::new();
    batch.put(Key::new("/kit/a"), "1");
    batch.delete(Key::new("/kit/before"));
    let too_large = usize::try_from(limit + 1).expect("a value that fits in memory");
    batch.put(Key::new("/kit/b"), vec![0; too_large]);
    batch.put(Key::new("/kit/c"), "1");
    let error = store.commit(batch).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(
        keys_of(&store, Query::new()).await,
        [Key::new("/kit/before")]
    );
    store
        .put(&Key::new("/kit/after"), "1".into())
        .await
        .unwrap();
}

pub async fn a_dropped_commit_leaves_all_or_nothing(factory: &dyn Factory) {
    drop_commits(&factory.fresh().await).await;
}

pub async fn a_dropped_commit_leaves_all_or_nothing_on_threads(factory: &dyn Factory) {
    let store = factory.fresh().await;
    tokio::spawn(async move { drop_commits(&store).await })
        .await
        .unwrap();
}

async fn drop_commits(store: &dyn Datastore) {
    let keys: Vec<Key> = (0..500)
        .map(|index| Key::new(format!("/kit/{index:03}")))
        .collect();
    for attempt in 0..40 {
        let value = Bytes::from(format!("{attempt}"));
        let batch = batch_of(keys.iter().map(|key| (key.clone(), value.clone())));
        let mut commit = store.commit(batch);
        for _ in 0..attempt % 5 {
            if poll!(commit.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(commit);
        // It may still take effect, at any moment: each reading finds one value everywhere.
        for _ in 0..5 {
            let values = store.get_many(&keys).await.unwrap();
            assert!(
                values.windows(2).all(|pair| pair[0] == pair[1]),
                "attempt {attempt}"
            );
            tokio::task::yield_now().await;
        }
        store.put(&Key::new("/kit/after"), value).await.unwrap();
    }
}
