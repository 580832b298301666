use std::collections::BTreeMap;

use crdt_ds::stats::{Stat, StatsOptions, StatsStore, Sum, TweetStats};
use crdt_ds::sync::Hub;
use crdt_ds::{CrdtDatastore, Error};
use datastore_backends::MemoryDatastore;
use datastore_core::Key;
use futures::{FutureExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{FORMATS, alone, replica, seed, stats_of, synced};

#[tokio::test]
async fn counts_of_three_nodes_equal_a_model_cached_or_not_through_partitions() {
    let seed = seed();
    for format in FORMATS {
        let mut random = StdRng::seed_from_u64(seed);
        let hub = Hub::new(seed);
        let (mut stores, mut stats) = (Vec::new(), Vec::new());
        for (name, cache_slots) in [("a", 1000), ("b", 6), ("c", 0)] {
            let store = replica(&hub, name, format).await;
            let mut options = StatsOptions::default();
            options.cache_slots = cache_slots;
            stats.push(
                StatsStore::open(store.clone(), "net", name, options)
                    .await
                    .unwrap(),
            );
            stores.push(store);
        }
        let subjects = ["t/1", "t", "..", "x:y"];
        let mut model: BTreeMap<(usize, usize, usize), (u64, u64)> = BTreeMap::new();
        let count = |model: &BTreeMap<(usize, usize, usize), (u64, u64)>, subject, stat| -> u64 {
            let slots = model
                .iter()
                .filter(|((s, t, _), _)| (*s, *t) == (subject, stat));
            let (up, down) = slots.fold((0, 0), |(up, down), (_, (u, d))| (up + u, down + d));
            u64::saturating_sub(up, down)
        };
        for _ in 0..5 {
            hub.partition(&[&["a"], &["b", "c"]]);
            for _ in 0..40 {
                let (node, subject, stat) = (
                    random.random_range(0..3),
                    random.random_range(0..4),
                    random.random_range(0..4),
                );
                let n = random.random_range(1..5);
                let (up, down) = model.entry((subject, stat, node)).or_default();
                let (subject, stat) = (subjects[subject], &Stat::NAMED[stat]);
                if random.random_bool(0.7) {
                    stats[node].add(subject, stat, n).await.unwrap();
                    *up += n;
                } else {
                    stats[node].subtract(subject, stat, n).await.unwrap();
                    *down += n;
                }
                // Read here and there meanwhile, so that caches hold something.
                let reader = &stats[random.random_range(0..3)];
                reader
                    .get_all(subjects[random.random_range(0..4)])
                    .await
                    .unwrap();
            }
            hub.heal();
            synced(&stores).await;
            for (node, stats) in stats.iter().enumerate() {
                for (s, subject) in subjects.iter().enumerate() {
                    let expected = TweetStats {
                        likes: count(&model, s, 0),
                        retweets: count(&model, s, 1),
                        replies: count(&model, s, 2),
                        views: count(&model, s, 3),
                    };
                    for _ in 0..2 {
                        let got = stats.get_all(subject).await.unwrap();
                        assert_eq!(got, expected, "{format} node {node} {subject}");
                    }
                }
                for (t, stat) in Stat::NAMED.iter().enumerate() {
                    let mut ranking: Vec<(String, u64)> = (0..4)
                        .map(|s| (subjects[s].to_owned(), count(&model, s, t)))
                        .filter(|(_, count)| *count > 0)
                        .collect();
                    ranking.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
                    ranking.truncate(3);
                    assert_eq!(stats.top(stat, 3).await.unwrap(), ranking);
                }
            }
        }
        assert!(stats[0].info().cache_hits > 0);
        assert_eq!(stats[2].info().cache_hits, 0);
    }
}

#[tokio::test]
async fn a_read_sees_the_write_before_it_also_in_one_long_poll() {
    let stats = stats_of(&alone().await, "a").await;
    stats.get("t", &Stat::VIEWS).await.unwrap();
    for n in 1..=1000 {
        stats.add("t", &Stat::VIEWS, 1).await.unwrap();
        assert_eq!(stats.get("t", &Stat::VIEWS).await.unwrap(), n);
    }
    assert_eq!(stats.info().cache_misses, 1);
}

#[tokio::test]
async fn no_id_reaches_into_the_keys_of_another() {
    let store = alone().await;
    let stats = stats_of(&store, "a/b:c").await;
    let ids = [
        "t",
        "t/likes",
        "t/likes/a:0",
        "..",
        ".",
        "t:likes",
        "%2F",
        "net",
        "/",
        "\u{0}",
    ];
    for (n, id) in ids.iter().enumerate() {
        stats.add(id, &Stat::LIKES, n as u64 + 1).await.unwrap();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(
            stats.get(id, &Stat::LIKES).await.unwrap(),
            n as u64 + 1,
            "{id:?}"
        );
        let nodes = stats.breakdown(id, &Stat::LIKES).await.unwrap();
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["a/b:c"]);
    }
    assert_eq!(store.info().keys, ids.len() as u64);
    for (n, id) in ids.iter().enumerate() {
        let stat = Stat::new(*id);
        stats.add("s", &stat, n as u64 + 1).await.unwrap();
        assert_eq!(stats.get("s", &stat).await.unwrap(), n as u64 + 1, "{id:?}");
        assert_eq!(stats.get(id, &Stat::LIKES).await.unwrap(), n as u64 + 1);
    }
    assert_eq!(store.info().keys, 2 * ids.len() as u64);
    assert!(matches!(
        stats.add("", &Stat::LIKES, 1).await,
        Err(Error::EmptyName { .. })
    ));
    let long = "x".repeat(10_000);
    assert!(matches!(
        stats.get(&long, &Stat::LIKES).await,
        Err(Error::NameTooLong { .. })
    ));
    let options = StatsOptions::default;
    for node in ["", &long] {
        assert!(
            StatsStore::open(store.clone(), "net", node, options())
                .await
                .is_err()
        );
        assert!(
            StatsStore::open(store.clone(), node, "n", options())
                .await
                .is_err()
        );
    }
    // The longest ids there can be, of what is longest when it is escaped.
    let longest = "/".repeat(1024);
    let stats = StatsStore::open(store, &longest, &longest, options())
        .await
        .unwrap();
    stats
        .add(&longest, &Stat::new(longest.clone()), 1)
        .await
        .unwrap();
    assert_eq!(
        stats
            .get(&longest, &Stat::new(longest.clone()))
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn any_other_counter_is_set_and_summed_and_is_also_a_stat() {
    let hub = Hub::new(1);
    let (a, b) = (
        replica(&hub, "a", FORMATS[0]).await,
        replica(&hub, "b", FORMATS[0]).await,
    );
    let (ours, theirs) = (stats_of(&a, "a").await, stats_of(&b, "b").await);
    let key = Key::new("/peers/online");
    ours.put(&key, 5).await.unwrap();
    theirs.put(&key, 7).await.unwrap();
    ours.put(&key, 2).await.unwrap();
    ours.put(&key, 3).await.unwrap();
    synced(&[a, b]).await;
    assert_eq!(theirs.get_aggregated(&key).await.unwrap(), 10);
    assert_eq!(ours.get("peers", &Stat::new("online")).await.unwrap(), 10);
    let nodes = ours.breakdown("peers", &"online".into()).await.unwrap();
    assert_eq!(nodes["a"], Sum { up: 6, down: 3 });
    assert!(matches!(
        ours.put(&Key::root(), 1).await,
        Err(Error::EmptyName { .. })
    ));
}

#[tokio::test]
async fn totals_and_counts_end_at_their_last_number_and_the_store_says_so() {
    let store = alone().await;
    let (a, b) = (stats_of(&store, "a").await, stats_of(&store, "b").await);
    for stats in [&a, &b] {
        for _ in 0..2 {
            stats.add("t", &Stat::VIEWS, u64::MAX).await.unwrap();
        }
    }
    assert_eq!(a.get("t", &Stat::VIEWS).await.unwrap(), u64::MAX);
    assert_eq!((a.info().saturated, b.info().saturated), (1, 1));
    for _ in 0..2 {
        a.subtract("t", &Stat::VIEWS, u64::MAX).await.unwrap();
    }
    assert_eq!(a.info().saturated, 2);
    let nodes = a.breakdown("t", &Stat::VIEWS).await.unwrap();
    let (all, end) = (&nodes["a"], u128::from(u64::MAX));
    assert_eq!((all.up, all.down), (end, end));
    assert_eq!(b.get("t", &Stat::VIEWS).await.unwrap(), u64::MAX);
}

#[tokio::test]
async fn a_subject_is_watched_from_now_on_and_ends_at_its_last_counts() {
    let hub = Hub::new(1);
    let (a, b) = (
        replica(&hub, "a", FORMATS[0]).await,
        replica(&hub, "b", FORMATS[0]).await,
    );
    let (ours, theirs) = (stats_of(&a, "a").await, stats_of(&b, "b").await);
    let mut watch = std::pin::pin!(ours.watch("t").unwrap());
    assert_eq!(watch.next().await.unwrap().unwrap(), TweetStats::default());
    assert!(watch.next().now_or_never().is_none());
    ours.add("other", &Stat::LIKES, 1).await.unwrap();
    ours.add("t", &Stat::new("else"), 1).await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    theirs.add("t", &Stat::LIKES, 2).await.unwrap();
    let seen = watch.next().await.unwrap().unwrap();
    assert_eq!((seen.likes, seen.views), (2, 0));
    ours.add("t", &Stat::VIEWS, 1).await.unwrap();
    ours.add("t", &Stat::VIEWS, 1).await.unwrap();
    let seen = watch.next().await.unwrap().unwrap();
    assert_eq!((seen.likes, seen.views), (2, 2));
}

#[tokio::test]
async fn a_node_is_open_once_on_a_store_and_again_after_a_close() {
    let store = alone().await;
    let stats = stats_of(&store, "a").await;
    let again = StatsStore::open(store.clone(), "net", "a", StatsOptions::default()).await;
    assert!(matches!(again, Err(Error::NodeOpen { .. })));
    stats_of(&store, "b").await;
    stats.add("t", &Stat::LIKES, 1).await.unwrap();
    stats.close().await.unwrap();
    stats.close().await.unwrap();
    assert!(matches!(
        stats.add("t", &Stat::LIKES, 1).await,
        Err(Error::Closed)
    ));
    let again = stats_of(&store, "a").await;
    again.add("t", &Stat::LIKES, 1).await.unwrap();
    assert_eq!(again.get("t", &Stat::LIKES).await.unwrap(), 2);
    assert_eq!(store.info().keys, 1);
    // Dropped, not closed.
    drop(again);
    stats_of(&store, "a").await;
}

#[tokio::test]
async fn a_delta_that_is_delivered_twice_counts_once() {
    let faults = crdt_ds::sync::Faults {
        duplication: 1.0,
        ..Default::default()
    };
    let hub = Hub::with_faults(1, faults);
    let (a, b) = (
        replica(&hub, "a", FORMATS[0]).await,
        replica(&hub, "b", FORMATS[0]).await,
    );
    let (ours, theirs) = (stats_of(&a, "a").await, stats_of(&b, "b").await);
    for _ in 0..10 {
        ours.add("t", &Stat::LIKES, 1).await.unwrap();
    }
    synced(&[a, b]).await;
    assert_eq!(theirs.get("t", &Stat::LIKES).await.unwrap(), 10);
}

#[tokio::test]
async fn many_slots_in_one_group_are_split_where_they_exceed_a_block() {
    let store = CrdtDatastore::builder(MemoryDatastore::new())
        .max_delta_bytes(8192)
        .open()
        .await
        .unwrap();
    let stats = stats_of(&store, "a").await;
    let adds = (0..200).map(|n| {
        let stats = stats.clone();
        async move { stats.add(&format!("tweet-{n}"), &Stat::LIKES, 1).await }
    });
    for added in futures::future::join_all(adds).await {
        added.unwrap();
    }
    assert_eq!(store.info().keys, 200);
    assert_eq!(stats.top(&Stat::LIKES, 300).await.unwrap().len(), 200);
}
