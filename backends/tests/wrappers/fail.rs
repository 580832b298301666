use std::sync::{Arc, Mutex};

use datastore_backends::MemoryDatastore;
use datastore_core::{
    Datastore, DatastoreExt, DelayDatastore, Error, FailDatastore, Fault, Key, Operation, Query,
};
use futures::future::FutureExt;

use super::{batch, keys};

fn full() -> Error {
    let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
    Error::StorageFull {
        context: "a test".into(),
        source,
    }
}

#[tokio::test]
async fn the_nth_operation_fails_and_no_other() {
    let store = FailDatastore::new(MemoryDatastore::new());
    store.fail_nth(2, Fault::before(full()));
    store.put(&Key::new("/a"), "1".into()).await.unwrap();
    assert!(store.has(&Key::new("/a")).await.unwrap());
    let error = store.put(&Key::new("/b"), "2".into()).await.unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }));
    store.put(&Key::new("/c"), "3".into()).await.unwrap();
    assert_eq!(keys(&store, Query::new()).await, ["/a", "/c"]);
}

#[tokio::test]
async fn an_operation_that_fails_afterwards_has_taken_effect() {
    let store = FailDatastore::new(MemoryDatastore::new());
    store.fail_when(|operation| {
        let doomed = operation.is_write() && operation.touches(&Key::new("/doomed"));
        doomed.then(|| Fault::after(full()))
    });
    store.put(&Key::new("/fine"), "1".into()).await.unwrap();
    store
        .put(&Key::new("/doomed/x"), "1".into())
        .await
        .unwrap_err();
    store.heal();
    store.put(&Key::new("/doomed/y"), "1".into()).await.unwrap();
    assert_eq!(
        keys(&store, Query::new()).await,
        ["/doomed/x", "/doomed/y", "/fine"]
    );
}

#[tokio::test]
async fn a_query_fails_at_an_entry_and_so_do_marks_and_ttl() {
    let store = FailDatastore::new(MemoryDatastore::new());
    store
        .commit(batch([("/a", "1"), ("/b", "2"), ("/c", "3")]))
        .await
        .unwrap();
    store.fail_when(|operation| match operation {
        Operation::Entry(key) if **key == Key::new("/b") => Some(Fault::before(full())),
        Operation::SetMark => Some(Fault::before(full())),
        Operation::Commit(_) => Some(Fault::before(full())),
        _ => None,
    });
    assert!(store.query_all(Query::new()).await.is_err());
    assert_eq!(
        keys(&store, Query::new().start_after(Key::new("/b"))).await,
        ["/c"]
    );
    assert!(store.extras().instance.unwrap().set_mark().await.is_err());
    let ttl = store.extras().ttl.unwrap();
    let minute = std::time::Duration::from_secs(60);
    assert!(
        ttl.commit_with_ttl(batch([("/d", "4")]), minute)
            .await
            .is_err()
    );
    assert!(!store.has(&Key::new("/d")).await.unwrap());
}

#[tokio::test]
async fn a_delayed_operation_waits_for_what_the_test_gives_it() {
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let store = DelayDatastore::new(MemoryDatastore::new(), move |operation| {
        let gate = operation
            .is_write()
            .then(|| gate.lock().unwrap().take())
            .flatten();
        async move {
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
        }
        .boxed()
    });
    let key = Key::new("/a");
    let mut put = Box::pin(store.put(&key, "1".into()));
    assert!(put.as_mut().now_or_never().is_none());
    assert!(!store.has(&key).await.unwrap());
    open.send(()).unwrap();
    put.await.unwrap();
    assert!(store.has(&key).await.unwrap());
}
