//! Blocks that other programs make: malformed ones, links that nobody can follow, gaps.

use bytes::Bytes;
use cid::Cid;
use crdt_ds::Imported;
use crdt_ds::block::{Block, BlockError, Format, MAX_PRIORITY};
use crdt_ds::sync::Hub;

use super::fixtures::{
    FORMATS, Stranger, alone, assert_same, entries, heads, joined, made, node, put, until, value,
};

/// A DAG-PB block with a link of any kind, as Go may make it.
fn linking(link: &[u8], at: &str) -> Block {
    let delta = made(Format::DagPb).put(at, "v").block();
    let mut bytes = vec![0x12, (2 + link.len() + 4) as u8, 0x0a, link.len() as u8];
    bytes.extend_from_slice(link);
    bytes.extend_from_slice(&[0x12, 0x00, 0x18, 0x00]);
    bytes.extend_from_slice(delta.bytes());
    Block::new(Format::DagPb, bytes.into()).unwrap()
}

/// Case 45.
#[tokio::test(start_paused = true)]
async fn a_dag_cbor_block_is_refused_by_a_dag_pb_store() {
    let hub = Hub::new(1);
    let stranger = Stranger::join(&hub, "stranger");
    let store = joined(Format::DagPb, &hub, "r").await;
    let foreign = made(Format::DagCbor).put("/k", "v").block();
    stranger.holds([&foreign]);
    stranger.announces(&[*foreign.cid()]).await;
    until("refused", async || store.info().refused_announcements == 1).await;
    let imported = store.import(vec![foreign.clone()]).await.unwrap();
    let refused = Imported::Refused(BlockError::ForeignCid {
        cid: *foreign.cid(),
    });
    assert_eq!(imported, [refused]);
    assert_eq!(entries(&store).await, []);
    assert_eq!(store.sync_status().wanted, 0);
}

/// Case 45.
#[tokio::test]
async fn a_link_that_nobody_can_follow_is_a_gap_for_ever() {
    let dag_cbor = *made(Format::DagCbor).put("/k", "v").block().cid();
    let raw = Cid::new_v1(0x55, *dag_cbor.hash());
    let v0 = Cid::new_v0(*dag_cbor.hash()).unwrap();
    for link in [dag_cbor, raw, v0] {
        // A store that writes DAG-CBOR takes such blocks as well.
        for format in FORMATS {
            let store = alone(format).await;
            let below = linking(&link.to_bytes(), "/below");
            let above = made(Format::DagPb).priority(2).above(&[&below]);
            let above = above.put("/above", "v").block();
            let imported = store.import(vec![below, above.clone()]).await.unwrap();
            assert_eq!(imported, [Imported::Merged, Imported::Merged], "{link}");
            assert_eq!(heads(&store), [*above.cid()], "{link}");
            assert_eq!(store.sync_status().wanted, 0, "{link}");
            let ours = put(&store, "/ours", "v").await;
            assert_eq!(node(&store, &ours).await.links, [*above.cid()], "{link}");
        }
    }
}

/// A DAG-CBOR store takes a DAG-PB history, and builds on it.
#[tokio::test]
async fn a_dag_pb_history_is_built_on_in_dag_cbor() {
    let old = alone(Format::DagPb).await;
    put(&old, "/k", "old").await;
    put(&old, "/kept", "old").await;
    let new = alone(Format::DagCbor).await;
    new.import(super::fixtures::history(&old).await)
        .await
        .unwrap();
    assert_eq!(new.digests(), old.digests());
    let ours = put(&new, "/k", "new").await;
    assert_eq!(ours.codec(), Format::DagCbor.codec());
    assert_eq!(node(&new, &ours).await.links, heads(&old));
    assert_eq!(value(&new, "/k").await.as_deref(), Some("new"));
    assert_eq!(value(&new, "/kept").await.as_deref(), Some("old"));
}

/// A block that is malformed in its format.
fn malformed(format: Format) -> Block {
    Block::new(format, Bytes::from_static(b"\xffno block")).unwrap()
}

/// Case 55: one replica sees the bytes of the malformed block, the other takes it for a gap.
#[tokio::test(start_paused = true)]
async fn a_malformed_block_is_to_those_above_it_a_link_that_nobody_serves() {
    for format in FORMATS {
        let bad = malformed(format);
        let above = made(format).above(&[&bad]).put("/above", "v").block();
        let top = made(format).priority(2).above(&[&above]);
        let top = top.put("/top", "v").block();

        let hub = Hub::new(1);
        let stranger = Stranger::join(&hub, "stranger");
        let saw = joined(format, &hub, "saw").await;
        stranger.holds([&bad, &above, &top]);
        stranger.announces(&[*top.cid()]).await;
        until("seen", async || saw.info().refused_blocks > 0).await;
        if format == Format::DagCbor {
            assert_eq!(saw.sync_status().malformed, [*bad.cid()]);
            assert_eq!(saw.sync_status().pending, 2, "the operator is asked");
            saw.declare_gap(bad.cid()).await.unwrap();
        }
        until("merged", async || saw.info().blocks == 2).await;

        // In DAG-PB by itself, once all peers were asked for long enough.
        let other_hub = Hub::new(2);
        let other_stranger = Stranger::join(&other_hub, "stranger");
        let took = joined(format, &other_hub, "took").await;
        other_stranger.holds([&above, &top]);
        other_stranger.announces(&[*top.cid()]).await;
        until("pending", async || took.sync_status().pending == 2).await;
        if format == Format::DagCbor {
            took.declare_gap(bad.cid()).await.unwrap();
        }
        let day = std::time::Duration::from_secs(24 * 3600);
        tokio::time::sleep(day).await;
        assert_same(&[&saw, &took], format.name()).await;
        assert_eq!(heads(&saw), [*top.cid()], "{format}");
        assert_eq!(saw.sync_status().gaps, 1, "{format}");
        assert_eq!(value(&took, "/above").await.as_deref(), Some("v"));

        // Nobody takes the malformed block, though it is wanted.
        stranger.sends(&bad).await;
        let imported = took.import(vec![bad.clone()]).await.unwrap();
        assert!(matches!(imported[0], Imported::Refused(_)), "{format}");
        assert_same(&[&saw, &took], format.name()).await;
        assert!(took.block(bad.cid()).await.unwrap().is_none());
    }
}

/// What waits on a malformed block is not itself malformed, and what came before it stays merged.
#[tokio::test]
async fn a_malformed_block_holds_up_only_what_is_above_it() {
    for format in FORMATS {
        let store = alone(format).await;
        let bad = malformed(format);
        let beside = made(format).put("/beside", "v").block();
        let above = made(format)
            .above(&[&bad, &beside])
            .put("/above", "v")
            .block();
        let imported = store.import(vec![above, beside, bad]).await.unwrap();
        assert_eq!(imported[0], Imported::Pending, "{format}");
        assert_eq!(imported[1], Imported::Merged, "{format}");
        assert!(matches!(imported[2], Imported::Refused(_)), "{format}");
        assert_eq!(value(&store, "/beside").await.as_deref(), Some("v"));
        let waits = format == Format::DagCbor;
        assert_eq!(value(&store, "/above").await.is_none(), waits, "{format}");
    }
}

/// In DAG-PB a malformed block is a gap at once to what comes later too, though nothing above it has
/// merged yet.
#[tokio::test]
async fn a_malformed_block_holds_up_nothing_that_comes_later() {
    for format in FORMATS {
        let store = alone(format).await;
        let bad = malformed(format);
        let missing = made(format).put("/missing", "v").block();
        let waits = made(format)
            .above(&[&bad, &missing])
            .put("/waits", "v")
            .block();
        store.import(vec![waits]).await.unwrap();
        store.import(vec![bad.clone()]).await.unwrap();
        let later = made(format).above(&[&bad]).put("/later", "v").block();
        store.import(vec![later]).await.unwrap();
        let held_up = format == Format::DagCbor;
        assert_eq!(value(&store, "/later").await.is_none(), held_up, "{format}");
        assert_eq!(
            store.sync_status().pending,
            1 + u64::from(held_up),
            "{format}"
        );
    }
}

/// Links whose multihash we have under another codec are gaps all the same: identity is the CID.
#[tokio::test]
async fn the_same_hash_under_another_codec_is_another_block() {
    let store = alone(Format::DagCbor).await;
    let block = made(Format::DagCbor).put("/k", "v").block();
    let twin = Cid::new_v1(Format::DagPb.codec(), *block.cid().hash());
    let above = made(Format::DagCbor)
        .above_cid(twin)
        .put("/above", "v")
        .block();
    let imported = store.import(vec![block.clone(), above]).await.unwrap();
    assert_eq!(imported, [Imported::Merged, Imported::Pending]);
    store.declare_gap(&twin).await.unwrap();
    assert_eq!(value(&store, "/above").await.as_deref(), Some("v"));
    assert_eq!(store.heads().len(), 2);
    assert_eq!(store.sync_status().gaps, 1);
}

/// A DAG-CBOR block above the highest priority is malformed; a DAG-PB block has any.
#[tokio::test]
async fn the_highest_priority_is_a_bound_of_dag_cbor_alone() {
    for format in FORMATS {
        let store = alone(format).await;
        let highest = made(format).priority(MAX_PRIORITY).put("/k", "v").block();
        assert_eq!(
            store.import(vec![highest]).await.unwrap(),
            [Imported::Merged]
        );
    }
}
