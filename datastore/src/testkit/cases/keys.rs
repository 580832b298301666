use std::sync::Arc;

use crate::testkit::{Factory, keys_of, reopened};
use crate::{Datastore, DatastoreExt, Key, Query};

pub async fn a_key_and_its_prefix_are_independent(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let (path, something) = (Key::new("/kit/path"), Key::new("/kit/path/to/something"));
    store.put(&something, "child".into()).await.unwrap();
    assert!(!store.has(&path).await.unwrap());
    assert_eq!(store.get(&path).await.unwrap(), None);
    store.put(&path, "parent".into()).await.unwrap();
    store.delete(&something).await.unwrap();
    assert_eq!(store.get(&path).await.unwrap(), Some("parent".into()));
    store.put(&something, "child".into()).await.unwrap();
    store.delete(&path).await.unwrap();
    assert_eq!(store.get(&something).await.unwrap(), Some("child".into()));
}

pub async fn odd_keys_are_kept_apart(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let mut keys: Vec<Key> = [
        "/kit/a",
        "/kit/A",
        "/kit/a ",
        "/kit/ a",
        "/kit/a:",
        "/kit/a:b",
        "/kit/a:b:c",
        "/kit/...",
        "/kit/.a",
        "/kit/a\\b",
        "/kit/%2F",
        "/kit/a%",
        "/kit/*",
        "/kit/?",
        "/kit/\"",
        "/kit/'",
        "/kit/\0",
        "/kit/\0\0",
        "/kit/a\0",
        "/kit/a\0b",
        "/kit/\n",
        "/kit/\t",
        "/kit/\u{7f}",
        "/kit/é",
        "/kit/e\u{301}",
        "/kit/日本語",
        "/kit/🦀",
        "/kit/🦀/🦀",
        "/kit/\u{10ffff}",
        "/kit/\u{feff}",
        "/kit/-1",
        "/kit/0",
        "/kit/00",
        "/kit/a/b",
        "/kit/a-/b",
        "/kit/a./b",
    ]
    .map(Key::new)
    .into();
    for key in &keys {
        store.put(key, key.clone().into_bytes()).await.unwrap();
    }
    keys.sort();
    let check = async |store: Arc<dyn Datastore>| {
        for (key, value) in keys.iter().zip(store.get_many(&keys).await.unwrap()) {
            assert_eq!(value.as_deref(), Some(key.as_bytes()), "{key:?}");
            let value = store.get(key).await.unwrap();
            assert_eq!(value.as_deref(), Some(key.as_bytes()), "{key:?}");
        }
        assert_eq!(keys_of(&store, Query::new()).await, keys);
    };
    check(store.clone()).await;
    for key in &keys {
        store.delete(key).await.unwrap();
        assert!(!store.has(key).await.unwrap(), "{key:?}");
        assert_eq!(
            keys_of(&store, Query::new()).await.len(),
            keys.len() - 1,
            "{key:?}"
        );
        store.put(key, key.clone().into_bytes()).await.unwrap();
    }
    if let Some(store) = reopened(factory, store).await {
        check(store).await;
    }
}

/// Keys of up to 8 KiB: a backend may have a limit, but not below that.
pub async fn long_keys_work(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let deep = Key::new("/kit/deep".to_owned() + &"/n".repeat(4000));
    let long = Key::new("/kit/".to_owned() + &"long".repeat(2000));
    let longer = Key::new(format!("{long}er"));
    for (key, value) in [(&deep, "1"), (&long, "2"), (&longer, "3")] {
        store.put(key, value.into()).await.unwrap();
    }
    assert_eq!(store.get(&long).await.unwrap(), Some("2".into()));
    assert_eq!(store.get(&deep.parent()).await.unwrap(), None);
    assert_eq!(
        keys_of(&store, Query::new()).await,
        [deep.clone(), long, longer]
    );
    assert_eq!(
        keys_of(&store, Query::new().prefix(deep.parent())).await,
        [deep]
    );
}

pub async fn the_root_is_a_key_like_any_other(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let (root, child) = (Key::root(), Key::new("/kit"));
    store.put(&root, "root".into()).await.unwrap();
    store.put(&child, "child".into()).await.unwrap();
    assert_eq!(store.get(&root).await.unwrap(), Some("root".into()));
    assert_eq!(
        keys_of(&store, Query::new()).await,
        [root.clone(), child.clone()]
    );
    assert_eq!(
        keys_of(&store, Query::new().reversed().limit(2)).await,
        [child.clone(), root.clone()]
    );
    let after = Query::new().start_after(root.clone());
    assert_eq!(keys_of(&store, after).await, std::slice::from_ref(&child));
    store.delete(&root).await.unwrap();
    assert!(!store.has(&root).await.unwrap());
    assert_eq!(keys_of(&store, Query::new()).await, [child]);
}
