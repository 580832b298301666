//! Bitswap between nodes, and with a peer that speaks it as Go does.

use std::collections::HashSet;
use std::time::Duration;

use cid::Cid;
use crdt_ds::block::MAX_BLOCK_BYTES;
use crdt_ds::net::Node;
use crdt_ds::net::bitswap::Limits;
use crdt_ds::sync::FetchError;
use futures::StreamExt;

use super::raw::{Entry, Message, RawPeer, receive, send};
use super::rig::{Replica, block, pair, patiently};

const BITSWAP: &[&str] = &["/ipfs/bitswap/1.2.0"];
const KIB: usize = 1024;

fn want(cid: &Cid) -> Entry {
    Entry {
        block: cid.to_bytes(),
        send_dont_have: true,
        ..Entry::default()
    }
}

#[tokio::test]
async fn many_blocks_come_from_the_peer_that_has_them_and_none_is_lost() {
    let (a, b) = pair().await;
    let blocks: Vec<_> = (0..3000).map(|n| block(n, KIB)).collect();
    blocks.iter().for_each(|block| b.blocks.put(block));
    let cids = blocks.iter().map(|block| *block.cid()).collect();
    let events = a.fetch(cids, Some(b.name())).await;
    let got: HashSet<Cid> = events
        .iter()
        .map(|e| *e.result.as_ref().unwrap().cid())
        .collect();
    assert_eq!((events.len(), got.len()), (3000, 3000));
    assert!(events.iter().all(|event| event.from == Some(b.name())));
    let (peer, traffic) = b.node.traffic().remove(0);
    assert_eq!(peer, a.node.id());
    assert_eq!(
        (traffic.blocks_out, traffic.bytes_out),
        (3000, 3000 * KIB as u64)
    );
}

#[tokio::test]
async fn both_directions_go_at_once_with_large_blocks() {
    let (a, b) = pair().await;
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..80)
        .map(|n| (block(n, 900 * KIB), block(1000 + n, 900 * KIB)))
        .unzip();
    ours.iter().for_each(|block| a.blocks.put(block));
    theirs.iter().for_each(|block| b.blocks.put(block));
    let cids = |blocks: &[crdt_ds::block::Block]| blocks.iter().map(|b| *b.cid()).collect();
    let (got_a, got_b) = tokio::join!(
        a.fetch(cids(&theirs), Some(b.name())),
        b.fetch(cids(&ours), None)
    );
    assert!(got_a.iter().chain(&got_b).all(|event| event.result.is_ok()));
    assert_eq!((got_a.len(), got_b.len()), (80, 80));
}

#[tokio::test]
async fn the_largest_block_that_a_message_holds_comes_and_a_larger_one_is_not_found() {
    let (a, b) = pair().await;
    let fits = block(1, MAX_BLOCK_BYTES - 24);
    let exceeds = block(2, MAX_BLOCK_BYTES);
    b.blocks.put(&fits);
    b.blocks.put(&exceeds);
    assert!(a.fetch_one(&fits, None).await.result.is_ok());
    assert!(matches!(
        a.fetch_one(&exceeds, None).await.result,
        Err(FetchError::NotFound)
    ));
}

#[tokio::test]
async fn a_block_that_turns_up_while_it_is_wanted_is_sent() {
    let limits = Limits {
        not_found_after: Duration::from_secs(60),
        ..Limits::default()
    };
    let a = Replica::with(Node::builder().bitswap(limits)).await;
    let b = Replica::start().await;
    a.dial(&b).await;
    let late = block(1, KIB);
    let mut events = a.transport.fetcher.fetch(vec![*late.cid()], Some(b.name()));
    let mut event = std::pin::pin!(events.next());
    patiently(async {
        loop {
            tokio::select! {
                _ = &mut event => panic!("nobody has it"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
            if b.node.traffic()[0].1.wants == 1 {
                break;
            }
        }
    })
    .await;
    b.blocks.put(&late);
    b.transport.fetcher.stored(&[*late.cid()]);
    assert_eq!(patiently(event).await.unwrap().result.unwrap(), late);
}

#[tokio::test]
async fn a_store_that_is_opened_after_its_block_was_asked_for_serves_it() {
    let limits = Limits {
        not_found_after: Duration::from_secs(60),
        ..Limits::default()
    };
    let a = Replica::with(Node::builder().bitswap(limits)).await;
    let b = Replica::start().await;
    a.dial(&b).await;
    let wanted = block(1, KIB);
    let fetch = a.fetch_one(&wanted, Some(b.name()));
    let open_late = async {
        while b
            .node
            .traffic()
            .iter()
            .all(|(_, traffic)| traffic.wants == 0)
        {
            tokio::task::yield_now().await;
        }
        let late = super::rig::Blocks::default();
        late.put(&wanted);
        let late: std::sync::Arc<dyn crdt_ds::sync::ServeBlocks> = std::sync::Arc::new(late);
        let transport = b.node.topic("another");
        let source = crdt_ds::sync::BlockSource::new(std::sync::Arc::downgrade(&late));
        transport.fetcher.serve(source);
        (late, transport)
    };
    let (event, _kept) = patiently(async { tokio::join!(fetch, open_late) }).await;
    assert_eq!(event.result.unwrap(), wanted);
}

#[tokio::test]
async fn a_store_that_was_closed_is_served_no_more() {
    let (a, b) = pair().await;
    let gone = block(1, KIB);
    b.blocks.put(&gone);
    assert!(a.fetch_one(&gone, None).await.result.is_ok());
    drop(b.transport.fetcher);
    let event = a.fetch(vec![*gone.cid()], None).await.remove(0);
    assert!(matches!(event.result, Err(FetchError::NotFound)));
}

#[tokio::test]
async fn what_the_hinted_peer_lacks_comes_from_another() {
    let (a, b) = pair().await;
    let c = Replica::start().await;
    a.dial(&c).await;
    let blocks: Vec<_> = (0..50).map(|n| block(n, 3 * KIB)).collect();
    blocks.iter().for_each(|block| c.blocks.put(block));
    let cids = blocks.iter().map(|block| *block.cid()).collect();
    let events = a.fetch(cids, Some(b.name())).await;
    assert!(
        events
            .iter()
            .all(|e| e.result.is_ok() && e.from == Some(c.name()))
    );
}

#[tokio::test]
async fn a_peer_that_comes_while_a_block_is_wanted_is_asked_for_it() {
    let a = Replica::start().await;
    let b = Replica::start().await;
    let wanted = block(1, KIB);
    b.blocks.put(&wanted);
    let dial = async {
        tokio::task::yield_now().await;
        a.dial(&b).await;
    };
    let (event, ()) = tokio::join!(a.fetch_one(&wanted, Some(b.name())), dial);
    assert!(event.result.is_ok());
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_of_a_fetch_goes_on_after_the_next() {
    let (a, b) = pair().await;
    let blocks: Vec<_> = (0..2000).map(|n| block(n, 4 * KIB)).collect();
    blocks.iter().for_each(|block| b.blocks.put(block));
    let cids = blocks.iter().map(|block| *block.cid()).collect();
    let mut events = a.transport.fetcher.fetch(cids, Some(b.name()));
    let mut got = 0;
    while let Some(event) = patiently(events.next()).await {
        event.result.unwrap();
        got += 1;
        if got == 500 {
            b.node.hang_up().await.unwrap();
            b.dial(&a).await;
        }
    }
    assert_eq!(got, 2000);
}

#[tokio::test]
async fn a_peer_that_speaks_as_go_does_is_served_on_a_stream_of_ours() {
    let a = Replica::start().await;
    let (here, later, never) = (block(1, 2 * KIB), block(2, 10), block(3, 10));
    a.blocks.put(&here);
    let mut go = RawPeer::connect(&a.address().await, BITSWAP).await;
    let mut out = go.open(a.node.id()).await;
    let have = Entry {
        want_type: 1,
        ..want(here.cid())
    };
    let wants = vec![have, want(later.cid()), want(never.cid())];
    assert!(send(&mut out, &Message::wants(wants)).await);
    let mut back = go.accept().await;
    let (answer, _) = receive(&mut back).await.unwrap();
    let presences: Vec<_> = answer
        .presences
        .iter()
        .map(|p| (p.cid.clone(), p.kind))
        .collect();
    assert_eq!(
        presences,
        [
            (here.cid().to_bytes(), 0),
            (later.cid().to_bytes(), 1),
            (never.cid().to_bytes(), 1)
        ]
    );
    assert!(
        answer.payload.is_empty(),
        "above 1 KiB HAVE does not bring the block"
    );

    assert!(send(&mut out, &Message::wants(vec![want(here.cid())])).await);
    let (answer, _) = receive(&mut back).await.unwrap();
    assert_eq!(answer.payload[0].data, **here.bytes());
    assert_eq!(answer.payload[0].prefix, [1, 0x71, 0x12, 32]);

    let cancel = Entry {
        cancel: true,
        ..want(never.cid())
    };
    assert!(send(&mut out, &Message::wants(vec![cancel])).await);
    a.blocks.put(&later);
    a.blocks.put(&never);
    a.transport.fetcher.stored(&[*later.cid()]);
    let (answer, _) = receive(&mut back).await.unwrap();
    assert_eq!(answer.payload.len(), 1);
    assert_eq!(answer.payload[0].data, **later.bytes());
}

#[tokio::test]
async fn replies_are_split_at_256_kib() {
    let a = Replica::start().await;
    let blocks: Vec<_> = (0..40).map(|n| block(n, 60 * KIB)).collect();
    blocks.iter().for_each(|block| a.blocks.put(block));
    let mut peer = RawPeer::connect(&a.address().await, BITSWAP).await;
    let mut out = peer.open(a.node.id()).await;
    let wants = blocks.iter().map(|block| want(block.cid())).collect();
    assert!(send(&mut out, &Message::wants(wants)).await);
    let mut back = peer.accept().await;
    let mut got = Vec::new();
    while got.len() < 40 {
        let (answer, size) = receive(&mut back).await.unwrap();
        assert!(size <= 256 * KIB);
        assert!(answer.payload.len() == 4 || got.len() + answer.payload.len() == 40);
        got.extend(answer.payload.into_iter().map(|payload| payload.data));
    }
    assert!(
        blocks
            .iter()
            .zip(&got)
            .all(|(block, data)| block.bytes() == data),
        "in order"
    );
}

#[tokio::test]
async fn a_peer_of_an_older_version_gets_what_it_understands() {
    for (protocols, prefixed) in [
        (&["/ipfs/bitswap/1.1.0"][..], true),
        (&["/ipfs/bitswap/1.0.0"][..], false),
    ] {
        let a = Replica::start().await;
        let (here, absent) = (block(1, 100), block(2, 100));
        a.blocks.put(&here);
        let mut old = RawPeer::connect(&a.address().await, protocols).await;
        let mut out = old.open(a.node.id()).await;
        let wants = vec![want(absent.cid()), want(here.cid())];
        assert!(send(&mut out, &Message::wants(wants)).await);
        let (answer, _) = receive(&mut old.accept().await).await.unwrap();
        assert!(answer.presences.is_empty());
        assert_eq!(answer.payload.len(), usize::from(prefixed));
        assert_eq!(answer.blocks.len(), usize::from(!prefixed));
    }
}

#[tokio::test]
async fn a_go_peer_that_sends_each_reply_on_a_stream_of_its_own_is_understood() {
    let a = Replica::start().await;
    let mut go = RawPeer::connect(&a.address().await, BITSWAP).await;
    let blocks: Vec<_> = (0..30).map(|n| block(n, 100)).collect();
    let cids = blocks.iter().map(|block| *block.cid()).collect();
    let fetch = a.fetch(cids, Some(crdt_ds::net::peer_name(&go.id)));
    let serve = async {
        let (message, _) = receive(&mut go.accept().await).await.unwrap();
        assert_eq!(message.wanted().len(), 30);
        assert!(
            message.wantlist.unwrap().full,
            "the first on a stream is the whole list"
        );
        for block in &blocks {
            let mut stream = go.open(a.node.id()).await;
            assert!(send(&mut stream, &Message::blocks([block.bytes().to_vec()])).await);
        }
    };
    let (events, ()) = tokio::join!(fetch, serve);
    assert!(events.iter().all(|event| event.result.is_ok()));
}

#[tokio::test]
async fn a_peer_without_bitswap_is_not_waited_for() {
    let a = Replica::start().await;
    let mute = RawPeer::connect(&a.address().await, &["/other"]).await;
    let limits = "it ends by not_found_after, not by the fetch timeout";
    let started = tokio::time::Instant::now();
    let hint = Some(crdt_ds::net::peer_name(&mute.id));
    let event = a.fetch_one(&block(1, 10), hint).await;
    assert!(
        matches!(event.result, Err(FetchError::NotFound)),
        "{limits}"
    );
    assert!(started.elapsed() >= Duration::from_secs(2));
    assert_eq!(a.transport.fetcher.peers(), []);
}
