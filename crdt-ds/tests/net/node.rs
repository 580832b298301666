//! Nodes: topics, connections, who may connect.

use std::time::Duration;

use bytes::Bytes;
use crdt_ds::net::{NetError, Node, NodeEvent};
use crdt_ds::sync::{BroadcastEvent, TransportError};
use futures::StreamExt;
use futures::stream::BoxStream;
use libp2p::identity::Keypair;
use libp2p::pnet::PreSharedKey;

use super::raw::RawPeer;
use super::rig::{Replica, loopback, pair, patiently};

async fn next(
    events: &mut BoxStream<'static, NodeEvent>,
    wanted: impl Fn(&NodeEvent) -> bool,
) -> NodeEvent {
    patiently(async {
        loop {
            let event = events.next().await.expect("the node has ended");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_payload_sent_when_a_peer_has_joined_reaches_it() {
    let (a, b) = pair().await;
    a.meet(&b).await;
    a.transport
        .broadcaster
        .broadcast(Bytes::from_static(b"hello"))
        .await
        .unwrap();
    let event = b
        .wait(|event| matches!(event, BroadcastEvent::Payload { .. }))
        .await;
    let BroadcastEvent::Payload { from, payload } = event else {
        unreachable!()
    };
    assert_eq!((from, &payload[..]), (Some(a.name()), &b"hello"[..]));
}

#[tokio::test]
async fn without_a_subscriber_a_payload_is_refused_and_so_is_one_that_is_too_large() {
    let a = Replica::start().await;
    let broadcaster = &a.transport.broadcaster;
    let alone = broadcaster.broadcast(Bytes::from_static(b"x")).await;
    assert!(matches!(alone, Err(TransportError::NoPeers)));
    let max = broadcaster.max_payload_bytes();
    let large = broadcaster.broadcast(vec![0; max + 1].into()).await;
    assert!(matches!(large, Err(TransportError::TooLarge { .. })));
    let b = Replica::start().await;
    a.dial(&b).await;
    a.meet(&b).await;
    broadcaster.broadcast(vec![7; max].into()).await.unwrap();
    assert_eq!(b.payload().await.len(), max);
}

#[tokio::test]
async fn payloads_pass_along_a_line_of_nodes() {
    let mut line = Vec::new();
    for _ in 0..5 {
        line.push(Replica::start().await);
    }
    for at in 0..4 {
        line[at].dial(&line[at + 1]).await;
        line[at].meet(&line[at + 1]).await;
        line[at + 1].meet(&line[at]).await;
    }
    line[0]
        .transport
        .broadcaster
        .broadcast(Bytes::from_static(b"down"))
        .await
        .unwrap();
    assert_eq!(line[4].payload().await, "down");
    line[4]
        .transport
        .broadcaster
        .broadcast(Bytes::from_static(b"up"))
        .await
        .unwrap();
    assert_eq!(line[0].payload().await, "up");
}

#[tokio::test]
async fn stores_of_one_node_have_topics_of_their_own() {
    let (a, b) = pair().await;
    let (other_a, other_b) = (a.node.topic("other"), b.node.topic("other"));
    patiently(async {
        while !matches!(
            other_a.broadcaster.next().await.unwrap(),
            BroadcastEvent::PeerJoined(_)
        ) {}
    })
    .await;
    a.meet(&b).await;
    other_a
        .broadcaster
        .broadcast(Bytes::from_static(b"other"))
        .await
        .unwrap();
    a.transport
        .broadcaster
        .broadcast(Bytes::from_static(b"rig"))
        .await
        .unwrap();
    assert_eq!(b.payload().await, "rig");
    let payload = patiently(async {
        loop {
            if let BroadcastEvent::Payload { payload, .. } =
                other_b.broadcaster.next().await.unwrap()
            {
                return payload;
            }
        }
    })
    .await;
    assert_eq!(payload, "other");
}

#[tokio::test]
async fn a_peer_that_was_there_before_the_topic_is_announced_as_joined() {
    let (a, b) = pair().await;
    a.meet(&b).await;
    let late_b = b.node.topic("late");
    let early_a = a.node.topic("late");
    let late_a = a.node.topic("late");
    for transport in [&early_a, &late_a, &late_b] {
        let event = patiently(transport.broadcaster.next()).await.unwrap();
        assert!(matches!(event, BroadcastEvent::PeerJoined(_)), "{event:?}");
    }
}

#[tokio::test]
async fn a_peer_that_leaves_the_topic_or_the_network_is_announced_as_left() {
    let (a, b) = pair().await;
    a.meet(&b).await;
    let b_name = b.name();
    let left =
        |event: &BroadcastEvent| matches!(event, BroadcastEvent::PeerLeft(peer) if *peer == b_name);
    drop(b.transport.broadcaster);
    a.wait(left).await;
    let again = b.node.topic("rig");
    a.wait(|event| matches!(event, BroadcastEvent::PeerJoined(_)))
        .await;
    b.node.close().await;
    a.wait(left).await;
    assert!(again.broadcaster.broadcast(Bytes::new()).await.is_err());
}

#[tokio::test]
async fn a_closed_node_ends_its_transports_and_its_events() {
    let a = Replica::start().await;
    let mut events = a.node.events();
    a.node.close().await;
    assert!(patiently(a.transport.broadcaster.next()).await.is_none());
    assert!(patiently(events.next()).await.is_none());
    let sent = a.transport.broadcaster.broadcast(Bytes::new()).await;
    assert!(matches!(sent, Err(TransportError::Closed)));
    assert!(matches!(a.node.peers().await, Err(NetError::Closed)));
    let event = a.fetch_one(&super::rig::block(1, 10), None).await;
    assert!(matches!(
        event.result,
        Err(crdt_ds::sync::FetchError::Transport(_))
    ));
}

#[tokio::test]
async fn a_named_peer_is_dialled_again_when_it_comes_back() {
    let key = Keypair::generate_ed25519();
    let first = Node::builder()
        .identity(key.clone())
        .listen(loopback())
        .start()
        .await
        .unwrap();
    let address = first.listening().await.unwrap().remove(0);
    let (short, long) = (Duration::from_millis(20), Duration::from_millis(100));
    let a = Node::builder()
        .dial(address.clone())
        .reconnect(short, long)
        .start()
        .await
        .unwrap();
    let mut events = a.events();
    if a.peers().await.unwrap().is_empty() {
        next(&mut events, |event| {
            matches!(event, NodeEvent::Connected { .. })
        })
        .await;
    }
    first.close().await;
    next(&mut events, |event| {
        matches!(event, NodeEvent::Disconnected { .. })
    })
    .await;
    let mut listen = address.clone();
    listen.pop();
    let second = Node::builder()
        .identity(key)
        .listen(listen)
        .start()
        .await
        .unwrap();
    next(&mut events, |event| {
        matches!(event, NodeEvent::Connected { .. })
    })
    .await;
    assert_eq!(a.peers().await.unwrap(), [second.id()]);
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_an_error_at_once_and_is_tried_again() {
    let (short, long) = (Duration::from_millis(20), Duration::from_millis(100));
    let a = Node::builder()
        .reconnect(short, long)
        .start()
        .await
        .unwrap();
    let placeholder = Node::builder().listen(loopback()).start().await.unwrap();
    let mut address = placeholder.listening().await.unwrap().remove(0);
    placeholder.close().await;
    address.pop();
    assert!(matches!(
        a.dial(address.clone()).await,
        Err(NetError::Dial { .. })
    ));
    let mut events = a.events();
    let b = Node::builder().listen(address).start().await.unwrap();
    next(&mut events, |event| {
        matches!(event, NodeEvent::Connected { .. })
    })
    .await;
    assert_eq!(a.peers().await.unwrap(), [b.id()]);
}

#[tokio::test]
async fn a_node_that_hung_up_dials_nobody_until_it_is_told() {
    let (short, long) = (Duration::from_millis(1), Duration::from_millis(2));
    let a = Replica::with(Node::builder().reconnect(short, long)).await;
    let b = Replica::start().await;
    a.dial(&b).await;
    a.node.hang_up().await.unwrap();
    assert_eq!(a.node.peers().await.unwrap(), []);
    let mut events = a.node.events();
    let quiet = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    a.dial(&b).await;
    assert_eq!(a.node.peers().await.unwrap(), [b.node.id()]);
}

#[tokio::test]
async fn who_is_denied_or_not_allowed_does_not_get_in() {
    let stranger = Node::builder().start().await.unwrap();
    let friend = Node::builder().start().await.unwrap();
    let picky = Node::builder()
        .listen(loopback())
        .allow_only([friend.id()])
        .start()
        .await
        .unwrap();
    let open = Node::builder()
        .listen(loopback())
        .deny([stranger.id()])
        .start()
        .await
        .unwrap();
    for (node, address) in [
        (&picky, picky.listening().await.unwrap().remove(0)),
        (&open, open.listening().await.unwrap().remove(0)),
    ] {
        // The handshake succeeds; the connection is closed after it.
        let mut events = node.events();
        let _ = stranger.dial(address.clone()).await;
        friend.dial(address).await.unwrap();
        let event = next(&mut events, |event| {
            matches!(event, NodeEvent::Connected { .. })
        })
        .await;
        assert!(matches!(event, NodeEvent::Connected { peer, .. } if peer == friend.id()));
        assert_eq!(node.peers().await.unwrap(), [friend.id()]);
    }
    let mut events = picky.events();
    picky.deny(friend.id()).await.unwrap();
    next(&mut events, |event| {
        matches!(event, NodeEvent::Disconnected { .. })
    })
    .await;
    picky.allow(stranger.id()).await.unwrap();
    stranger
        .dial(picky.listening().await.unwrap().remove(0))
        .await
        .unwrap();
    next(
        &mut events,
        |event| matches!(event, NodeEvent::Connected { peer, .. } if *peer == stranger.id()),
    )
    .await;
}

#[tokio::test]
async fn connections_are_limited() {
    let a = Node::builder()
        .listen(loopback())
        .max_connections(2, 1)
        .start()
        .await
        .unwrap();
    let address = a.listening().await.unwrap().remove(0);
    let mut others = Vec::new();
    for _ in 0..2 {
        let other = Node::builder().start().await.unwrap();
        other.dial(address.clone()).await.unwrap();
        others.push(other);
    }
    let third = Node::builder().start().await.unwrap();
    let mut events = third.events();
    if third.dial(address).await.is_ok() {
        next(&mut events, |event| {
            matches!(event, NodeEvent::Disconnected { .. })
        })
        .await;
    }
    assert_eq!(a.peers().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_private_network_is_closed_to_those_without_its_key() {
    let key = |byte| PreSharedKey::new([byte; 32]);
    let a = Replica::with(Node::builder().private_network(key(1))).await;
    let b = Replica::with(Node::builder().private_network(key(1))).await;
    a.dial(&b).await;
    a.meet(&b).await;
    let address = a.address().await;
    let wrong = Node::builder()
        .private_network(key(2))
        .start()
        .await
        .unwrap();
    assert!(patiently(wrong.dial(address.clone())).await.is_err());
    let none = Node::builder().start().await.unwrap();
    assert!(patiently(none.dial(address)).await.is_err());
    assert_eq!(a.node.peers().await.unwrap(), [b.node.id()]);
}

#[tokio::test]
async fn an_address_that_is_not_ours_or_of_a_kind_that_is_not_there_is_a_typed_error() {
    let elsewhere: libp2p::Multiaddr = "/ip4/192.0.2.1/tcp/0".parse().unwrap();
    let error = Node::builder()
        .listen(elsewhere.clone())
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, NetError::Listen { address, .. } if address == elsewhere));
    let strange = "/ip4/127.0.0.1/udp/1".parse().unwrap();
    let error = Node::builder().listen(strange).start().await.unwrap_err();
    assert!(matches!(error, NetError::Listen { .. }));
}

#[tokio::test]
async fn a_connection_to_a_peer_on_our_topic_is_kept_and_an_idle_one_is_not() {
    let idle = Duration::from_millis(100);
    let a = Replica::with(Node::builder().idle_timeout(idle)).await;
    let b = Replica::with(Node::builder().idle_timeout(idle)).await;
    let mut events = a.node.events();
    a.dial(&b).await;
    a.meet(&b).await;
    let stranger = RawPeer::connect(&a.address().await, &["/ipfs/bitswap/1.2.0"]).await;
    // A stream that it leaves open does not keep the connection.
    let _left_open = stranger.open(a.node.id()).await;
    let event = next(&mut events, |e| matches!(e, NodeEvent::Disconnected { .. })).await;
    assert!(matches!(event, NodeEvent::Disconnected { peer } if peer == stranger.id));
    assert_eq!(a.node.peers().await.unwrap(), [b.node.id()]);
}
