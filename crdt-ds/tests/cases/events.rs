//! The stream of changes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use crdt_ds::datastore::{Batch, DelayDatastore, Operation};
use crdt_ds::sync::Hub;
use crdt_ds::{CrdtDatastore, Cursor, Event, From, KeyChanged, Origin};
use datastore_backends::MemoryDatastore;
use futures::{Stream, StreamExt};

use super::fixtures::{
    FORMATS, alone, joined, key, made, now, over, peer, put, replica, synced, value,
};

type Changes = std::pin::Pin<Box<dyn Stream<Item = crdt_ds::Result<Event>> + Send>>;

fn subscribe(store: &CrdtDatastore, prefix: &str, from: From) -> Changes {
    Box::pin(store.subscribe(&key(prefix), from))
}

/// The changes that are there now.
fn drain(changes: &mut Changes) -> Vec<KeyChanged> {
    let mut all = Vec::new();
    while let Some(event) = now(changes) {
        match event.unwrap() {
            Event::Changed(change) => all.push(change),
            other => panic!("{other:?}"),
        }
    }
    all
}

/// (key, old, new) of each change.
fn told(changes: &mut Changes) -> Vec<(String, Option<Bytes>, Option<Bytes>)> {
    let changes = drain(changes).into_iter();
    changes
        .map(|c| (c.key.as_str().to_owned(), c.old.unwrap(), c.new))
        .collect()
}

fn change(
    at: &str,
    old: Option<&str>,
    new: Option<&str>,
) -> (String, Option<Bytes>, Option<Bytes>) {
    let bytes = |text: Option<&str>| text.map(|text| Bytes::from(text.to_owned()));
    (at.to_owned(), bytes(old), bytes(new))
}

/// Case 34.
#[tokio::test]
async fn each_change_is_told_once_with_the_old_and_the_new_value() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = subscribe(&store, "/", From::Now);
        put(&store, "/k", "1").await;
        put(&store, "/k", "2").await;
        put(&store, "/k", "2").await;
        store.delete(&key("/k")).await.unwrap();
        store.delete(&key("/k")).await.unwrap();
        let mut batch = Batch::new();
        batch.put(key("/b"), "1");
        batch.put(key("/a"), "");
        store.write(batch).await.unwrap();
        assert_eq!(
            told(&mut changes),
            [
                change("/k", None, Some("1")),
                change("/k", Some("1"), Some("2")),
                change("/k", Some("2"), None),
                change("/a", None, Some("")),
                change("/b", None, Some("1")),
            ],
            "{format}"
        );
    }
}

/// Case 34: what is told was committed before.
#[tokio::test]
async fn a_change_is_told_after_its_commit() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = subscribe(&store, "/", From::Now);
        put(&store, "/k", "1").await;
        let Some(Ok(Event::Changed(change))) = changes.next().await else {
            panic!("no event");
        };
        assert_eq!(value(&store, "/k").await.as_deref(), Some("1"));
        assert_eq!(change.cursor, store.cursor(), "{format}");
        assert_eq!(change.origin, Origin::Local, "{format}");
    }
}

/// Cases 5, 34 and 52: a hidden version, a dead one, and one with the value that is visible already.
#[tokio::test]
async fn a_change_that_is_hidden_is_not_told() {
    for format in FORMATS {
        let store = alone(format).await;
        let visible = made(format)
            .priority(5)
            .put("/k", "v")
            .put("/1", "")
            .block();
        store.import(vec![visible.clone()]).await.unwrap();
        let mut changes = subscribe(&store, "/", From::Now);

        let hidden = made(format).put("/k", "hidden").block();
        let equal = made(format).priority(5).put("/k", "v").delete("/2", &[]);
        let equal = equal.put("/3", "").block();
        let dead = made(format).priority(9).put("/k", "dead").block();
        let kill = made(format).delete("/k", &[&dead]).block();
        let bury = made(format).delete("/k", &[&hidden]).block();
        store.import(vec![kill]).await.unwrap();
        store.import(vec![hidden]).await.unwrap();
        store.import(vec![dead]).await.unwrap();
        store.import(vec![bury]).await.unwrap();
        store.import(vec![equal.clone()]).await.unwrap();
        assert_eq!(
            told(&mut changes),
            [change("/3", None, Some(""))],
            "{format}"
        );

        // The other of the equal two takes over: still no change.
        let first = store.versions(&key("/k")).await.unwrap()[0].cid;
        let first = [visible, equal].into_iter().find(|b| *b.cid() == first);
        let delete = made(format).delete("/k", &[&first.unwrap()]).block();
        store.import(vec![delete]).await.unwrap();
        assert_eq!(told(&mut changes), [], "{format}");
        assert_eq!(value(&store, "/k").await.as_deref(), Some("v"), "{format}");
    }
}

/// Blocks that come together are one commit, and a key has one event in it.
#[tokio::test]
async fn a_commit_tells_each_key_once() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = subscribe(&store, "/", From::Now);
        let one = made(format).put("/k", "1").block();
        let two = made(format)
            .priority(2)
            .above(&[&one])
            .put("/k", "2")
            .block();
        let gone = made(format).put("/gone", "1").block();
        let delete = made(format).priority(3).delete("/gone", &[&gone]).block();
        store.import(vec![one, two, gone, delete]).await.unwrap();
        assert_eq!(
            told(&mut changes),
            [change("/k", None, Some("2"))],
            "{format}"
        );
    }
}

#[tokio::test]
async fn only_keys_at_and_under_the_prefix_are_told() {
    let store = alone(FORMATS[0]).await;
    let mut changes = subscribe(&store, "/a", From::Now);
    for at in ["/a", "/a/b", "/ab", "/b", "/"] {
        put(&store, at, "1").await;
    }
    let keys: Vec<_> = drain(&mut changes).into_iter().map(|c| c.key).collect();
    assert_eq!(keys, [key("/a"), key("/a/b")]);
}

#[tokio::test(start_paused = true)]
async fn a_change_says_which_peer_brought_it() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let a = joined(format, &hub, "a").await;
        let b = joined(format, &hub, "b").await;
        let mut changes = subscribe(&b, "/", From::Now);
        put(&a, "/k", "1").await;
        synced(&[&a, &b]).await;
        let change = &drain(&mut changes)[0];
        assert_eq!(change.origin, Origin::Remote(Some(peer("a"))), "{format}");
    }
}

/// A resumed stream gives each key touched since the cursor once, as it is now, then live changes.
#[tokio::test]
async fn a_stream_resumes_where_it_stopped() {
    for format in FORMATS {
        let store = alone(format).await;
        let mut changes = subscribe(&store, "/", From::Now);
        put(&store, "/seen", "1").await;
        let cursor = drain(&mut changes)[0].cursor;
        drop(changes);
        put(&store, "/k", "1").await;
        put(&store, "/k", "2").await;
        put(&store, "/gone", "1").await;
        store.delete(&key("/gone")).await.unwrap();

        let cursor = Cursor::from_bytes(cursor.to_bytes());
        let mut changes = subscribe(&store, "/", From::Cursor(cursor));
        let resumed = drain(&mut changes);
        let told: Vec<_> = resumed.iter().map(|c| (c.key.as_str(), &c.new)).collect();
        let two = Some(Bytes::from("2"));
        assert_eq!(told, [("/gone", &None), ("/k", &two)], "{format}");
        assert!(resumed.iter().all(|change| change.old.is_none()));
        put(&store, "/k", "3").await;
        let live = drain(&mut changes);
        assert_eq!(live.len(), 1, "{format}");
        assert_eq!(live[0].old, Some(Some(Bytes::from("2"))), "{format}");
        assert_eq!(live[0].cursor, store.cursor(), "{format}");
    }
}

#[tokio::test]
async fn a_cursor_of_another_history_is_reset() {
    let (store, other) = (alone(FORMATS[0]).await, alone(FORMATS[0]).await);
    put(&store, "/k", "1").await;
    put(&other, "/k", "1").await;
    let mut changes = subscribe(&store, "/", From::Cursor(other.cursor()));
    let reset = changes.next().await.unwrap().unwrap();
    assert_eq!(reset, Event::Reset(store.cursor()));
    put(&store, "/k", "2").await;
    assert_eq!(drain(&mut changes).len(), 1);
}

/// A subscriber that falls behind reads what it missed from the log.
#[tokio::test]
async fn a_slow_subscriber_loses_no_key() {
    for format in FORMATS {
        let mut options = crdt_ds::Options::default();
        options.format = format;
        options.change_capacity = 4;
        let store = CrdtDatastore::builder(datastore_backends::MemoryDatastore::new())
            .options(options)
            .open()
            .await
            .unwrap();
        let mut changes = subscribe(&store, "/", From::Now);
        for n in 0..50 {
            put(&store, &format!("/{}", n % 10), &n.to_string()).await;
        }
        let mut last = std::collections::BTreeMap::new();
        for change in drain(&mut changes) {
            last.insert(change.key.as_str().to_owned(), change.new.unwrap());
        }
        let now: Vec<_> = super::fixtures::entries(&store).await;
        assert_eq!(last.into_iter().collect::<Vec<_>>(), now, "{format}");
    }
}

#[tokio::test]
async fn hooks_are_called_in_the_order_of_commits() {
    for format in FORMATS {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (puts, deletes) = (calls.clone(), calls.clone());
        let store = replica(format)
            .put_hook(move |key, value| {
                let value = String::from_utf8(value.to_vec()).unwrap();
                puts.lock().unwrap().push(format!("{key}={value}"));
            })
            .delete_hook(move |key| deletes.lock().unwrap().push(format!("{key} gone")))
            .open()
            .await
            .unwrap();
        put(&store, "/k", "1").await;
        put(&store, "/k", "2").await;
        store.delete(&key("/k")).await.unwrap();
        let calls = calls.lock().unwrap().clone();
        assert_eq!(calls, ["/k=1", "/k=2", "/k gone"], "{format}");
    }
}

/// A stream lives until its replica is closed.
#[tokio::test]
async fn a_stream_ends_when_the_replica_is_closed() {
    let store = alone(FORMATS[0]).await;
    let mut changes = subscribe(&store, "/", From::Now);
    put(&store, "/k", "1").await;
    store.close().await.unwrap();
    assert!(matches!(changes.next().await, Some(Ok(Event::Changed(_)))));
    assert!(changes.next().await.is_none());
}

/// Who subscribes while a commit is under way, and nobody listened when it began, learns of it.
#[tokio::test(start_paused = true)]
async fn a_commit_that_ends_after_the_subscription_is_told() {
    for format in FORMATS {
        let below = DelayDatastore::new(MemoryDatastore::new(), |operation| {
            let delay = u64::from(matches!(operation, Operation::Commit(_)));
            Box::pin(tokio::time::sleep(Duration::from_secs(delay)))
        });
        let store = over(format, below).open().await.unwrap();
        let writer = store.clone();
        let write = tokio::spawn(async move { put(&writer, "/k", "1").await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut changes = subscribe(&store, "/", From::Now);
        write.await.unwrap();
        let changes: Vec<_> = drain(&mut changes).into_iter().map(|c| c.new).collect();
        assert_eq!(changes, [Some(Bytes::from("1"))], "{format}");
    }
}
