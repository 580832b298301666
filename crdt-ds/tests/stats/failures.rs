//! The counters fail, are absent, or the local datastore fails: record and count agree in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{LikeRepo, RepoOptions, Stat, TweetRepo};
use datastore_backends::MemoryDatastore;
use datastore_core::{Datastore, Error, FailDatastore, Fault, Operation};
use futures::FutureExt;
use futures::future::join_all;

use crate::{alone, slow, stats_of};

fn full() -> Error {
    Error::StorageFull {
        context: "a test".to_owned(),
        source: Arc::new(Error::Closed),
    }
}

/// A store whose writes fail while the switch is on.
fn failing() -> (impl Datastore + 'static, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let below = FailDatastore::new(MemoryDatastore::new());
    let on = switch.clone();
    below.fail_when(move |operation| {
        (operation.is_write() && on.load(Ordering::Relaxed)).then(|| Fault::before(full()))
    });
    (below, switch)
}

#[tokio::test]
async fn while_the_counters_fail_counts_are_local_and_are_paid_afterwards_once() {
    let (below, failing) = failing();
    let store = CrdtDatastore::builder(below).open().await.unwrap();
    let stats = stats_of(&store, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let options = RepoOptions::default;
    let likes = LikeRepo::open(local.clone(), Some(stats.clone()), options())
        .await
        .unwrap();
    let tweets = TweetRepo::open(local.clone(), Some(stats.clone()), options())
        .await
        .unwrap();
    likes.like("t", "u").await.unwrap();
    failing.store(true, Ordering::Relaxed);
    assert_eq!(likes.like("t", "v").await.unwrap(), 2);
    assert_eq!(likes.fallbacks(), 1);
    assert_eq!(tweets.increment_view_count("t").await.unwrap(), 1);
    assert_eq!(tweets.increment_view_count("t").await.unwrap(), 2);
    assert!(likes.has_liked("t", "v").await.unwrap());
    assert_eq!(likes.settle().await.unwrap(), 1);
    assert_eq!(tweets.settle().await.unwrap(), 2);
    // Others' adds meanwhile are errors, and not counted later.
    stats.add("t", &Stat::LIKES, 100).await.unwrap_err();
    failing.store(false, Ordering::Relaxed);
    assert_eq!(likes.settle().await.unwrap(), 0);
    assert_eq!(tweets.settle().await.unwrap(), 0);
    assert_eq!(likes.likes_count("t").await.unwrap(), 2);
    assert_eq!(tweets.views_count("t").await.unwrap(), 2);
    assert_eq!(likes.unlike("t", "v").await.unwrap(), 1);
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!((nodes["a"].up, nodes["a"].down), (2, 1));
}

/// An add whose caller went away while it was under way holds up nobody.
#[tokio::test(start_paused = true)]
async fn what_is_owed_is_paid_though_the_caller_of_an_add_went_away() {
    let (below, failing) = failing();
    let is_slow = Arc::new(AtomicBool::new(false));
    let below = slow(below, is_slow.clone());
    let store = CrdtDatastore::builder(below).open().await.unwrap();
    let stats = stats_of(&store, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let likes = LikeRepo::open(local, Some(stats.clone()), RepoOptions::default());
    let likes = likes.await.unwrap();
    failing.store(true, Ordering::Relaxed);
    likes.like("t", "u").await.unwrap();
    failing.store(false, Ordering::Relaxed);
    is_slow.store(true, Ordering::Relaxed);
    assert!(stats.add("t", &Stat::VIEWS, 1).now_or_never().is_none());
    let settled = tokio::time::timeout(Duration::from_secs(60), likes.settle()).await;
    assert_eq!(settled.expect("it waits for ever").unwrap(), 0);
    assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 1);
    assert_eq!(stats.get("t", &Stat::VIEWS).await.unwrap(), 1);
}

#[tokio::test]
async fn an_action_after_one_that_is_owed_pays_it_first() {
    let (below, failing) = failing();
    let store = CrdtDatastore::builder(below).open().await.unwrap();
    let stats = stats_of(&store, "a").await;
    let local = Arc::new(MemoryDatastore::new());
    let likes = LikeRepo::open(local, Some(stats.clone()), RepoOptions::default())
        .await
        .unwrap();
    failing.store(true, Ordering::Relaxed);
    assert_eq!(likes.like("t", "u").await.unwrap(), 1);
    // It may or may not be counted, so it cannot be taken back now.
    likes.unlike("t", "u").await.unwrap_err();
    failing.store(false, Ordering::Relaxed);
    assert_eq!(likes.unlike("t", "u").await.unwrap(), 0);
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!((nodes["a"].up, nodes["a"].down), (1, 1));
}

#[tokio::test]
async fn where_it_is_unknown_whether_an_intent_is_stored_nothing_is_counted_until_the_next_open() {
    for stored in [false, true] {
        let below = MemoryDatastore::new();
        let store = CrdtDatastore::builder(below).open().await.unwrap();
        let stats = stats_of(&store, "a").await;
        let disk = MemoryDatastore::new();
        let local = FailDatastore::new(disk.clone());
        let unknown = || Error::OutcomeUnknown {
            context: "a test".to_owned(),
            source: Arc::new(Error::Closed),
        };
        let mut writes = 0;
        local.fail_when(move |operation| {
            writes += u64::from(operation.is_write());
            let fault = if stored { Fault::after } else { Fault::before };
            (operation.is_write() && writes == 1).then(|| fault(unknown()))
        });
        let options = RepoOptions::default;
        let likes = LikeRepo::open(Arc::new(local), Some(stats.clone()), options())
            .await
            .unwrap();
        likes.like("t", "u").await.unwrap();
        // Its amount may neither be written nor handed out again.
        stats.add("t", &Stat::LIKES, 10).await.unwrap_err();
        assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 0, "{stored}");
        likes.close().await.unwrap();
        stats.close().await.unwrap();
        let stats = stats_of(&store, "a").await;
        let likes = LikeRepo::open(Arc::new(disk), Some(stats.clone()), options())
            .await
            .unwrap();
        assert!(likes.has_liked("t", "u").await.unwrap());
        assert_eq!(stats.get("t", &Stat::LIKES).await.unwrap(), 1, "{stored}");
    }
}

#[tokio::test]
async fn without_counters_counts_are_local_and_counted_when_there_are_some() {
    let local = Arc::new(MemoryDatastore::new());
    let options = RepoOptions::default;
    let likes = LikeRepo::open(local.clone(), None, options())
        .await
        .unwrap();
    let tweets = TweetRepo::open(local.clone(), None, options())
        .await
        .unwrap();
    assert_eq!(likes.like("t", "u").await.unwrap(), 1);
    assert_eq!(likes.like("t", "v").await.unwrap(), 2);
    assert_eq!(likes.unlike("t", "u").await.unwrap(), 1);
    for n in 1..=5 {
        assert_eq!(tweets.increment_view_count("t").await.unwrap(), n);
    }
    assert!(likes.fallbacks() > 0);
    likes.close().await.unwrap();
    let stats = stats_of(&alone().await, "a").await;
    let likes = LikeRepo::open(local.clone(), Some(stats.clone()), options())
        .await
        .unwrap();
    let _tweets = TweetRepo::open(local, Some(stats.clone()), options())
        .await
        .unwrap();
    assert_eq!(likes.likes_count("t").await.unwrap(), 1);
    let nodes = stats.breakdown("t", &Stat::LIKES).await.unwrap();
    assert_eq!((nodes["a"].up, nodes["a"].down), (1, 0));
    assert_eq!(stats.get("t", &Stat::VIEWS).await.unwrap(), 5);
    assert_eq!(likes.settle().await.unwrap(), 0);
}

#[tokio::test]
async fn a_local_write_that_fails_at_any_step_is_an_error_and_the_next_try_counts_once() {
    for failing in 0..4 {
        let stats = stats_of(&alone().await, "a").await;
        let writes = Arc::new(AtomicU64::new(u64::MAX / 2));
        let local = FailDatastore::new(MemoryDatastore::new());
        let count = writes.clone();
        local.fail_when(move |operation| {
            let fails = operation.is_write() && count.fetch_add(1, Ordering::Relaxed) == failing;
            fails.then(|| Fault::before(full()))
        });
        let local = Arc::new(local);
        let likes = LikeRepo::open(local, Some(stats.clone()), RepoOptions::default())
            .await
            .unwrap();
        stats.add("t", &Stat::LIKES, 10).await.unwrap();
        writes.store(0, Ordering::Relaxed);
        let first = likes.like("t", "u").await;
        // An intent that was not stored leaves a debt; a record that was not is an error.
        assert_eq!(first.is_err(), failing == 1, "{failing} {first:?}");
        stats.add("t", &Stat::LIKES, 10).await.unwrap();
        writes.store(u64::MAX / 2, Ordering::Relaxed);
        assert_eq!(likes.like("t", "u").await.unwrap(), 21, "{failing}");
        assert_eq!(likes.settle().await.unwrap(), 0);
        assert_eq!(likes.unlike("t", "u").await.unwrap(), 20, "{failing}");
    }
}

/// A batch that is split and cut between its parts leaves nothing that a later failure could count.
#[tokio::test(start_paused = true)]
async fn an_add_that_failed_after_a_batch_that_was_cut_is_not_counted() {
    let (commits, fails_at) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let below = FailDatastore::new(MemoryDatastore::new());
    let (counted, at) = (commits.clone(), fails_at.clone());
    below.fail_when(move |operation| {
        let commits = matches!(operation, Operation::Commit(_))
            .then(|| counted.fetch_add(1, Ordering::Relaxed) + 1)?;
        (commits == at.load(Ordering::Relaxed)).then(|| Fault::before(full()))
    });
    let below = slow(below, Arc::new(AtomicBool::new(true)));
    let store = CrdtDatastore::builder(below).max_delta_bytes(8 * 1024);
    let store = store.open().await.unwrap();
    let stats = stats_of(&store, "a").await;
    // The first add goes out by itself, the others in two blocks. One of them is stored, the other
    // under way.
    let subjects: Vec<String> = (0..12)
        .map(|n| format!("{n:02}{}", "x".repeat(700)))
        .collect();
    let adds = join_all(
        subjects
            .iter()
            .map(|subject| stats.add(subject, &Stat::LIKES, 1)),
    );
    let before = commits.load(Ordering::Relaxed);
    let cut = tokio::time::timeout(Duration::from_millis(2500), adds).await;
    assert!(cut.is_err());
    assert_eq!(commits.load(Ordering::Relaxed), before + 2);
    tokio::time::sleep(Duration::from_secs(5)).await;

    for subject in subjects.iter().skip(1) {
        let before = stats.get(subject, &Stat::LIKES).await.unwrap();
        // Whichever of its commits fails, if it has several.
        fails_at.store(commits.load(Ordering::Relaxed) + 2, Ordering::Relaxed);
        let added = stats.add(subject, &Stat::LIKES, 100).await;
        fails_at.store(0, Ordering::Relaxed);
        let grew = if added.is_ok() { 100 } else { 0 };
        let now = stats.get(subject, &Stat::LIKES).await.unwrap();
        // Of the adds that were cut each is counted once, or not yet.
        let counted = before + grew..=before.max(1) + grew;
        assert!(counted.contains(&now), "{added:?}, from {before} to {now}");
    }
}
