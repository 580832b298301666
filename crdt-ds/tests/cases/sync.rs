//! How blocks are announced, fetched and waited for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crdt_ds::block::{Block, Format};
use crdt_ds::datastore::{DelayDatastore, Error as DatastoreError, FailDatastore, Fault};
use crdt_ds::sync::{Faults, Hub, Peers};
use datastore_backends::MemoryDatastore;

use super::fixtures::{
    FORMATS, SOON, Stranger, alone, assert_same, heads, history, joined, key, made, over, put,
    replica, synced, until, value,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Case 7.
#[tokio::test(start_paused = true)]
async fn deleting_what_is_not_there_announces_nothing() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        store.delete(&key("/k")).await.unwrap();
        store.write(Default::default()).await.unwrap();
        assert!(stranger.hears_nothing_for(HOUR).await, "{format}");
    }
}

/// Case 19.
#[tokio::test(start_paused = true)]
async fn a_head_announced_while_its_ancestor_is_fetched_is_the_only_head() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let a = made(format).put("/a", "v").block();
        let b = made(format).priority(2).above(&[&a]).put("/b", "v").block();
        let c = made(format).priority(3).above(&[&b]).put("/c", "v").block();
        stranger.holds([&a]);
        stranger.announces(&[*a.cid()]).await;
        until("a", async || heads(&store) == [*a.cid()]).await;
        stranger.announces(&[*b.cid()]).await;
        until("b is asked for", async || {
            store.sync_status().unserved == [*b.cid()]
        })
        .await;
        stranger.sends(&c).await;
        until("c waits", async || store.sync_status().pending == 1).await;
        assert_eq!(heads(&store), [*a.cid()], "{format}");
        stranger.holds([&b]);
        until("c", async || store.info().blocks == 3).await;
        assert_eq!(heads(&store), [*c.cid()], "{format}");
        assert!(store.sync_status().is_synced(), "{format}");
    }
}

/// A history with a block that the stranger does not serve: its heads are (held up, not held up).
struct HeldUp {
    missing: Block,
    above: Block,
    beside: Block,
}

async fn held_up(format: Format, stranger: &Stranger, store: &crdt_ds::CrdtDatastore) -> HeldUp {
    let missing = made(format).put("/missing", "v").block();
    let above = made(format)
        .priority(2)
        .above(&[&missing])
        .put("/above", "v")
        .block();
    let root = made(format).put("/root", "v").block();
    let beside = made(format)
        .priority(2)
        .above(&[&root])
        .put("/beside", "v")
        .block();
    stranger.holds([&above, &root, &beside]);
    stranger.announces(&[*above.cid(), *beside.cid()]).await;
    until("asked", async || {
        store.sync_status().unserved == [*missing.cid()]
    })
    .await;
    HeldUp {
        missing,
        above,
        beside,
    }
}

/// Case 20.
#[tokio::test(start_paused = true)]
async fn a_block_that_nobody_serves_holds_up_only_what_is_above_it() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let held = held_up(format, &stranger, &store).await;
        until("the other branch", async || {
            heads(&store) == [*held.beside.cid()]
        })
        .await;
        let status = store.sync_status();
        assert_eq!((status.pending, status.wanted), (1, 1), "{format}");
        assert!(!status.is_synced(), "{format}");
        assert!(store.wait_for_sync(Peers::All, SECOND).await.is_err());

        store.declare_gap(held.missing.cid()).await.unwrap();
        assert_eq!(value(&store, "/above").await.as_deref(), Some("v"));
        let status = store.sync_status();
        assert_eq!((status.pending, status.wanted, status.gaps), (0, 1, 1));
        assert_eq!(heads(&store).len(), 2, "{format}");
        assert!(heads(&store).contains(held.above.cid()), "{format}");

        // It stays wanted, and merges when it turns up.
        stranger.holds([&held.missing]);
        until("filled", async || store.info().blocks == 4).await;
        assert_eq!(store.sync_status().gaps, 0, "{format}");
        assert_eq!(heads(&store).len(), 2, "{format}");
        let other = alone(format).await;
        other.import(history(&store).await).await.unwrap();
        assert_same(&[&store, &other], format.name()).await;
    }
}

/// Case 20: pauses double up to a minute.
#[tokio::test(start_paused = true)]
async fn a_block_that_nobody_serves_is_asked_for_with_back_off() {
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let store = joined(Format::DagCbor, &hub, "r").await;
    let held = held_up(Format::DagCbor, &stranger, &store).await;
    let before = stranger.asked(held.missing.cid());
    tokio::time::sleep(HOUR).await;
    let asked = stranger.asked(held.missing.cid()) - before;
    assert!((60..=70).contains(&asked), "asked {asked} times in an hour");
}

/// A peer that joins is asked at once for what nobody served so far.
#[tokio::test(start_paused = true)]
async fn who_joins_is_asked_at_once() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let held = held_up(format, &stranger, &store).await;
        // Late in the pause of a minute that it has come to.
        until("a pause begins", async || {
            stranger.asked(held.missing.cid()) >= 9
        })
        .await;
        let newcomer = Stranger::join(&hub, "newcomer");
        newcomer.holds([&held.missing]);
        tokio::time::sleep(SECOND).await;
        assert_eq!(value(&store, "/above").await.as_deref(), Some("v"));
    }
}

/// In DAG-PB what nobody serves for ten minutes is a gap; in DAG-CBOR only the operator says so.
#[tokio::test(start_paused = true)]
async fn ten_minutes_make_a_gap_in_dag_pb_alone() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        held_up(format, &stranger, &store).await;
        tokio::time::sleep(Duration::from_secs(590)).await;
        assert_eq!(value(&store, "/above").await, None, "{format}");
        tokio::time::sleep(2 * HOUR).await;
        let merged = value(&store, "/above").await.is_some();
        assert_eq!(merged, format == Format::DagPb, "{format}");
    }
}

/// A block that nobody serves, for nobody is there to be asked, is no gap.
#[tokio::test(start_paused = true)]
async fn time_without_peers_makes_no_gap() {
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let store = joined(Format::DagPb, &hub, "r").await;
    let missing = made(Format::DagPb).put("/missing", "v").block();
    let above = made(Format::DagPb)
        .above(&[&missing])
        .put("/above", "v")
        .block();
    hub.partition(&[&["r"]]);
    store.import(vec![above]).await.unwrap();
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(value(&store, "/above").await, None);
    stranger.holds([&missing]);
    hub.heal();
    until("merged", async || store.info().blocks == 2).await;
    assert_eq!(store.sync_status().gaps, 0);
}

/// Nor does time without peers after some were asked.
#[tokio::test(start_paused = true)]
async fn only_time_with_peers_makes_a_gap() {
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let store = joined(Format::DagPb, &hub, "r").await;
    held_up(Format::DagPb, &stranger, &store).await;
    hub.partition(&[&["r"]]);
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(value(&store, "/above").await, None);
    hub.heal();
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(value(&store, "/above").await, None);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(value(&store, "/above").await.as_deref(), Some("v"));
}

/// A gap that the operator declares is remembered, though nothing links to it yet.
#[tokio::test]
async fn a_declared_gap_survives_a_restart() {
    for format in FORMATS {
        let below = MemoryDatastore::new();
        let missing = made(format).put("/missing", "v").block();
        let above = made(format).above(&[&missing]).put("/above", "v").block();
        let store = over(format, below.clone()).open().await.unwrap();
        store.declare_gap(missing.cid()).await.unwrap();
        store.close().await.unwrap();
        let store = over(format, below.clone()).open().await.unwrap();
        store.import(vec![above.clone()]).await.unwrap();
        assert_eq!(heads(&store), [*above.cid()], "{format}");
        let before = store.digests();
        store.close().await.unwrap();
        let store = over(format, below).open().await.unwrap();
        assert_eq!(store.digests(), before, "{format}");
        assert_eq!(store.sync_status().gaps, 1, "{format}");
        store.import(vec![missing]).await.unwrap();
        assert_eq!(heads(&store), [*above.cid()], "{format}");
        assert_eq!(store.sync_status().gaps, 0, "{format}");
    }
}

/// Case 21.
#[tokio::test(start_paused = true)]
async fn an_old_head_announced_again_hides_no_new_one() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let old = made(format).put("/k", "old").block();
        let new = made(format)
            .priority(2)
            .above(&[&old])
            .put("/k", "new")
            .block();
        stranger.holds([&old, &new]);
        stranger.announces(&[*new.cid()]).await;
        until("new", async || heads(&store) == [*new.cid()]).await;
        stranger.announces(&[*old.cid()]).await;
        stranger.sends(&old).await;
        tokio::time::sleep(HOUR).await;
        assert_eq!(heads(&store), [*new.cid()], "{format}");
        assert_eq!(value(&store, "/k").await.as_deref(), Some("new"));
    }
}

/// Case 22.
#[tokio::test(start_paused = true)]
async fn a_head_is_announced_only_once_its_block_can_be_served() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let below = Arc::new(FailDatastore::new(MemoryDatastore::new()));
        let store = over(format, below.clone())
            .transport(hub.join("r"))
            .open()
            .await
            .unwrap();
        let full = DatastoreError::backend("the commit", std::io::Error::other("no space"));
        below.fail_when(move |op| op.is_write().then(|| Fault::before(full.clone())));
        let failed = store.put(&key("/k"), "lost".into()).await;
        assert!(failed.is_err(), "{format}");
        assert!(stranger.hears_nothing_for(HOUR).await, "{format}");
        assert_eq!(value(&store, "/k").await, None, "{format}");
        assert_eq!(store.info().failed_commits, 1, "{format}");

        // Writing goes on when there is room.
        below.heal();
        let cid = put(&store, "/k", "kept").await;
        let heard = stranger.hears().await;
        assert_eq!(heard[0].cid, cid, "{format}");
        let served = stranger.fetches(&cid).await.unwrap();
        assert_eq!(Some(served), store.block(&cid).await.unwrap());
    }
}

/// Case 23.
#[tokio::test(start_paused = true)]
async fn replicas_converge_though_announcements_are_lost_doubled_reordered_and_garbage() {
    for format in FORMATS {
        for seed in 0..5 {
            let faults = Faults {
                loss: 0.5,
                duplication: 0.3,
                delay: Duration::ZERO..Duration::from_secs(5),
                fetch_loss: 0.3,
            };
            let hub = Hub::with_faults(seed, faults);
            let stranger = Stranger::join(&hub, "stranger");
            let stores = [
                joined(format, &hub, "a").await,
                joined(format, &hub, "b").await,
                joined(format, &hub, "c").await,
            ];
            for n in 0..30 {
                let store = &stores[n % 3];
                if n % 5 == 4 {
                    store.delete(&key(&format!("/{}", n % 4))).await.unwrap();
                } else {
                    put(store, &format!("/{}", n % 7), &n.to_string()).await;
                }
                let head = made(format).put("/garbage", &n.to_string()).block();
                let mut garbage = vec![0x0a, 38, 0x0a, 36];
                garbage.extend_from_slice(&head.cid().to_bytes());
                garbage.truncate(n + 1);
                stranger.sends_payload(garbage).await;
                tokio::time::sleep(SECOND).await;
            }
            drop(stranger);
            for store in &stores {
                let synced = store.wait_for_sync(Peers::All, 24 * HOUR).await;
                assert!(synced.is_ok(), "{format}, seed {seed}: {synced:?}");
            }
            let stores: Vec<_> = stores.iter().collect();
            assert_same(&stores, &format!("{format}, seed {seed}")).await;
        }
    }
}

/// Case 24.
#[tokio::test(start_paused = true)]
async fn replicas_that_meet_again_converge_without_a_write_or_a_rebroadcast() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let mut stores = Vec::new();
        for name in ["a", "b"] {
            let store = replica(format)
                .rebroadcast_interval(24 * HOUR)
                .transport(hub.join(name));
            stores.push(store.open().await.unwrap());
        }
        hub.partition(&[&["a"], &["b"]]);
        for n in 0..50 {
            put(&stores[0], &format!("/a/{n}"), "v").await;
            put(&stores[1], &format!("/b/{n}"), "v").await;
        }
        hub.heal();
        for store in &stores {
            store.wait_for_sync(Peers::All, 5 * SECOND).await.unwrap();
        }
        assert_same(&[&stores[0], &stores[1]], format.name()).await;
        assert_eq!(stores[0].info().keys, 100, "{format}");
    }
}

/// Case 25: in go-ds-crdt's format the greater height wins, in ours the later write.
#[tokio::test(start_paused = true)]
async fn a_write_before_the_first_sync_wins_or_loses_by_the_rule() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let clock = |now: u64| Arc::new(move || now) as crdt_ds::Clock;
        let old = replica(format)
            .clock(clock(1000))
            .transport(hub.join("old"));
        let old = old.open().await.unwrap();
        for n in 0..5 {
            put(&old, "/k", &format!("old {n}")).await;
        }
        hub.partition(&[&["old"]]);
        let new = replica(format)
            .clock(clock(2000))
            .transport(hub.join("new"));
        let new = new.open().await.unwrap();
        put(&new, "/k", "new").await;
        put(&new, "/fresh", "new").await;
        hub.heal();
        synced(&[&old, &new]).await;
        assert_same(&[&old, &new], format.name()).await;
        let winner = match format {
            Format::DagCbor => "new",
            Format::DagPb => "old 4",
        };
        assert_eq!(value(&old, "/k").await.as_deref(), Some(winner), "{format}");
        assert_eq!(value(&old, "/fresh").await.as_deref(), Some("new"));
        let versions = old.versions(&key("/k")).await.unwrap();
        assert!(versions.iter().any(|version| version.value == "new"));
    }
}

/// Case 29.
#[tokio::test(start_paused = true)]
async fn a_diamond_of_merges_is_walked_once() {
    const LAYERS: u64 = 40;
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let mut layers: Vec<[Block; 2]> = Vec::new();
        for layer in 1..=LAYERS {
            layers.push(["left", "right"].map(|side| {
                let below = layers.last().into_iter().flatten().collect::<Vec<_>>();
                let at = format!("/{layer}/{side}");
                made(format)
                    .priority(layer)
                    .above(&below)
                    .put(&at, "v")
                    .block()
            }));
        }
        stranger.holds(layers.iter().flatten());
        let tips = layers.last().unwrap().each_ref().map(|block| *block.cid());
        stranger.announces(&tips).await;
        until("merged", async || store.info().blocks == 2 * LAYERS).await;
        let wanted: BTreeSet<_> = tips.into_iter().collect();
        let heads: BTreeSet<_> = heads(&store).into_iter().collect();
        assert_eq!(heads, wanted, "{format}");
        let asked: u64 = layers
            .iter()
            .flatten()
            .map(|b| stranger.asked(b.cid()))
            .sum();
        assert_eq!(asked, 2 * LAYERS, "{format}: once each");
    }
}

/// A hundred thousand wants of one peer do not fill the store of another.
#[tokio::test(start_paused = true)]
async fn the_wants_of_a_peer_are_bounded() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let mut options = crdt_ds::Options::default();
        options.format = format;
        options.max_wants_per_peer = 100;
        let stranger = Stranger::join(&hub, "stranger");
        let honest = Stranger::join(&hub, "honest");
        let store = crdt_ds::CrdtDatastore::builder(MemoryDatastore::new())
            .options(options)
            .transport(hub.join("r"));
        let store = store.open().await.unwrap();
        for n in 0..20u8 {
            let links = (0..30u8).map(|m| crdt_ds::block::VersionId([n * 10 + m; 32]).cid(format));
            let hostile = links.fold(made(format), |made, link| made.above_cid(link));
            stranger
                .sends(&hostile.put("/k", &n.to_string()).block())
                .await;
            tokio::time::sleep(SECOND).await;
        }
        let wanted = store.sync_status().wanted;
        assert!((1..=100).contains(&wanted), "{format}: {wanted}");
        let missing = made(format).put("/missing", "v").block();
        let good = made(format).above(&[&missing]).put("/good", "v").block();
        honest.sends(&good).await;
        until("pending", async || {
            store.block(good.cid()).await.unwrap().is_some()
        })
        .await;
        honest.holds([&missing]);
        until("merged", async || value(&store, "/good").await.is_some()).await;
        assert!(store.wait_for_sync(Peers::All, SOON).await.is_err());
    }
}

/// A commit looks up none of the heads that others announced: a replica that has many to fetch keeps up
/// with writes.
#[tokio::test(start_paused = true)]
async fn what_a_commit_reads_does_not_grow_with_what_is_announced() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = reads.clone();
        let below = DelayDatastore::new(MemoryDatastore::new(), move |operation| {
            if !operation.is_write() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Box::pin(std::future::ready(()))
        });
        let store = over(format, below).transport(hub.join("r"));
        let store = store.open().await.unwrap();
        let nobodys: Vec<_> = (0..200)
            .map(|n| *made(format).put("/k", &n.to_string()).block().cid())
            .collect();
        stranger.announces(&nobodys).await;
        until("all are known", async || {
            store.sync_status().announced == nobodys.len()
        })
        .await;
        let before = reads.load(Ordering::Relaxed);
        for n in 0..20 {
            put(&store, &format!("/{n}"), "v").await;
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        let reads = reads.load(Ordering::Relaxed) - before;
        assert!(reads < 20 * 10, "{format}: {reads} reads for 20 puts");
    }
}
