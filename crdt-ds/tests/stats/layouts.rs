use crdt_ds::block::Format;
use crdt_ds::stats::{Layout, SlotOwner, Stat, StatsOptions, StatsStore, Totals, slot_owner};
use crdt_ds::sync::Hub;
use datastore_core::{Datastore, DatastoreExt, Key, Query};

use crate::{alone, replica, stats_of, synced};

fn big_endian(n: u64) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&n.to_be_bytes())
}

#[tokio::test]
async fn a_slot_is_two_big_endian_numbers_at_its_documented_key() {
    let store = alone().await;
    let stats = stats_of(&store, "a").await;
    stats.add("t", &Stat::LIKES, 3).await.unwrap();
    stats.subtract("t", &Stat::LIKES, 1).await.unwrap();
    let generation: String = store
        .info()
        .generation
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let value = store
        .get(&Key::new(format!("/net/t/likes/a:{generation}")))
        .await
        .unwrap();
    assert_eq!(
        Totals::from_bytes(&value.unwrap()),
        Some(Totals { up: 3, down: 1 })
    );
}

#[tokio::test]
async fn the_first_layout_of_the_original_counts_as_added_and_noise_counts_nothing() {
    let store = alone().await;
    let stats = stats_of(&store, "a").await;
    stats.add("t", &Stat::LIKES, 1).await.unwrap();
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 1);
    for (key, value) in [
        ("/net/t/likes/QmOld", big_endian(10)),
        ("/net/t/likes/short", "x".into()),
        ("/net/t/likes/long:1", "x".repeat(17).into()),
        ("/net/t/likes/eight:1", big_endian(1000)),
        ("/net/t/likes/deeper/QmOld", big_endian(1000)),
        ("/net/t/likes", big_endian(1000)),
        ("/net/likes", big_endian(1000)),
    ] {
        store.put(&Key::new(key), value).await.unwrap();
    }
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 11);
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["QmOld", "a"]);
    // From the cache, kept right by the changes, too.
    store.delete(&Key::new("/net/t/likes/QmOld")).await.unwrap();
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 1);
}

#[tokio::test]
async fn counts_in_the_layout_of_the_app_are_sums_of_both_sides() {
    let hub = Hub::new(1);
    let (a, b) = (
        replica(&hub, "a", Format::DagPb).await,
        replica(&hub, "b", Format::DagPb).await,
    );
    let mut options = StatsOptions::default();
    options.layout = Layout::IncrDecr;
    let ours = StatsStore::open(a.clone(), "net", "QmA", options.clone())
        .await
        .unwrap();
    let theirs = StatsStore::open(b.clone(), "net", "QmB", options)
        .await
        .unwrap();
    ours.add("t", &Stat::LIKES, 3).await.unwrap();
    theirs.subtract("t", &Stat::LIKES, 1).await.unwrap();
    ours.add("t", &Stat::VIEWS, 9).await.unwrap();
    ours.add("other", &Stat::VIEWS, 4).await.unwrap();
    ours.add("t", &Stat::new("bookmarks"), 1).await.unwrap();
    synced(&[a.clone(), b.clone()]).await;
    // As the app writes it, by another of its processes.
    let key = |side, data| Key::new(format!("/STATS/{side}/{data}/QmC/00ff00ff"));
    b.put(&key("incr", "LIKES/INCR/t"), big_endian(10))
        .await
        .unwrap();
    b.put(&key("decr", "LIKES/INCR/t"), big_endian(2))
        .await
        .unwrap();
    b.put(&key("decr", "TWEETS/VIEWS/other"), big_endian(100))
        .await
        .unwrap();
    synced(&[a.clone(), b.clone()]).await;
    for stats in [&ours, &theirs] {
        let all = stats.get_all("t").await.unwrap();
        assert_eq!((all.likes, all.views), (10, 9));
        assert_eq!(stats.get("other", &Stat::VIEWS).await.unwrap(), 0);
        assert_eq!(
            stats
                .get_aggregated(&Key::new("/LIKES/INCR/t"))
                .await
                .unwrap(),
            10
        );
        assert_eq!(
            stats.top(&Stat::VIEWS, 9).await.unwrap(),
            [("t".to_owned(), 9)]
        );
        assert_eq!(
            stats.top(&"bookmarks".into(), 9).await.unwrap(),
            [("t".to_owned(), 1)]
        );
        let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["QmA", "QmB", "QmC"]);
        assert_eq!((nodes["QmC"].up, nodes["QmC"].down), (10, 2));
    }
    // In a slot of its own, by node and generation.
    let generation: String = a
        .info()
        .generation
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    for (node, generation) in [("QmA", generation.as_str()), ("QmC", "00ff00ff")] {
        let slot = Key::new(format!("/STATS/incr/LIKES/INCR/t/{node}/{generation}"));
        assert!(a.has(&slot).await.unwrap(), "{slot}");
    }
    let keys = a.query_all(Query::new().keys_only()).await.unwrap();
    for entry in &keys {
        let namespaces: Vec<&str> = entry.key.list().collect();
        assert_eq!(namespaces.len(), 7, "{}", entry.key);
        assert!(a.get(&entry.key).await.unwrap().unwrap().len() == 8);
    }
    // A node that goes on after a close goes on in both slots.
    ours.close().await.unwrap();
    let mut options = StatsOptions::default();
    options.layout = Layout::IncrDecr;
    let ours = StatsStore::open(a.clone(), "net", "QmA", options)
        .await
        .unwrap();
    ours.add("t", &Stat::LIKES, 1).await.unwrap();
    assert_eq!(ours.get("t", &Stat::LIKES).await.unwrap(), 11);
    assert_eq!(
        a.query_all(Query::new().keys_only()).await.unwrap().len(),
        keys.len()
    );
}

#[test]
fn the_owner_of_a_slot_is_read_from_its_key_alone() {
    let owner = |layout, key: &str| slot_owner(layout, "net", &Key::new(key));
    let node = |id: &str| SlotOwner::Node(id.to_owned());
    for (key, expected) in [
        ("/net/t/likes/a%2Fb:00", node("a/b")),
        ("/net/t/likes/QmOld", node("QmOld")),
        ("/net/a/b/c/d:00", node("d")),
        ("/net", SlotOwner::NoSlot),
        ("/net/a", SlotOwner::NoSlot),
        ("/nets/t/likes/a:00", SlotOwner::NoSlot),
        ("/STATS/incr/LIKES/INCR/t/a/00", SlotOwner::NoSlot),
    ] {
        assert_eq!(owner(Layout::Slots, key), expected, "{key}");
    }
    for (key, expected) in [
        ("/STATS/incr/LIKES/INCR/t/a/00", node("a")),
        ("/STATS/decr/x/a/00", node("a")),
        ("/STATS/decr/a/00", SlotOwner::NoSlot),
        ("/STATS/other/x/a/00", SlotOwner::NoSlot),
        ("/net/t/likes/a:00", SlotOwner::NoSlot),
    ] {
        assert_eq!(owner(Layout::IncrDecr, key), expected, "{key}");
    }
}
