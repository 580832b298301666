use std::collections::BTreeSet;

use crdt_ds::CrdtDatastore;
use crdt_ds::block::Format;
use crdt_ds::sync::Hub;
use crdt_ds::types::OrSet;
use datastore_core::Key;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{FORMATS, replica, seed, synced};

async fn all(set: &OrSet) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = set.members(cursor.as_deref(), 3).await.unwrap();
        assert!(page.members.len() <= 3);
        all.extend(page.members);
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_set_agrees_with_a_model_while_its_replicas_take_turns() {
    let seed = seed();
    for format in FORMATS {
        let mut random = StdRng::seed_from_u64(seed);
        let hub = Hub::new(seed);
        let (a, b) = (
            replica(&hub, "a", format).await,
            replica(&hub, "b", format).await,
        );
        let sets = [&a, &b].map(|store| OrSet::open(store.clone(), Key::new("/s")));
        let mut model = BTreeSet::new();
        for _ in 0..60 {
            let member = ["a/b", "a", "%", "..", "a:b", "é", "long"][random.random_range(0..7)];
            let set = &sets[random.random_range(0..2)];
            if random.random_bool(0.6) {
                assert_eq!(
                    set.add(member).await.unwrap(),
                    model.insert(member.to_owned())
                );
            } else {
                assert_eq!(set.remove(member).await.unwrap(), model.remove(member));
            }
            synced(&[a.clone(), b.clone()]).await;
        }
        for set in &sets {
            assert_eq!(all(set).await, model, "{format}");
            assert_eq!(set.len().await.unwrap(), model.len() as u64);
        }
    }
}

/// The same set on replicas `a` and `b`.
async fn two_devices(hub: &Hub, format: Format) -> [(CrdtDatastore, OrSet); 2] {
    let (a, b) = (
        replica(hub, "a", format).await,
        replica(hub, "b", format).await,
    );
    [a, b].map(|replica| (replica.clone(), OrSet::open(replica, Key::new("/s"))))
}

#[tokio::test]
async fn equal_adds_on_two_fresh_replicas_are_two_versions_and_a_remove_ends_only_what_it_saw() {
    for format in FORMATS {
        let hub = Hub::new(1);
        hub.partition(&[&["a"], &["b"]]);
        let [(a, ours), (b, theirs)] = two_devices(&hub, format).await;
        ours.add("x").await.unwrap();
        theirs.add("x").await.unwrap();
        assert!(theirs.remove("x").await.unwrap());
        hub.heal();
        synced(&[a, b]).await;
        assert!(ours.contains("x").await.unwrap(), "{format}");
        assert!(theirs.contains("x").await.unwrap(), "{format}");
    }
}

#[tokio::test]
async fn an_add_that_changed_nothing_does_not_stand_against_a_concurrent_remove() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let [(a, ours), (b, theirs)] = two_devices(&hub, format).await;
        ours.add("x").await.unwrap();
        synced(&[a.clone(), b.clone()]).await;
        hub.partition(&[&["a"], &["b"]]);
        assert!(!ours.add("x").await.unwrap());
        assert!(theirs.remove("x").await.unwrap());
        hub.heal();
        synced(&[a, b]).await;
        assert!(!ours.contains("x").await.unwrap(), "{format}");
    }
}

#[tokio::test]
async fn members_that_are_empty_or_long_are_errors() {
    let hub = Hub::new(1);
    let set = OrSet::open(replica(&hub, "a", FORMATS[0]).await, Key::new("/s"));
    assert!(matches!(
        set.add("").await,
        Err(crdt_ds::Error::EmptyName { .. })
    ));
    let long = "a".repeat(10_000);
    assert!(matches!(
        set.add(&long).await,
        Err(crdt_ds::Error::NameTooLong { .. })
    ));
    assert!(set.is_empty().await.unwrap());
}
