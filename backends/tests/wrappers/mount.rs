use std::sync::Arc;

use datastore_backends::MemoryDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Key, MountDatastore, Order, Query};

use super::{batch, keys};

struct Mounted {
    root: MemoryDatastore,
    a: MemoryDatastore,
    a_b: MemoryDatastore,
    all: MountDatastore,
}

async fn mounted() -> Mounted {
    let [root, a, a_b] = std::array::from_fn(|_| MemoryDatastore::new());
    let mount = |key: &str, store: &MemoryDatastore| -> (Key, Arc<dyn Datastore>) {
        (Key::new(key), Arc::new(store.clone()))
    };
    let all = [mount("/a", &a), mount("/", &root), mount("/a/b", &a_b)];
    let all = MountDatastore::new(all).unwrap();
    Mounted { root, a, a_b, all }
}

#[tokio::test]
async fn the_longest_prefix_owns_a_key() {
    let mounted = mounted().await;
    for (key, value) in [
        ("/a", "1"),
        ("/a/b", "2"),
        ("/a/b/c", "3"),
        ("/a/bc", "4"),
        ("/ab", "5"),
    ] {
        mounted.all.put(&Key::new(key), value.into()).await.unwrap();
    }
    assert_eq!(keys(&mounted.root, Query::new()).await, ["/ab"]);
    assert_eq!(keys(&mounted.a, Query::new()).await, ["/", "/bc"]);
    assert_eq!(keys(&mounted.a_b, Query::new()).await, ["/", "/c"]);
    let wanted = ["/a/b/c", "/none", "/ab", "/a"].map(Key::new);
    let values = mounted.all.get_many(&wanted).await.unwrap();
    assert_eq!(
        values,
        [Some("3".into()), None, Some("5".into()), Some("1".into())]
    );
}

#[tokio::test]
async fn a_query_over_several_mounts_is_one_ordered_stream() {
    let mounted = mounted().await;
    let puts = [
        ("/a", "6"),
        ("/a-", "5"),
        ("/a/a", "4"),
        ("/a/b", "3"),
        ("/a/b/x", "2"),
        ("/b", "1"),
    ];
    for (key, value) in puts {
        mounted.all.put(&Key::new(key), value.into()).await.unwrap();
    }
    // What a mount hides is not seen.
    mounted
        .root
        .put(&Key::new("/a/hidden"), "x".into())
        .await
        .unwrap();
    mounted
        .a
        .put(&Key::new("/b/hidden"), "x".into())
        .await
        .unwrap();

    let all = ["/a", "/a-", "/a/a", "/a/b", "/a/b/x", "/b"];
    assert_eq!(keys(&mounted.all, Query::new()).await, all);
    let mut reverse = all;
    reverse.reverse();
    assert_eq!(keys(&mounted.all, Query::new().reversed()).await, reverse);
    assert_eq!(
        keys(&mounted.all, Query::new().order_by(Order::Value)).await,
        reverse
    );
    assert_eq!(
        keys(&mounted.all, Query::new().offset(2).limit(3)).await,
        all[2..5]
    );
    assert_eq!(
        keys(&mounted.all, Query::new().prefix(Key::new("/a"))).await,
        all[2..5]
    );
    assert_eq!(
        keys(&mounted.all, Query::new().prefix(Key::new("/a/b"))).await,
        ["/a/b/x"]
    );
    let range = Key::new("/a-")..=Key::new("/a/b");
    assert_eq!(
        keys(&mounted.all, Query::new().range(range)).await,
        all[1..4]
    );
    let after = Query::new().start_after(Key::new("/a/b")).reversed();
    assert_eq!(keys(&mounted.all, after).await, ["/a/a", "/a-", "/a"]);
    let long = Query::new().filter_keys(|key| key.len() > 3);
    assert_eq!(keys(&mounted.all, long).await, ["/a/a", "/a/b", "/a/b/x"]);
}

#[tokio::test]
async fn a_batch_across_mounts_is_refused_and_changes_nothing() {
    let mounted = mounted().await;
    let across = batch([("/b", "1"), ("/a/x", "2")]);
    let error = mounted.all.commit(across).await.unwrap_err();
    let expected = (Key::root(), Key::new("/a"));
    assert!(
        matches!(&error, Error::AcrossMounts { first, second }
            if (first.clone(), second.clone()) == expected),
        "{error}"
    );
    assert_eq!(keys(&mounted.all, Query::new()).await, [""; 0]);
    mounted
        .all
        .commit(batch([("/a/x", "1"), ("/a/y", "2")]))
        .await
        .unwrap();
    assert_eq!(keys(&mounted.all, Query::new()).await, ["/a/x", "/a/y"]);
}

#[tokio::test]
async fn where_nothing_is_mounted_nothing_is_there_and_a_put_is_refused() {
    let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
    let mounts = MountDatastore::new([(Key::new("/a"), store.clone())]).unwrap();
    let key = Key::new("/b");
    assert_eq!(mounts.get(&key).await.unwrap(), None);
    assert_eq!(
        mounts.get_many(std::slice::from_ref(&key)).await.unwrap(),
        [None]
    );
    mounts.delete(&key).await.unwrap();
    mounts.sync(&key).await.unwrap();
    assert_eq!(
        keys(&mounts, Query::new().prefix(key.clone())).await,
        [""; 0]
    );
    let error = mounts.put(&key, "1".into()).await.unwrap_err();
    assert!(matches!(error, Error::NotMounted { key: refused } if refused == key));

    let twice = [(Key::new("/a"), store.clone()), (Key::new("/a/"), store)];
    let error = MountDatastore::new(twice).unwrap_err();
    assert!(matches!(error, Error::MountedTwice { key } if key == Key::new("/a")));
}

#[tokio::test]
async fn closing_closes_every_mount() {
    let mounted = mounted().await;
    mounted.all.close().await.unwrap();
    for store in [&mounted.root, &mounted.a, &mounted.a_b] {
        assert!(matches!(
            store.commit(Batch::new()).await,
            Err(Error::Closed)
        ));
    }
}
