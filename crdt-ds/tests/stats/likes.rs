use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crdt_ds::Error;
use crdt_ds::stats::{LikeRepo, ReplyRepo, RepoOptions, Stat, TweetRepo};
use crdt_ds::sync::Hub;
use datastore_backends::MemoryDatastore;
use datastore_core::DelayDatastore;
use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{FORMATS, alone, replica, seed, stats_of, synced};

#[tokio::test]
async fn each_user_counts_once_and_an_unknown_like_is_not_taken_back() {
    let stats = stats_of(&alone().await, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let likes = LikeRepo::open(local, Some(stats.clone()), RepoOptions::default())
        .await
        .unwrap();
    assert_eq!(likes.unlike("t", "u").await.unwrap(), 0);
    for _ in 0..3 {
        assert_eq!(likes.like("t", "u").await.unwrap(), 1);
    }
    assert_eq!(likes.like("t", "v").await.unwrap(), 2);
    assert_eq!(likes.like("t/x", "v").await.unwrap(), 1);
    // Not those of a tweet whose id begins as this one's.
    assert_eq!(
        likes.likers("t", None, 9).await.unwrap().members,
        ["u", "v"]
    );
    for _ in 0..3 {
        assert_eq!(likes.unlike("t", "u").await.unwrap(), 1);
    }
    assert!(likes.has_liked("t", "v").await.unwrap() && !likes.has_liked("t", "u").await.unwrap());
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!((nodes["a"].up, nodes["a"].down), (2, 1));
    assert!(matches!(
        likes.like("", "u").await,
        Err(Error::EmptyName { .. })
    ));
    assert!(matches!(
        likes.like("t", "").await,
        Err(Error::EmptyName { .. })
    ));
    assert_eq!(likes.fallbacks(), 0);
    assert_eq!(likes.settle().await.unwrap(), 0);
    likes.close().await.unwrap();
    assert!(matches!(likes.like("t", "w").await, Err(Error::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_like_from_many_tasks_counts_once() {
    let stats = stats_of(&alone().await, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let likes = LikeRepo::open(local, Some(stats), RepoOptions::default())
        .await
        .unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let likes = likes.clone();
            tokio::spawn(async move { likes.like("t", &format!("u{}", n % 8)).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(likes.likes_count("t").await.unwrap(), 8);
    assert_eq!(likes.likers("t", None, 100).await.unwrap().members.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn two_likes_of_one_user_that_look_at_once_count_once() {
    let stats = stats_of(&alone().await, "a").await;
    // Each look takes a while, so without a turn both see that there is no like yet.
    let slow = DelayDatastore::new(MemoryDatastore::new(), |_| {
        tokio::time::sleep(Duration::from_secs(1)).boxed()
    });
    let likes = LikeRepo::open(Arc::new(slow), Some(stats.clone()), RepoOptions::default())
        .await
        .unwrap();
    let (first, second) = tokio::join!(likes.like("t", "u"), likes.like("t", "u"));
    first.unwrap();
    second.unwrap();
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 1);
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!(nodes["a"].up, 1);
}

#[tokio::test]
async fn no_tweet_reaches_into_the_rows_of_another() {
    let local = Arc::new(MemoryDatastore::new());
    // Without counters the counts are those of the rows.
    let likes = LikeRepo::open(local, None, RepoOptions::default())
        .await
        .unwrap();
    let tweets = ["t", "t/x", "..", ".", "%2F", "a:b"];
    for tweet in tweets {
        likes.like(tweet, "u/v").await.unwrap();
    }
    for tweet in tweets {
        assert_eq!(likes.likes_count(tweet).await.unwrap(), 1, "{tweet}");
        let likers = likes.likers(tweet, None, 9).await.unwrap().members;
        assert_eq!(likers, ["u/v"], "{tweet}");
    }
}

#[tokio::test]
async fn retweets_replies_and_views_count_as_their_names_say() {
    let stats = stats_of(&alone().await, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let options = RepoOptions::default;
    let tweets = TweetRepo::open(local.clone(), Some(stats.clone()), options())
        .await
        .unwrap();
    let replies = ReplyRepo::open(local, Some(stats.clone()), options())
        .await
        .unwrap();
    assert_eq!(tweets.retweet("t", "u").await.unwrap(), 1);
    assert_eq!(tweets.retweet("t", "u").await.unwrap(), 1);
    assert_eq!(tweets.retweet("t", "v").await.unwrap(), 2);
    assert_eq!(
        tweets.retweeters("t", None, 9).await.unwrap().members,
        ["u", "v"]
    );
    assert_eq!(tweets.unretweet("t", "u").await.unwrap(), 1);
    assert!(!tweets.has_retweeted("t", "u").await.unwrap());
    assert_eq!(tweets.increment_view_count("t").await.unwrap(), 1);
    assert_eq!(tweets.increment_view_count("t").await.unwrap(), 2);
    assert_eq!(tweets.record_view("t", "u").await.unwrap(), 3);
    assert_eq!(tweets.record_view("t", "u").await.unwrap(), 3);
    assert_eq!(replies.add_reply("t", "r1").await.unwrap(), 1);
    assert_eq!(replies.add_reply("t", "r2").await.unwrap(), 2);
    assert_eq!(replies.add_reply("t", "r2").await.unwrap(), 2);
    assert_eq!(replies.remove_reply("t", "r1").await.unwrap(), 1);
    assert_eq!(replies.replies("t", None, 9).await.unwrap().members, ["r2"]);
    let all = stats.get_all("t").await.unwrap();
    assert_eq!(
        (all.likes, all.retweets, all.replies, all.views),
        (0, 1, 1, 3)
    );
    assert_eq!(tweets.views_count("t").await.unwrap(), 3);
    assert_eq!(tweets.retweets_count("t").await.unwrap(), 1);
    assert_eq!(replies.replies_count("t").await.unwrap(), 1);
}

#[tokio::test]
async fn likes_of_many_nodes_add_up_through_partitions_and_likers_come_in_pages() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let hub = Hub::new(seed);
    let names = ["a", "b", "c"];
    let (mut stores, mut repos) = (Vec::new(), Vec::new());
    for name in names {
        let store = replica(&hub, name, FORMATS[0]).await;
        let stats = stats_of(&store, name).await;
        let local = Arc::new(MemoryDatastore::new());
        repos.push(
            LikeRepo::open(local, Some(stats), RepoOptions::default())
                .await
                .unwrap(),
        );
        stores.push(store);
    }
    let mut model: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3 {
        hub.partition(&[&["a", "b"], &["c"]]);
        for _ in 0..60 {
            let node = random.random_range(0..3);
            let user = format!("{}/u{}", names[node], random.random_range(0..9));
            if random.random_bool(0.6) {
                repos[node].like("t", &user).await.unwrap();
                model.entry(node).or_default().insert(user);
            } else {
                repos[node].unlike("t", &user).await.unwrap();
                model.entry(node).or_default().remove(&user);
            }
        }
        hub.heal();
        synced(&stores).await;
        let expected: usize = model.values().map(BTreeSet::len).sum();
        for (node, repo) in repos.iter().enumerate() {
            assert_eq!(repo.likes_count("t").await.unwrap(), expected as u64);
            let (mut likers, mut cursor) = (BTreeSet::new(), None);
            loop {
                let page = repo.likers("t", cursor.as_deref(), 2).await.unwrap();
                likers.extend(page.members);
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(likers, model.get(&node).cloned().unwrap_or_default());
        }
    }
}
