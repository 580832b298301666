use std::collections::BTreeSet;

use crdt_ds::stats::{LikeRepo, StatsOptions};
use crdt_ds::sync::Hub;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{FORMATS, replica, seed, synced};

#[tokio::test]
async fn likes_and_unlikes_of_one_user_on_two_devices_count_the_user_once() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let (a, b) = (
            replica(&hub, "a", format).await,
            replica(&hub, "b", format).await,
        );
        let open = |store| LikeRepo::replicated(store, "likes", StatsOptions::default());
        let (phone, laptop) = (
            open(a.clone()).await.unwrap(),
            open(b.clone()).await.unwrap(),
        );
        let both = [a, b];
        // A like here, an unlike there.
        assert_eq!(phone.like("t", "u").await.unwrap(), 1);
        synced(&both).await;
        assert!(laptop.has_liked("t", "u").await.unwrap());
        assert_eq!(laptop.unlike("t", "u").await.unwrap(), 0);
        synced(&both).await;
        assert_eq!(phone.likes_count("t").await.unwrap(), 0);
        // The same like on both at once.
        hub.partition(&[&["a"], &["b"]]);
        phone.like("t", "u").await.unwrap();
        laptop.like("t", "u").await.unwrap();
        hub.heal();
        synced(&both).await;
        for device in [&phone, &laptop] {
            assert_eq!(device.likes_count("t").await.unwrap(), 1, "{format}");
            assert_eq!(device.likers("t", None, 9).await.unwrap().members, ["u"]);
        }
        // The same unlike on both at once: not below zero.
        hub.partition(&[&["a"], &["b"]]);
        phone.unlike("t", "u").await.unwrap();
        laptop.unlike("t", "u").await.unwrap();
        hub.heal();
        synced(&both).await;
        for device in [&phone, &laptop] {
            assert_eq!(device.likes_count("t").await.unwrap(), 0, "{format}");
        }
        // A like that changes nothing does not stand against an unlike.
        phone.like("t", "u").await.unwrap();
        synced(&both).await;
        hub.partition(&[&["a"], &["b"]]);
        phone.like("t", "u").await.unwrap();
        laptop.unlike("t", "u").await.unwrap();
        hub.heal();
        synced(&both).await;
        assert_eq!(phone.likes_count("t").await.unwrap(), 0, "{format}");
        phone.close().await.unwrap();
        laptop.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_cached_count_is_the_number_of_likers_while_devices_race() {
    let seed = seed();
    for format in FORMATS {
        let mut random = StdRng::seed_from_u64(seed);
        let hub = Hub::new(seed);
        let (mut stores, mut repos) = (Vec::new(), Vec::new());
        for name in ["a", "b", "c"] {
            let store = replica(&hub, name, format).await;
            let options = StatsOptions::default();
            repos.push(
                LikeRepo::replicated(store.clone(), "likes", options)
                    .await
                    .unwrap(),
            );
            stores.push(store);
        }
        for _ in 0..4 {
            hub.partition(&[&["a"], &["b"], &["c"]]);
            for _ in 0..40 {
                let repo = &repos[random.random_range(0..3)];
                let (tweet, user) = (
                    ["t", "t/u"][random.random_range(0..2)],
                    random.random_range(0..5),
                );
                let user = format!("u{user}");
                let count = if random.random_bool(0.5) {
                    repo.like(tweet, &user).await.unwrap()
                } else {
                    repo.unlike(tweet, &user).await.unwrap()
                };
                assert_eq!(count, likers(repo, tweet).await.len() as u64);
            }
            hub.heal();
            synced(&stores).await;
            for tweet in ["t", "t/u"] {
                let agreed = likers(&repos[0], tweet).await;
                for repo in &repos {
                    assert_eq!(likers(repo, tweet).await, agreed);
                    assert_eq!(repo.likes_count(tweet).await.unwrap(), agreed.len() as u64);
                }
            }
        }
    }
}

async fn likers(repo: &LikeRepo, tweet: &str) -> BTreeSet<String> {
    repo.likers(tweet, None, 100)
        .await
        .unwrap()
        .members
        .into_iter()
        .collect()
}
