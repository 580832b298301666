use datastore_backends::MemoryDatastore;
use datastore_core::{
    Batch, CrashDatastore, CrashPoint, Datastore, DatastoreExt, Error, Instance, Key, Loss, Query,
};

use super::{batch, keys};

async fn left(store: &CrashDatastore<MemoryDatastore>, loss: Loss) -> Vec<String> {
    let left = store.survivors(loss, MemoryDatastore::new()).await.unwrap();
    keys(&left, Query::new()).await
}

#[tokio::test]
async fn a_killed_process_keeps_commits_and_a_power_loss_only_what_was_synced() {
    let store = CrashDatastore::new(MemoryDatastore::new());
    store
        .commit(batch([("/a", "1"), ("/b", "2")]))
        .await
        .unwrap();
    store.sync(&Key::root()).await.unwrap();
    store.delete(&Key::new("/a")).await.unwrap();
    store.put(&Key::new("/c"), "3".into()).await.unwrap();
    store.crash();
    assert_eq!(left(&store, Loss::Process).await, ["/b", "/c"]);
    assert_eq!(left(&store, Loss::Power).await, ["/a", "/b"]);

    let killed = store
        .survivors(Loss::Process, MemoryDatastore::new())
        .await
        .unwrap();
    assert_eq!(
        left(&killed, Loss::Power).await,
        ["/a", "/b"],
        "a kill syncs nothing"
    );
    killed.sync(&Key::root()).await.unwrap();
    assert_eq!(left(&killed, Loss::Power).await, ["/b", "/c"]);
}

#[tokio::test]
async fn the_operation_that_is_cut_takes_effect_or_not_and_all_after_it_fail() {
    for (point, expected) in [
        (CrashPoint::Before, vec!["/0"]),
        (CrashPoint::After, vec!["/0", "/1"]),
    ] {
        let store = CrashDatastore::new(MemoryDatastore::new());
        store.crash_at(1, point);
        store.commit(Batch::new()).await.unwrap();
        store.put(&Key::new("/0"), "0".into()).await.unwrap();
        assert!(store.has(&Key::new("/0")).await.unwrap());
        let error = store.put(&Key::new("/1"), "1".into()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
        assert!(store.has_crashed());
        assert!(matches!(
            store.put(&Key::new("/2"), "2".into()).await,
            Err(Error::Backend { .. })
        ));
        assert!(matches!(
            store.get(&Key::new("/0")).await,
            Err(Error::Backend { .. })
        ));
        assert!(store.query(Query::new()).await.is_err());
        assert_eq!(store.operations(), 2);
        assert_eq!(left(&store, Loss::Process).await, expected);
        assert_eq!(left(&store, Loss::Power).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_sync_that_is_cut_made_durable_or_not() {
    for (point, expected) in [
        (CrashPoint::Before, vec![]),
        (CrashPoint::After, vec!["/0"]),
    ] {
        let store = CrashDatastore::new(MemoryDatastore::new());
        store.crash_at(1, point);
        store.put(&Key::new("/0"), "0".into()).await.unwrap();
        store.sync(&Key::root()).await.unwrap_err();
        assert_eq!(left(&store, Loss::Power).await, expected);
    }
}

#[tokio::test]
async fn marks_survive_a_crash_but_are_not_copied() {
    let store = CrashDatastore::new(MemoryDatastore::new());
    store.put(&Key::new("/a"), "1".into()).await.unwrap();
    let mark = store.set_mark().await.unwrap().unwrap();
    assert_eq!(store.operations(), 2);
    for loss in [Loss::Process, Loss::Power] {
        let left = store.survivors(loss, MemoryDatastore::new()).await.unwrap();
        assert!(left.has_mark(&mark).await.unwrap());
        left.clear_mark(&mark).await.unwrap();
        assert!(!left.has_mark(&mark).await.unwrap());
    }
    let copy = store.copy(MemoryDatastore::new()).await.unwrap();
    assert_eq!(keys(&copy, Query::new()).await, ["/a"]);
    assert!(!copy.has_mark(&mark).await.unwrap());
    assert!(store.has_mark(&mark).await.unwrap());
}
