use bytes::Bytes;

use crate::testkit::Factory;
use crate::{DatastoreExt, Entry, Key, Query};

pub async fn a_value_is_read_back(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let (here, absent) = (Key::new("/kit/here"), Key::new("/kit/absent"));
    store.put(&here, "value".into()).await.unwrap();

    let value = Some(Bytes::from("value"));
    assert_eq!(store.get(&here).await.unwrap(), value);
    assert!(store.has(&here).await.unwrap());
    assert_eq!(store.get_size(&here).await.unwrap(), Some(5));
    assert_eq!(store.get(&absent).await.unwrap(), None);
    assert!(!store.has(&absent).await.unwrap());
    assert_eq!(store.get_size(&absent).await.unwrap(), None);

    let keys = [absent, here.clone(), here.clone()];
    assert_eq!(
        store.get_many(&keys).await.unwrap(),
        [None, value.clone(), value.clone()]
    );
    assert_eq!(store.get_many(&[]).await.unwrap(), []);
    let entries = store.query_all(Query::new().with_sizes()).await.unwrap();
    assert_eq!(
        entries,
        [Entry {
            key: here,
            value,
            size: Some(5)
        }]
    );
}

pub async fn a_put_overwrites_and_a_delete_removes(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let key = Key::new("/kit/a");
    store
        .put(&key, "a longer first value".into())
        .await
        .unwrap();
    store.put(&key, "second".into()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some("second".into()));
    assert_eq!(store.query_all(Query::new()).await.unwrap().len(), 1);
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert!(!store.has(&key).await.unwrap());
    assert_eq!(store.query_all(Query::new()).await.unwrap(), []);
    store.put(&key, "third".into()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some("third".into()));
}

pub async fn deleting_what_is_not_there_succeeds(factory: &dyn Factory) {
    let store = factory.fresh().await;
    store.delete(&Key::new("/kit/absent")).await.unwrap();
    store.sync(&Key::new("/kit/absent")).await.unwrap();
    assert_eq!(store.query_all(Query::new()).await.unwrap(), []);
}

pub async fn an_empty_value_is_a_value(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let key = Key::new("/kit/empty");
    store.put(&key, Bytes::new()).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some(Bytes::new()));
    assert!(store.has(&key).await.unwrap());
    assert_eq!(store.get_size(&key).await.unwrap(), Some(0));
    let entries = store.query_all(Query::new()).await.unwrap();
    assert_eq!(entries[0].value, Some(Bytes::new()));
}
