use std::sync::Arc;
use std::time::Duration;

use datastore_backends::MemoryDatastore;
use datastore_core::{
    Datastore, DatastoreExt, Error, Instance, Key, NamespaceDatastore, Order, Query,
};

use super::{batch, keys};

async fn filled() -> (MemoryDatastore, NamespaceDatastore<MemoryDatastore>) {
    let store = MemoryDatastore::new();
    let puts = [
        ("/ns-2/a", "x"),
        ("/ns.", "x"),
        ("/ns0", "x"),
        ("/nsa", "x"),
        ("/a", "x"),
    ];
    store.commit(batch(puts)).await.unwrap();
    let namespace = NamespaceDatastore::new(store.clone(), Key::new("/ns"));
    namespace
        .commit(batch([
            ("/", "root"),
            ("/a", "3"),
            ("/a/b", "1"),
            ("/c", "2"),
        ]))
        .await
        .unwrap();
    (store, namespace)
}

#[tokio::test]
async fn its_root_is_the_prefix_itself() {
    let (store, namespace) = filled().await;
    assert_eq!(
        store.get(&Key::new("/ns")).await.unwrap(),
        Some("root".into())
    );
    assert_eq!(
        namespace.get(&Key::root()).await.unwrap(),
        Some("root".into())
    );
    assert_eq!(
        keys(&namespace, Query::new()).await,
        ["/", "/a", "/a/b", "/c"]
    );
    assert_eq!(
        keys(&namespace, Query::new().reversed().limit(4)).await,
        ["/c", "/a/b", "/a", "/"]
    );
    assert_eq!(keys(&namespace, Query::new().limit(2)).await, ["/", "/a"]);
}

#[tokio::test]
async fn filters_and_orders_see_its_own_keys() {
    let (_, namespace) = filled().await;
    let filtered = Query::new().filter_keys(|key| key.is_top_level());
    assert_eq!(keys(&namespace, filtered).await, ["/a", "/c"]);
    let ordered = Query::new().order_by(Order::Value).limit(2).offset(1);
    assert_eq!(keys(&namespace, ordered).await, ["/c", "/a"]);
    let by_key_length = Order::By(Arc::new(|a, b| b.0.len().cmp(&a.0.len())));
    assert_eq!(
        keys(&namespace, Query::new().order_by(by_key_length).limit(2)).await,
        ["/a/b", "/a"]
    );
}

#[tokio::test]
async fn transactions_and_ttl_use_its_keys() {
    let (store, namespace) = filled().await;
    let extras = namespace.extras();
    let mut transaction = extras.transactions.unwrap().begin().await.unwrap();
    assert_eq!(
        transaction.get(&Key::new("/c")).await.unwrap(),
        Some("2".into())
    );
    transaction.put(Key::new("/d"), "4".into());
    namespace.delete(&Key::new("/c")).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { key } if *key == Key::new("/c")),
        "{error}"
    );

    let ttl = extras.ttl.unwrap();
    ttl.commit_with_ttl(batch([("/e", "5")]), Duration::from_secs(60))
        .await
        .unwrap();
    assert!(
        store
            .extras()
            .ttl
            .unwrap()
            .ttl(&Key::new("/ns/e"))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn two_namespaces_of_one_store_are_two_instances_and_one_opened_twice_is_one() {
    let store = MemoryDatastore::new();
    let id = |store: &MemoryDatastore, prefix: &str| {
        NamespaceDatastore::new(store.clone(), Key::new(prefix)).handle_id()
    };
    assert_eq!(id(&store, "/a"), id(&store, "/a"));
    assert_ne!(id(&store, "/a"), id(&store, "/b"));
    assert_ne!(id(&store, "/a"), id(&MemoryDatastore::new(), "/a"));
}
