use crate::testkit::{Factory, batch_of, keys_of, reopened};
use crate::{Batch, DatastoreExt, Error, Key, Query};

pub async fn a_closed_store_refuses_everything(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let key = Key::new("/kit/a");
    store.put(&key, "1".into()).await.unwrap();
    store.close().await.unwrap();
    store.close().await.unwrap();
    let mut batch = Batch::new();
    batch.put(key.clone(), "2");
    let results = [
        ("get", store.get(&key).await.err()),
        (
            "get_many",
            store.get_many(std::slice::from_ref(&key)).await.err(),
        ),
        ("has", store.has(&key).await.err()),
        ("get_size", store.get_size(&key).await.err()),
        ("commit", store.commit(batch).await.err()),
        ("query", store.query(Query::new()).await.err()),
        ("sync", store.sync(&key).await.err()),
    ];
    for (call, error) in results {
        assert!(matches!(error, Some(Error::Closed)), "{call}: {error:?}");
    }
}

/// Nothing to test where a closed store is gone: `reopen` returns `None`.
pub async fn what_was_committed_is_there_after_reopening(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let key = |index: usize| Key::new(format!("/kit/{index:04}"));
    store
        .commit(batch_of((0..2000).map(|index| (key(index), "old"))))
        .await
        .unwrap();
    store.sync(&Key::root()).await.unwrap();
    let mut batch = batch_of((0..500).map(|index| (key(index), "new")));
    (500..1000).for_each(|index| batch.delete(key(index)));
    store.commit(batch).await.unwrap();
    store.put(&Key::root(), "".into()).await.unwrap();
    let Some(store) = reopened(factory, store).await else {
        return;
    };
    let mut expected = vec![Key::root()];
    expected.extend((0..500).chain(1000..2000).map(key));
    assert_eq!(keys_of(&store, Query::new()).await, expected);
    let values = store
        .get_many(&[Key::root(), key(499), key(500), key(1999)])
        .await
        .unwrap();
    assert_eq!(
        values,
        [
            Some("".into()),
            Some("new".into()),
            None,
            Some("old".into())
        ]
    );
    store.delete(&key(1999)).await.unwrap();
    let again = reopened(factory, store).await;
    let store = again.expect("a store that was reopened before");
    expected.pop();
    assert_eq!(keys_of(&store, Query::new()).await, expected);
}
