use std::collections::BTreeMap;

use crdt_ds::sync::Hub;
use crdt_ds::types::PnCounter;
use crdt_ds::{CrdtDatastore, Error};
use datastore_backends::MemoryDatastore;
use datastore_core::Key;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{FORMATS, replica, seed, synced};

#[tokio::test]
async fn counters_of_many_nodes_agree_with_a_model_through_partitions() {
    let seed = seed();
    for format in FORMATS {
        let mut random = StdRng::seed_from_u64(seed);
        let hub = Hub::new(seed);
        let names = ["a", "b", "c"];
        let mut stores = Vec::new();
        let mut counters = Vec::new();
        for name in names {
            let store = replica(&hub, name, format).await;
            counters.push(PnCounter::open(store.clone(), Key::new("/n"), name).unwrap());
            stores.push(store);
        }
        let mut model: BTreeMap<&str, (u128, u128)> = BTreeMap::new();
        for _ in 0..4 {
            hub.partition(&[&["a", "b"], &["c"]]);
            for _ in 0..20 {
                let node = random.random_range(0..3);
                let n = random.random_range(1..10);
                let (up, down) = model.entry(names[node]).or_default();
                if random.random_bool(0.6) {
                    counters[node].add(n).await.unwrap();
                    *up += u128::from(n);
                } else {
                    counters[node].subtract(n).await.unwrap();
                    *down += u128::from(n);
                }
            }
            hub.heal();
            synced(&stores).await;
        }
        let expected: i128 = model
            .values()
            .map(|(up, down)| *up as i128 - *down as i128)
            .sum();
        for counter in &counters {
            assert_eq!(counter.value().await.unwrap(), expected, "{format}");
            let nodes = counter.breakdown().await.unwrap();
            let nodes: BTreeMap<&str, (u128, u128)> = nodes
                .iter()
                .map(|(node, sum)| (node.as_str(), (sum.up, sum.down)))
                .collect();
            assert_eq!(nodes, model, "{format}");
        }
    }
}

#[tokio::test]
async fn one_node_is_open_once_on_a_store_wherever_its_counters_overlap() {
    let store = CrdtDatastore::builder(MemoryDatastore::new())
        .open()
        .await
        .unwrap();
    let first = PnCounter::open(store.clone(), Key::new("/a/b"), "n").unwrap();
    for key in ["/a/b", "/a", "/a/b/c"] {
        let again = PnCounter::open(store.clone(), Key::new(key), "n");
        assert!(matches!(again, Err(Error::NodeOpen { .. })), "{key}");
    }
    PnCounter::open(store.clone(), Key::new("/a/bc"), "n").unwrap();
    PnCounter::open(store.clone(), Key::new("/a/b"), "m").unwrap();
    first.close().await.unwrap();
    PnCounter::open(store.clone(), Key::new("/a/b"), "n").unwrap();
}

#[tokio::test]
async fn a_total_saturates_and_says_so() {
    let store = CrdtDatastore::builder(MemoryDatastore::new())
        .open()
        .await
        .unwrap();
    let counter = PnCounter::open(store, Key::new("/n"), "n").unwrap();
    counter.add(u64::MAX).await.unwrap();
    assert_eq!(counter.saturated(), 0);
    counter.add(1).await.unwrap();
    assert_eq!(counter.saturated(), 1);
    assert_eq!(counter.value().await.unwrap(), i128::from(u64::MAX));
}
