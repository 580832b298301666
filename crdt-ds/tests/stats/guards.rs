use std::sync::Arc;
use std::time::Duration;

use crdt_ds::Error;
use crdt_ds::stats::{LikeRepo, Rate, RepoOptions, Stat, StatsOptions, StatsStore, Target};
use datastore_backends::MemoryDatastore;

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
async fn a_rate_that_lets_nothing_through_is_refused() {
    for (per_second, burst) in [(0.0, 1), (1.0, 0), (f64::NAN, 1)] {
        let mut options = StatsOptions::default();
        options.rate = Some(Rate { per_second, burst });
        let opened = StatsStore::open(alone().await, "net", "a", options).await;
        assert!(matches!(opened, Err(Error::Option { option: "rate", .. })));
    }
}
