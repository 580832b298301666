use std::time::Duration;

use crate::testkit::{ExtraSet, Factory, batch_of, keys_of, reopened};
use crate::{DatastoreExt, Error, Key, Query};

pub async fn extras_are_those_announced(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let extras = store.extras();
    let found = ExtraSet {
        transactions: extras.transactions.is_some(),
        ttl: extras.ttl.is_some(),
        disk_usage: extras.disk_usage.is_some(),
        garbage_collection: extras.garbage_collection.is_some(),
        check: extras.check.is_some(),
        instance: extras.instance.is_some(),
    };
    assert_eq!(found, factory.extras());
}

pub async fn a_transaction_is_all_or_nothing(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let Some(transactions) = store.extras().transactions else {
        return;
    };
    let [a, b, c] = ["/kit/a", "/kit/b", "/kit/c"].map(Key::new);
    store.put(&a, "1".into()).await.unwrap();

    let mut dropped = transactions.begin().await.unwrap();
    dropped.put(b.clone(), "1".into());
    drop(dropped);
    assert!(!store.has(&b).await.unwrap());

    let mut kept = transactions.begin().await.unwrap();
    assert_eq!(kept.get(&a).await.unwrap(), Some("1".into()));
    kept.put(b.clone(), "2".into());
    kept.delete(a.clone());
    assert_eq!(kept.get(&a).await.unwrap(), None);
    assert_eq!(kept.get(&b).await.unwrap(), Some("2".into()));
    assert!(!store.has(&b).await.unwrap());
    store.put(&c, "3".into()).await.unwrap();
    assert_eq!(
        kept.get(&c).await.unwrap(),
        None,
        "it reads the snapshot of when it began"
    );
    let error = kept.commit().await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    assert_eq!(keys_of(&store, Query::new()).await, [a.clone(), c.clone()]);

    let mut kept = transactions.begin().await.unwrap();
    kept.put(b.clone(), "2".into());
    kept.delete(a);
    kept.commit().await.unwrap();
    assert_eq!(keys_of(&store, Query::new()).await, [b, c]);
}

pub async fn a_transaction_conflicts_with_a_change_of_what_it_read(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let Some(transactions) = store.extras().transactions else {
        return;
    };
    let (counter, other) = (Key::new("/kit/counter"), Key::new("/kit/other"));
    store.put(&counter, "1".into()).await.unwrap();
    let mut first = transactions.begin().await.unwrap();
    let mut second = transactions.begin().await.unwrap();
    for transaction in [&mut first, &mut second] {
        assert_eq!(transaction.get(&counter).await.unwrap(), Some("1".into()));
        transaction.put(counter.clone(), "2".into());
    }
    // What neither of them read is no conflict.
    store.put(&other, "x".into()).await.unwrap();
    first.commit().await.unwrap();
    let error = second.commit().await.unwrap_err();
    assert!(
        matches!(&error, Error::Conflict { key } if *key == counter),
        "{error}"
    );
    assert_eq!(store.get(&counter).await.unwrap(), Some("2".into()));
}

pub async fn values_expire_when_their_time_is_over(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let Some(ttl) = store.extras().ttl else {
        return;
    };
    let [over, later, never] = ["/kit/over", "/kit/later", "/kit/never"].map(Key::new);
    let hour = Duration::from_secs(3600);
    ttl.commit_with_ttl(batch_of([(later.clone(), "2")]), hour)
        .await
        .unwrap();
    store.put(&never, "3".into()).await.unwrap();
    ttl.commit_with_ttl(batch_of([(over.clone(), "1")]), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(store.get(&over).await.unwrap(), None);
    assert!(!store.has(&over).await.unwrap());
    assert_eq!(
        keys_of(&store, Query::new()).await,
        [later.clone(), never.clone()]
    );
    let left = ttl.ttl(&later).await.unwrap().unwrap();
    assert!(left <= hour && left > hour / 2, "{left:?}");
    for key in [&over, &never] {
        assert_eq!(ttl.ttl(key).await.unwrap(), None);
    }
}

pub async fn marks_are_there_until_cleared(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let Some(instance) = store.extras().instance else {
        return;
    };
    assert_eq!(instance.handle_id(), instance.handle_id());
    let Some(mark) = instance.set_mark().await.unwrap() else {
        return;
    };
    assert!(instance.has_mark(&mark).await.unwrap());
    assert!(!instance.has_mark(b"no such mark").await.unwrap());
    instance.clear_mark(&mark).await.unwrap();
    assert!(!instance.has_mark(&mark).await.unwrap());
    instance.clear_mark(&mark).await.unwrap();

    let mark = instance.set_mark().await.unwrap().unwrap();
    let Some(store) = reopened(factory, store).await else {
        return;
    };
    let instance = store
        .extras()
        .instance
        .expect("an extra that was there before");
    assert!(instance.has_mark(&mark).await.unwrap());
}

/// Garbage collection, check and disk usage, as far as the store has them.
pub async fn maintenance_keeps_the_data(factory: &dyn Factory) {
    let store = factory.fresh().await;
    let key = |index: usize| Key::new(format!("/kit/{index:03}"));
    for value in ["old", "new"] {
        let puts = (0..1000).map(|index| (key(index), value));
        store.commit(batch_of(puts)).await.unwrap();
    }
    for index in 500..600 {
        store.delete(&key(index)).await.unwrap();
    }
    store.sync(&Key::root()).await.unwrap();
    let extras = store.extras();
    if let Some(garbage_collection) = extras.garbage_collection {
        garbage_collection.collect_garbage().await.unwrap();
    }
    if let Some(check) = extras.check {
        check.check().await.unwrap();
    }
    if let Some(disk_usage) = extras.disk_usage {
        assert!(disk_usage.disk_usage().await.unwrap() > 0);
    }
    let entries = store.query_all(Query::new()).await.unwrap();
    assert_eq!(entries.len(), 900);
    assert!(
        entries
            .iter()
            .all(|entry| entry.value.as_deref() == Some(b"new"))
    );
}
