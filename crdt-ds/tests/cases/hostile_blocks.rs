//! Blocks that are made to harm.

use std::collections::BTreeSet;

use crdt_ds::Imported;
use crdt_ds::block::{Block, Delta, Format, MAX_PRIORITY, Put, dag_pb};
use crdt_ds::datastore::Datastore;
use crdt_ds::sync::Hub;

use super::fixtures::{
    FORMATS, Stranger, alone, assert_same, entries, heads, history, id, joined, key, made, node,
    put, replica, synced, until, value,
};

/// A DAG-PB block of a priority that we would not write.
fn dag_pb_of_priority(priority: u64, at: &str, links: &[&Block]) -> Block {
    let mut bytes = Vec::new();
    for link in links {
        let link = link.cid().to_bytes();
        bytes.extend_from_slice(&[0x12, 42, 0x0a, 36]);
        bytes.extend_from_slice(&link);
        bytes.extend_from_slice(&[0x12, 0x00, 0x18, 0x00]);
    }
    let put = Put {
        key: key(at),
        value: "hostile".into(),
    };
    let delta = Delta {
        puts: vec![put],
        ..Delta::default()
    };
    let alone = dag_pb::encode(&[], &delta).unwrap();
    let mut data = alone.bytes()[2..].to_vec();
    data.push(0x18);
    let mut rest = priority;
    while rest > 0x7f {
        data.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    data.push(rest as u8);
    bytes.extend_from_slice(&[0x0a, data.len() as u8]);
    bytes.extend_from_slice(&data);
    Block::new(Format::DagPb, bytes.into()).unwrap()
}

/// Case 47.
#[tokio::test]
async fn a_hostile_priority_stops_nobody_from_writing() {
    for format in FORMATS {
        let hostile = match format {
            Format::DagCbor => vec![
                made(format)
                    .priority(MAX_PRIORITY)
                    .put("/k", "hostile")
                    .block(),
                made(format).priority(0).put("/k", "hostile").block(),
            ],
            Format::DagPb => vec![
                dag_pb_of_priority(MAX_PRIORITY, "/k", &[]),
                dag_pb_of_priority(u64::MAX, "/k", &[]),
                dag_pb_of_priority(0, "/k", &[]),
            ],
        };
        for block in hostile {
            let store = alone(format).await;
            put(&store, "/k", "before").await;
            let imported = store.import(vec![block.clone()]).await.unwrap();
            assert_eq!(imported, [Imported::Merged], "{format}");
            // "a" is below "hostile": only a tombstone can make it win at the highest priority.
            for ours in ["a", "b", "a"] {
                put(&store, "/k", ours).await;
                assert_eq!(value(&store, "/k").await.as_deref(), Some(ours), "{format}");
                assert!(store.heads()[0].priority <= MAX_PRIORITY, "{format}");
            }
            put(&store, "/fresh", "v").await;
            store.delete(&key("/k")).await.unwrap();
            assert_eq!(value(&store, "/k").await, None, "{format}");

            let other = alone(format).await;
            other.import(history(&store).await).await.unwrap();
            assert_same(&[&store, &other], format.name()).await;
        }
    }
}

/// Case 47: a block of priority 0 takes the place of our head, so our height falls.
#[tokio::test]
async fn a_put_wins_though_the_height_fell() {
    let store = alone(Format::DagPb).await;
    for value in ["x", "y", "z"] {
        put(&store, "/k", value).await;
    }
    let head = store.block(&heads(&store)[0]).await.unwrap().unwrap();
    let fall = dag_pb_of_priority(0, "/other", &[&head]);
    store.import(vec![fall.clone()]).await.unwrap();
    assert_eq!(heads(&store), [*fall.cid()]);
    let ours = put(&store, "/k", "a").await;
    assert_eq!(node(&store, &ours).await.delta.priority, 1);
    assert_eq!(value(&store, "/k").await.as_deref(), Some("a"));
}

/// Case 47: in go-ds-crdt's format a higher priority of another name wins, as in Go.
#[tokio::test]
async fn a_higher_priority_of_another_name_wins_as_in_go() {
    let store = alone(Format::DagPb).await;
    let other = made(Format::DagPb).named("other").priority(7);
    let other = other.put("/k", "other").block();
    store.import(vec![other]).await.unwrap();
    put(&store, "/k", "ours").await;
    assert_eq!(value(&store, "/k").await.as_deref(), Some("other"));
    assert_eq!(store.versions(&key("/k")).await.unwrap().len(), 2);
}

/// An imported priority of the other format that is above all reason does not raise our clock.
#[tokio::test]
async fn a_hostile_priority_of_an_imported_history_does_not_raise_the_clock() {
    let store = alone(Format::DagCbor).await;
    let sane = made(Format::DagPb).priority(1000).put("/k", "v").block();
    let hostile = dag_pb_of_priority(1 << 62, "/k", &[]);
    store.import(vec![sane, hostile]).await.unwrap();
    let ours = put(&store, "/k", "ours").await;
    assert_eq!(node(&store, &ours).await.delta.priority, 1001);
    assert_eq!(value(&store, "/k").await.as_deref(), Some("ours"));
}

/// Case 58: ids are predictable in go-ds-crdt's format.
#[tokio::test]
async fn a_put_shows_though_its_block_was_deleted_in_advance() {
    let predicted = made(Format::DagPb).put("/k", "v").block();
    let predicted_next = made(Format::DagPb).priority(2).put("/k", "v").block();
    let delete = made(Format::DagPb)
        .named("hostile")
        .delete("/k", &[&predicted, &predicted_next])
        .block();
    let store = alone(Format::DagPb).await;
    store.import(vec![delete]).await.unwrap();
    let ours = put(&store, "/k", "v").await;
    assert_ne!(ours, *predicted.cid());
    assert_eq!(value(&store, "/k").await.as_deref(), Some("v"));
    assert_eq!(node(&store, &ours).await.delta.priority, 3);

    let other = alone(Format::DagPb).await;
    let mut blocks = history(&store).await;
    blocks.reverse();
    other.import(blocks).await.unwrap();
    assert_same(&[&store, &other], "the other way round").await;
}

/// A tombstone for another key of the block that we are about to make is no reason to make another.
#[tokio::test]
async fn a_tombstone_of_another_key_does_not_change_a_block() {
    let predicted = made(Format::DagPb).put("/k", "v").block();
    let delete = made(Format::DagPb)
        .named("hostile")
        .delete("/other", &[&predicted])
        .block();
    let store = alone(Format::DagPb).await;
    store.import(vec![delete]).await.unwrap();
    assert_eq!(put(&store, "/k", "v").await, *predicted.cid());
    assert_eq!(value(&store, "/k").await.as_deref(), Some("v"));
}

/// Case 51.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_heads_stop_nobody() {
    const HEADS: usize = 100_000;
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let store = joined(format, &hub, "r").await;
        let own = put(&store, "/own", "v").await;
        assert_eq!(stranger.hears().await.len(), 1);
        let roots = (0..HEADS).map(|n| made(format).priority(2).put("/k", &n.to_string()).block());
        store.import(roots.collect()).await.unwrap();
        assert_eq!(heads(&store).len(), HEADS + 1, "{format}");

        let mut last = own;
        for n in 0..3 {
            let ours = put(&store, "/ours", &n.to_string()).await;
            let links = node(&store, &ours).await.links;
            assert_eq!(links.len(), 64, "{format}");
            assert!(links.contains(&last), "{format}: not above our own");
            assert_eq!(heads(&store).len(), HEADS + 1 - 63 * (n + 1), "{format}");
            last = ours;
        }
        // All heads are announced again, in payloads that fit.
        let mut heard = BTreeSet::new();
        let wanted: BTreeSet<_> = heads(&store).into_iter().collect();
        while !heard.is_superset(&wanted) {
            heard.extend(stranger.hears().await.into_iter().map(|head| head.cid));
        }
    }
}

/// Many heads lie in rows of their own, and are read back.
#[tokio::test]
async fn many_heads_survive_a_restart() {
    for format in FORMATS {
        let below = datastore_backends::MemoryDatastore::new();
        let store = super::fixtures::over(format, below.clone())
            .open()
            .await
            .unwrap();
        let roots = (0..200).map(|n| made(format).put("/k", &n.to_string()).block());
        store.import(roots.collect()).await.unwrap();
        let ours = put(&store, "/k", "v").await;
        let (before, was) = (store.heads(), store.digests());
        store.close().await.unwrap();
        let store = super::fixtures::over(format, below).open().await.unwrap();
        assert_eq!(store.heads(), before, "{format}");
        assert_eq!(store.digests(), was, "{format}");
        let next = put(&store, "/k", "w").await;
        assert!(node(&store, &next).await.links.contains(&ours), "{format}");
    }
}

/// A tombstone for what nobody made is kept, and harms nobody.
#[tokio::test]
async fn tombstones_of_unknown_ids_are_kept() {
    for format in FORMATS {
        let store = alone(format).await;
        let ids = (0..50)
            .map(|n| crdt_ds::block::VersionId([n; 32]))
            .collect();
        let hostile = made(format).delete_ids("/k", ids).block();
        store.import(vec![hostile]).await.unwrap();
        assert_eq!(store.info().kept_tombstones, 50, "{format}");
        put(&store, "/k", "v").await;
        assert_eq!(value(&store, "/k").await.as_deref(), Some("v"), "{format}");
    }
}

/// A peer that serves something else than what was asked for.
#[tokio::test(start_paused = true)]
async fn bytes_that_do_not_hash_to_what_was_asked_for_are_not_taken() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let honest = Stranger::join(&hub, "the honest one");
        let store = joined(format, &hub, "r").await;
        let good = made(format).put("/k", "good").block();
        let bad = made(format).put("/k", "bad").block();
        stranger.lies(&good, &bad);
        stranger.announces(&[*good.cid()]).await;
        until("asked", async || {
            store.sync_status().unserved.contains(good.cid())
        })
        .await;
        assert_eq!(entries(&store).await, [], "{format}");
        honest.holds([&good]);
        until("fetched", async || store.has(&key("/k")).await.unwrap()).await;
        assert_eq!(
            value(&store, "/k").await.as_deref(),
            Some("good"),
            "{format}"
        );
    }
}

/// A block that was made for another network is not merged, whoever sends it.
#[tokio::test]
async fn a_block_of_another_network_is_refused() {
    let store = replica(Format::DagCbor).network("n").open().await.unwrap();
    let imported = store
        .import(vec![made(Format::DagCbor).put("/k", "v").block()])
        .await
        .unwrap();
    assert!(matches!(imported[0], Imported::Refused(_)));
    assert_eq!(entries(&store).await, []);
    let ours = put(&store, "/k", "v").await;
    let block = store.block(&ours).await.unwrap().unwrap();
    let other = alone(Format::DagCbor).await;
    let imported = other.import(vec![block]).await.unwrap();
    assert!(matches!(imported[0], Imported::Refused(_)));
}

/// A hostile delta names a version of ours: it is deleted, as by anybody, and the same everywhere.
#[tokio::test(start_paused = true)]
async fn anybody_may_delete_and_all_agree() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let a = joined(format, &hub, "a").await;
        let b = joined(format, &hub, "b").await;
        let version = put(&a, "/k", "v").await;
        synced(&[&a, &b]).await;
        let delete = made(format).delete_ids("/k", vec![id(&version)]).block();
        stranger.sends(&delete).await;
        until("deleted", async || {
            value(&a, "/k").await.is_none() && value(&b, "/k").await.is_none()
        })
        .await;
        synced(&[&a, &b]).await;
        assert_same(&[&a, &b], format.name()).await;
    }
}
