//! A crash at each operation: record and count agree when the repo is open again, here and on a peer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{LikeRepo, RepoOptions, Stat, StatsStore, TweetRepo};
use crdt_ds::sync::{Hub, Peers};
use datastore_backends::MemoryDatastore;
use datastore_core::{CrashDatastore, CrashPoint, Datastore, Key, Loss, NamespaceDatastore};

use crate::{FORMATS, alone, replica, stats_of};

type Disk = CrashDatastore<MemoryDatastore>;

struct Node {
    store: CrdtDatastore,
    stats: StatsStore,
    likes: LikeRepo,
    tweets: TweetRepo,
    local: Arc<dyn Datastore>,
}

async fn open(disk: &Disk, hub: &Hub, durable: bool) -> crdt_ds::Result<Node> {
    let store = CrdtDatastore::builder(disk.clone())
        .transport(hub.join("a"))
        .durable(durable)
        .rebroadcast_interval(Duration::from_millis(50))
        .open()
        .await?;
    let stats = StatsStore::open(store.clone(), "net", "a", Default::default()).await?;
    let local = NamespaceDatastore::new(disk.clone(), Key::new("/local"));
    let local: Arc<dyn Datastore> = Arc::new(local);
    let mut options = RepoOptions::default();
    options.durable = durable;
    let likes = LikeRepo::open(local.clone(), Some(stats.clone()), options.clone()).await?;
    let tweets = TweetRepo::open(local.clone(), Some(stats.clone()), options).await?;
    Ok(Node {
        store,
        stats,
        likes,
        tweets,
        local,
    })
}

/// What a user was told before the crash.
#[derive(Default, Debug)]
struct Told {
    likes: BTreeMap<&'static str, bool>,
    /// The action that was cut.
    cut: Option<&'static str>,
    views: u64,
}

async fn scenario(node: &Node, told: &mut Told) -> crdt_ds::Result<()> {
    let steps = [
        ("u", true),
        ("v", true),
        ("u", false),
        ("u", true),
        ("v", false),
        ("w", true),
    ];
    for (user, likes) in steps {
        told.cut = Some(user);
        if likes {
            node.likes.like("t", user).await?;
        } else {
            node.likes.unlike("t", user).await?;
        }
        told.likes.insert(user, likes);
        told.cut = None;
        node.tweets.increment_view_count("t").await?;
        told.views += 1;
    }
    Ok(())
}

async fn crash_and_reopen(operation: u64, point: CrashPoint, loss: Loss, durable: bool) -> bool {
    let hub = Hub::new(operation);
    let peer = replica(&hub, "peer", FORMATS[0]).await;
    let theirs = stats_of(&peer, "peer").await;
    let disk = CrashDatastore::new(MemoryDatastore::new());
    let node = open(&disk, &hub, durable).await.unwrap();
    let began = disk.operations();
    disk.crash_at(began + operation, point);
    let mut told = Told::default();
    let _ = scenario(&node, &mut told).await;
    let crashed = disk.has_crashed();
    disk.crash();
    // What it announced arrives, if it gets there in time: either way counts agree.
    let _ = peer
        .wait_for_sync(Peers::Any, Duration::from_millis(200))
        .await;
    drop(node);
    let disk = disk.survivors(loss, MemoryDatastore::new()).await.unwrap();
    let node = open(&disk, &hub, durable).await.unwrap();
    let context = format!("{operation} {point:?} {loss:?} durable {durable} {told:?}");
    for store in [&peer, &node.store] {
        store
            .wait_for_sync(Peers::All, Duration::from_secs(10))
            .await
            .expect(&context);
    }
    let likers = node.likes.likers("t", None, 100).await.unwrap().members;
    assert_eq!(
        node.likes.likes_count("t").await.unwrap(),
        likers.len() as u64,
        "{context}"
    );
    assert_eq!(
        theirs.get("t", &Stat::LIKES).await.unwrap(),
        likers.len() as u64,
        "{context}"
    );
    for (user, likes) in &told.likes {
        if told.cut != Some(user) {
            assert_eq!(
                likers.iter().any(|liker| liker == user),
                *likes,
                "{context} {user}"
            );
        }
    }
    // What the local datastore counted alone.
    let alone = TweetRepo::open(node.local.clone(), None, RepoOptions::default())
        .await
        .unwrap();
    let views = node.tweets.views_count("t").await.unwrap();
    assert_eq!(views, alone.views_count("t").await.unwrap(), "{context}");
    assert!(
        (told.views..=told.views + 1).contains(&views),
        "{context} {views}"
    );
    assert_eq!(node.likes.settle().await.unwrap(), 0);
    // And it goes on.
    node.likes.like("t", "x").await.unwrap();
    assert_eq!(
        node.likes.likes_count("t").await.unwrap(),
        likers.len() as u64 + 1
    );
    node.stats.close().await.unwrap();
    crashed
}

async fn at_each_operation(loss: Loss, durable: bool) {
    for point in [CrashPoint::Before, CrashPoint::After] {
        let mut operation = 0;
        while crash_and_reopen(operation, point, loss, durable).await {
            operation += 1;
        }
        assert!(operation > 20, "{operation}");
    }
}

/// The local datastore is on a disk of its own: no sync of the replica's makes its intents durable.
#[tokio::test]
async fn record_and_count_agree_after_a_power_failure_of_the_local_disk_alone() {
    for operation in 0.. {
        let store = alone().await;
        let open = async |disk: &Disk| {
            let stats = stats_of(&store, "a").await;
            let mut options = RepoOptions::default();
            options.durable = true;
            let local = Arc::new(disk.clone());
            let likes = LikeRepo::open(local, Some(stats.clone()), options).await;
            (stats, likes.unwrap())
        };
        let disk = CrashDatastore::new(MemoryDatastore::new());
        let (stats, likes) = open(&disk).await;
        disk.crash_at(disk.operations() + operation, CrashPoint::After);
        for (user, does) in [("u", true), ("v", true), ("u", false), ("w", true)] {
            let _ = match does {
                true => likes.like("t", user).await,
                false => likes.unlike("t", user).await,
            };
        }
        let crashed = disk.has_crashed();
        disk.crash();
        stats.close().await.unwrap();
        let survivors = disk.survivors(Loss::Power, MemoryDatastore::new());
        let (stats, likes) = open(&survivors.await.unwrap()).await;
        let likers = likes.likers("t", None, 9).await.unwrap().members;
        let count = stats.get("t", &Stat::LIKES).await.unwrap();
        assert_eq!(count, likers.len() as u64, "{operation} {likers:?}");
        if !crashed {
            assert!(operation > 10, "{operation}");
            break;
        }
    }
}

#[tokio::test]
async fn record_and_count_agree_after_a_kill_at_each_operation() {
    at_each_operation(Loss::Process, false).await;
}

#[tokio::test]
async fn record_and_count_agree_after_a_kill_at_each_operation_with_sync_durability() {
    at_each_operation(Loss::Process, true).await;
}

#[tokio::test]
async fn record_and_count_agree_after_a_power_failure_at_each_operation_with_sync_durability() {
    at_each_operation(Loss::Power, true).await;
}
