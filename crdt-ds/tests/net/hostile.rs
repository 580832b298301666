//! Peers that mean ill. Each is met beside an honest one, which must not notice.

use std::time::Duration;

use crdt_ds::net::bitswap::{FrameError, Limits, Misbehaviour};
use crdt_ds::net::{Node, NodeEvent, peer_name};
use crdt_ds::sync::FetchError;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::raw::{Entry, Message, RawPeer, Wantlist, is_closed_by_peer, receive, send, send_bytes};
use super::rig::{Replica, block, patiently};

const BITSWAP: &[&str] = &["/ipfs/bitswap/1.2.0"];

struct Scene {
    victim: Replica,
    honest: Replica,
    hostile: RawPeer,
    events: BoxStream<'static, NodeEvent>,
}

impl Scene {
    async fn set(limits: Limits) -> Self {
        let victim = Replica::with(Node::builder().bitswap(limits)).await;
        let honest = Replica::start().await;
        honest.dial(&victim).await;
        let events = victim.node.events();
        let hostile = RawPeer::connect(&victim.address().await, BITSWAP).await;
        Self {
            victim,
            honest,
            hostile,
            events,
        }
    }

    async fn stream(&self) -> libp2p::Stream {
        self.hostile.open(self.victim.node.id()).await
    }

    /// What the victim says of the hostile peer next.
    async fn accused(&mut self) -> std::sync::Arc<Misbehaviour> {
        patiently(async {
            loop {
                if let NodeEvent::Misbehaved { peer, what } = self.events.next().await.unwrap() {
                    assert_eq!(peer, self.hostile.id);
                    return what;
                }
            }
        })
        .await
    }

    /// The honest peer and the victim exchange blocks both ways.
    async fn others_go_on(&self) {
        let (ours, theirs) = (block(1_000_001, 1000), block(1_000_002, 1000));
        self.victim.blocks.put(&ours);
        self.honest.blocks.put(&theirs);
        assert!(
            self.honest
                .fetch_one(&ours, Some(self.victim.name()))
                .await
                .result
                .is_ok()
        );
        assert!(
            self.victim
                .fetch_one(&theirs, Some(self.honest.name()))
                .await
                .result
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_message_of_four_gigabytes_closes_its_stream() {
    let mut scene = Scene::set(Limits::default()).await;
    let mut stream = scene.stream().await;
    assert!(send_bytes(&mut stream, &[0x80, 0x80, 0x80, 0x80, 0x10, 1, 2, 3]).await);
    assert!(is_closed_by_peer(&mut stream).await);
    let accused = scene.accused().await;
    assert!(
        matches!(&*accused, Misbehaviour::BadMessage(FrameError::TooLarge { size, .. }) if *size == 4 << 30)
    );
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_length_that_never_ends_closes_its_stream() {
    let mut scene = Scene::set(Limits::default()).await;
    let mut stream = scene.stream().await;
    let mut sent = 0;
    while sent < 100_000 && send_bytes(&mut stream, &[0xff; 1000]).await {
        sent += 1;
    }
    assert!(sent < 100_000, "it is read for ever");
    let accused = scene.accused().await;
    assert!(matches!(
        &*accused,
        Misbehaviour::BadMessage(FrameError::Malformed(_))
    ));
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_want_list_of_a_million_is_remembered_up_to_the_bound_only() {
    let mut scene = Scene::set(Limits::default()).await;
    let mut stream = scene.stream().await;
    for part in 0..20 {
        let entries = (0..50_000)
            .map(|n| Entry {
                block: block(part * 50_000 + n, 4).cid().to_bytes(),
                send_dont_have: n % 2 == 0,
                ..Entry::default()
            })
            .collect();
        assert!(send(&mut stream, &Message::wants(entries)).await);
        let traffic = scene.victim.node.traffic();
        assert!(traffic.iter().all(|(_, traffic)| traffic.wants <= 1024));
    }
    scene.others_go_on().await;
    let traffic = scene.victim.node.traffic();
    let (_, hostile) = traffic
        .iter()
        .find(|(peer, _)| *peer == scene.hostile.id)
        .unwrap();
    assert!(hostile.wants > 0);
    // It is answered, too.
    let (answer, _) = receive(&mut scene.hostile.accept().await).await.unwrap();
    assert!(!answer.presences.is_empty());
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_up_nobody_else() {
    let limits = Limits {
        message_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let scene = Scene::set(limits).await;
    let blocks: Vec<_> = (0..64).map(|n| block(n, 1 << 20)).collect();
    blocks
        .iter()
        .for_each(|block| scene.victim.blocks.put(block));
    let mut stream = scene.stream().await;
    let entries = blocks
        .iter()
        .map(|block| Entry {
            block: block.cid().to_bytes(),
            ..Entry::default()
        })
        .collect();
    assert!(send(&mut stream, &Message::wants(entries)).await);
    // It never accepts, and never reads.
    scene.others_go_on().await;
}

#[tokio::test]
async fn blocks_that_nobody_asked_for_are_counted_and_dropped() {
    let mut scene = Scene::set(Limits::default()).await;
    let mut stream = scene.stream().await;
    let unasked = (0..300).map(|n| block(n, 1000).bytes().to_vec());
    assert!(send(&mut stream, &Message::blocks(unasked)).await);
    assert!(matches!(
        &*scene.accused().await,
        Misbehaviour::UnwantedBlocks(300)
    ));
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_block_that_does_not_match_its_cid_is_not_taken_for_it() {
    let mut scene = Scene::set(Limits::default()).await;
    let wanted = block(7, 1000);
    scene.honest.blocks.put(&wanted);
    let fetch = scene
        .victim
        .transport
        .fetcher
        .fetch(vec![*wanted.cid()], Some(peer_name(&scene.hostile.id)));
    let mut fetch = fetch;
    let event = {
        let lie = async {
            let (message, _) = receive(&mut scene.hostile.accept().await).await.unwrap();
            assert_eq!(message.wanted(), [wanted.cid().to_bytes()]);
            let mut data = wanted.bytes().to_vec();
            data[0] ^= 1;
            let mut stream = scene.hostile.open(scene.victim.node.id()).await;
            assert!(send(&mut stream, &Message::blocks([data])).await);
        };
        let (event, ()) = patiently(async { tokio::join!(fetch.next(), lie) }).await;
        event.unwrap()
    };
    assert_eq!(event.from, Some(scene.honest.name()), "another peer had it");
    assert_eq!(event.result.unwrap(), wanted);
    assert!(matches!(
        &*scene.accused().await,
        Misbehaviour::UnwantedBlocks(1)
    ));
}

#[tokio::test]
async fn a_peer_that_answers_with_nothing_costs_its_time_and_no_more() {
    let limits = Limits {
        fetch_timeout: Duration::from_secs(3),
        ask_others_after: Duration::from_millis(100),
        ..Limits::default()
    };
    let mut scene = Scene::set(limits).await;
    let (absent, present) = (block(1, 10), block(2, 10));
    scene.honest.blocks.put(&present);
    let hint = Some(peer_name(&scene.hostile.id));
    let fetch = scene
        .victim
        .fetch(vec![*absent.cid(), *present.cid()], hint);
    let mut answer = async || {
        let mut stream = scene.hostile.open(scene.victim.node.id()).await;
        assert!(send(&mut stream, &Message::default()).await);
        let wantlist = Some(Wantlist::default());
        assert!(
            send(
                &mut stream,
                &Message {
                    wantlist,
                    ..Message::default()
                }
            )
            .await
        );
        scene.hostile.accept().await
    };
    let (events, _stream) = tokio::join!(fetch, answer());
    let of = |block: &crdt_ds::block::Block| {
        events
            .iter()
            .find(|event| event.cid == *block.cid())
            .unwrap()
    };
    assert!(of(&present).result.is_ok());
    assert!(matches!(of(&absent).result, Err(FetchError::TimedOut)));
}

#[tokio::test]
async fn streams_that_are_opened_and_left_are_bounded() {
    let limits = Limits {
        max_streams_per_peer: 8,
        ..Limits::default()
    };
    let mut scene = Scene::set(limits).await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        let mut stream = scene.stream().await;
        // An empty message: the stream is there, and idle from now on.
        send_bytes(&mut stream, &[0]).await;
        streams.push(stream);
    }
    for _ in 0..4 {
        assert!(matches!(
            &*scene.accused().await,
            Misbehaviour::TooManyStreams
        ));
    }
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_message_that_never_ends_gives_its_room_back() {
    let limits = Limits {
        message_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let mut scene = Scene::set(limits).await;
    let mut slow = scene.stream().await;
    // Says 4 MiB, the whole of its peer's room, and sends a little.
    assert!(send_bytes(&mut slow, &[0x80, 0x80, 0x80, 0x02]).await);
    assert!(send_bytes(&mut slow, &[0; 50_000]).await);
    assert!(is_closed_by_peer(&mut slow).await);
    let accused = scene.accused().await;
    assert!(matches!(
        &*accused,
        Misbehaviour::BadMessage(FrameError::TimedOut)
    ));
    let mut stream = scene.stream().await;
    let unasked = (0..100).map(|n| block(n, 1000).bytes().to_vec());
    assert!(send(&mut stream, &Message::blocks(unasked)).await);
    assert!(matches!(
        &*scene.accused().await,
        Misbehaviour::UnwantedBlocks(100)
    ));
    scene.others_go_on().await;
}

#[tokio::test]
async fn garbage_closes_its_stream() {
    let mut scene = Scene::set(Limits::default()).await;
    let mut stream = scene.stream().await;
    assert!(send_bytes(&mut stream, b"\x05GET /").await);
    assert!(is_closed_by_peer(&mut stream).await);
    let accused = scene.accused().await;
    assert!(matches!(
        &*accused,
        Misbehaviour::BadMessage(FrameError::Malformed(_))
    ));
    scene.others_go_on().await;
}
