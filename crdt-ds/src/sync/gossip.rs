//! A broadcaster for programs that have a gossip of their own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{BroadcastEvent, Broadcaster, Peer, TransportError};

/// How many payloads wait to be taken; beyond that the oldest is dropped, and what it announced is
/// announced again or found by comparing. As many as the Warpnet app keeps.
const MAX_WAITING: usize = 100;

/// The sending half of a program's gossip.
#[async_trait]
pub trait GossipPublisher: Send + Sync {
    /// Sends `payload`, as it is, to all that are subscribed to `topic`.
    ///
    /// # Errors
    /// [`TransportError`]; the caller announces again later.
    async fn publish(&self, topic: &str, payload: Bytes) -> Result<(), TransportError>;
}

/// A [`Broadcaster`] over a gossip that the program runs itself: it publishes through a
/// [`GossipPublisher`], and the program's subscription to the topic calls
/// [`receive`](Self::receive).
///
/// At most 100 payloads wait; one more drops the oldest. Neither receiving nor closing ever waits for
/// anything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use async_trait::async_trait;
/// use bytes::Bytes;
/// use crdt_ds::sync::{BroadcastEvent, Broadcaster, GossipBroadcaster, GossipPublisher, TransportError};
///
/// struct Nobody;
/// #[async_trait]
/// impl GossipPublisher for Nobody {
///     async fn publish(&self, _topic: &str, _payload: Bytes) -> Result<(), TransportError> {
///         Err(TransportError::NoPeers)
///     }
/// }
///
/// let gossip = GossipBroadcaster::new(Nobody, "/my/app/1.0.0", 1 << 20);
/// gossip.receive("a payload".into());
/// assert!(matches!(gossip.next().await, Some(BroadcastEvent::Payload { .. })));
/// gossip.close();
/// assert!(gossip.next().await.is_none());
/// # }
/// ```
pub struct GossipBroadcaster<P> {
    publisher: P,
    topic: String,
    max_payload_bytes: usize,
    inbox: Mutex<Inbox>,
    arrived: Notify,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<BroadcastEvent>,
    closed: bool,
    dropped: u64,
}

impl<P: GossipPublisher> GossipBroadcaster<P> {
    /// A broadcaster on a topic, whose gossip carries payloads of at most `max_payload_bytes`.
    pub fn new(publisher: P, topic: impl Into<String>, max_payload_bytes: usize) -> Self {
        Self {
            publisher,
            topic: topic.into(),
            max_payload_bytes,
            inbox: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Takes a payload that the subscription brought. After [`close`](Self::close) it is dropped.
    pub fn receive(&self, payload: Bytes) {
        self.push(BroadcastEvent::Payload {
            from: None,
            payload,
        });
    }

    /// Takes a payload, and tells which neighbour handed it to us, so that blocks are asked of it first.
    pub fn receive_from(&self, peer: Peer, payload: Bytes) {
        let from = Some(peer);
        self.push(BroadcastEvent::Payload { from, payload });
    }

    /// A peer is subscribed from now on, if the program knows: it is told our heads.
    pub fn peer_joined(&self, peer: Peer) {
        self.push(BroadcastEvent::PeerJoined(peer));
    }

    /// A peer is gone, if the program knows.
    pub fn peer_left(&self, peer: Peer) {
        self.push(BroadcastEvent::PeerLeft(peer));
    }

    /// How many events were dropped because nobody took them.
    pub fn dropped(&self) -> u64 {
        self.inbox().dropped
    }

    /// Ends it: what waits is dropped, [`next`](Broadcaster::next) gives `None`, nothing is sent any
    /// more.
    pub fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closed = true;
        inbox.events.clear();
        drop(inbox);
        self.arrived.notify_waiters();
        // For one that looked before and waits only now.
        self.arrived.notify_one();
    }

    fn push(&self, event: BroadcastEvent) {
        let mut inbox = self.inbox();
        if inbox.closed {
            return;
        }
        if inbox.events.len() >= MAX_WAITING {
            inbox.events.pop_front();
            inbox.dropped += 1;
        }
        inbox.events.push_back(event);
        drop(inbox);
        self.arrived.notify_one();
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<P: GossipPublisher> Broadcaster for GossipBroadcaster<P> {
    async fn broadcast(&self, payload: Bytes) -> Result<(), TransportError> {
        if self.inbox().closed {
            return Err(TransportError::Closed);
        }
        if payload.len() > self.max_payload_bytes {
            return Err(TransportError::TooLarge {
                size: payload.len(),
                limit: self.max_payload_bytes,
            });
        }
        self.publisher.publish(&self.topic, payload).await
    }

    async fn next(&self) -> Option<BroadcastEvent> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut inbox = self.inbox();
                if inbox.closed {
                    return None;
                }
                if let Some(event) = inbox.events.pop_front() {
                    return Some(event);
                }
            }
            arrived.await;
        }
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload_bytes
    }
}

impl<P> fmt::Debug for GossipBroadcaster<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipBroadcaster")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use super::*;

    struct Nobody;

    #[async_trait]
    impl GossipPublisher for Nobody {
        async fn publish(&self, _: &str, _: Bytes) -> Result<(), TransportError> {
            Ok(())
        }
    }

    fn gossip() -> GossipBroadcaster<Nobody> {
        GossipBroadcaster::new(Nobody, "/t", 10)
    }

    fn payload(event: Option<BroadcastEvent>) -> Option<Bytes> {
        match event {
            Some(BroadcastEvent::Payload { payload, .. }) => Some(payload),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest() {
        let gossip = gossip();
        for n in 0..103_u8 {
            gossip.receive(vec![n].into());
        }
        assert_eq!(gossip.dropped(), 3);
        for n in 3..103_u8 {
            assert_eq!(payload(gossip.next().await), Some(vec![n].into()));
        }
        assert!(gossip.next().now_or_never().is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_ends_whoever_waits_while_payloads_arrive() {
        for _ in 0..200 {
            let gossip = Arc::new(gossip());
            let taker = tokio::spawn({
                let gossip = gossip.clone();
                async move { while gossip.next().await.is_some() {} }
            });
            let giver = tokio::spawn({
                let gossip = gossip.clone();
                async move {
                    for n in 0..200_u8 {
                        gossip.receive(vec![n].into());
                    }
                }
            });
            tokio::task::yield_now().await;
            gossip.close();
            giver.await.unwrap();
            taker.await.unwrap();
            assert!(gossip.next().await.is_none());
            assert!(matches!(
                gossip.broadcast("x".into()).await,
                Err(TransportError::Closed)
            ));
        }
    }

    #[tokio::test]
    async fn a_payload_above_the_limit_is_refused_before_it_is_published() {
        let gossip = gossip();
        assert!(gossip.broadcast(vec![0; 10].into()).await.is_ok());
        let refused = gossip.broadcast(vec![0; 11].into()).await;
        assert!(matches!(
            refused,
            Err(TransportError::TooLarge {
                size: 11,
                limit: 10
            })
        ));
    }
}
