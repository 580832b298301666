use std::sync::Arc;
use std::time::Duration;

use crdt_ds::Error;
use crdt_ds::stats::{
    LikeRepo, Rate, RepoOptions, Stat, StatsOptions, StatsStore, Target, TweetRepo, Validate,
};
use datastore_backends::MemoryDatastore;
use datastore_core::Key;

use crate::alone;

async fn guarded(set: impl FnOnce(&mut StatsOptions)) -> StatsStore {
    let mut options = StatsOptions::default();
    set(&mut options);
    StatsStore::open(alone().await, "net", "a", options)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn updates_above_the_rate_are_errors_that_say_when_and_change_nothing() {
    let rate = Rate {
        per_second: 2.0,
        burst: 3,
    };
    let stats = guarded(|options| options.rate = Some(rate)).await;
    for _ in 0..3 {
        stats.add("t", &Stat::LIKES, 1).await.unwrap();
    }
    let Err(Error::RateLimited { retry_after }) = stats.add("t", &Stat::LIKES, 1).await else {
        panic!("the fourth is above the rate");
    };
    assert_eq!(retry_after, Duration::from_millis(500));
    tokio::time::advance(retry_after).await;
    stats.subtract("t", &Stat::LIKES, 1).await.unwrap();
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 2);
}

#[tokio::test]
async fn what_the_hook_refuses_is_neither_counted_nor_recorded() {
    let stats = guarded(|options| {
        options.validate = Some(Arc::new(|update| match update.target {
            Target::Stat {
                subject: "locked", ..
            } => Err("it is locked".to_owned()),
            _ if update.up > 10 => Err("too much".to_owned()),
            _ => Ok(()),
        }));
    })
    .await;
    stats.add("t", &Stat::LIKES, 10).await.unwrap();
    assert!(matches!(
        stats.add("t", &Stat::LIKES, 11).await,
        Err(Error::Refused { .. })
    ));
    let local = Arc::new(MemoryDatastore::new());
    let likes = LikeRepo::open(local, Some(stats), RepoOptions::default())
        .await
        .unwrap();
    let refused = likes.like("locked", "u").await;
    assert!(matches!(refused, Err(Error::Refused { reason }) if reason == "it is locked"));
    assert!(!likes.has_liked("locked", "u").await.unwrap());
    assert_eq!(likes.likes_count("locked").await.unwrap(), 0);
}

#[tokio::test]
async fn the_hook_is_asked_on_every_way_to_a_counter() {
    let refuse: Validate = Arc::new(|_| Err("no".to_owned()));
    let refused = |outcome: crdt_ds::Result<u64>| {
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    };
    let stats = guarded(|options| options.validate = Some(refuse.clone())).await;
    refused(stats.add("t", &Stat::LIKES, 1).await.map(|()| 0));
    refused(stats.subtract("t", &Stat::LIKES, 1).await.map(|()| 0));
    refused(stats.put(&Key::new("/peers/online"), 1).await.map(|()| 0));
    let local = Arc::new(MemoryDatastore::new());
    let options = RepoOptions::default();
    let tweets = TweetRepo::open(local, Some(stats), options).await.unwrap();
    refused(tweets.retweet("t", "u").await);
    refused(tweets.record_view("t", "u").await);
    refused(tweets.increment_view_count("t").await);
    let mut options = StatsOptions::default();
    options.validate = Some(refuse);
    let likes = LikeRepo::replicated(alone().await, "likes", options)
        .await
        .unwrap();
    refused(likes.like("t", "u").await);
    refused(likes.unlike("t", "u").await);
    assert!(!likes.has_liked("t", "u").await.unwrap());
}

#[tokio::test]
async fn a_rate_that_lets_nothing_through_is_refused() {
    for (per_second, burst) in [(0.0, 1), (1.0, 0), (f64::NAN, 1)] {
        let mut options = StatsOptions::default();
        options.rate = Some(Rate { per_second, burst });
        let opened = StatsStore::open(alone().await, "net", "a", options).await;
        assert!(matches!(opened, Err(Error::Option { option: "rate", .. })));
    }
}
