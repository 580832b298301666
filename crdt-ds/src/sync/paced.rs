//! Announcements of one peer, at a pace.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{BroadcastEvent, Broadcaster, Peer, TransportError};
use crate::rate::{Rate, TokenBucket};

/// How many payloads of one peer are held back; beyond that the oldest is dropped.
const MAX_HELD: usize = 100;

/// How many peers are known at a time; of more, those that hold nothing back are forgotten.
const MAX_PEERS: usize = 10_000;

/// A [`Broadcaster`] that takes from each neighbour only so many payloads a second and holds the others
/// back. It delays, and where a peer floods it drops, as any broadcaster may: what is merged is the
/// same, for heads are announced again and found by comparing.
///
/// ```
/// use std::sync::Arc;
/// use crdt_ds::sync::{Hub, PacedBroadcaster, Rate, Transport};
///
/// let Transport { broadcaster, fetcher } = Hub::new(1).join("a");
/// let rate = Rate { per_second: 100.0, burst: 200 };
/// let broadcaster = Arc::new(PacedBroadcaster::new(broadcaster, rate));
/// let transport = Transport { broadcaster, fetcher };
/// ```
pub struct PacedBroadcaster {
    inner: Arc<dyn Broadcaster>,
    rate: Rate,
    began: Instant,
    peers: Mutex<HashMap<Peer, Pace>>,
}

struct Pace {
    bucket: TokenBucket,
    held: VecDeque<Bytes>,
    /// When the first of those held may go.
    due: Duration,
}

impl PacedBroadcaster {
    /// `inner`, at a pace a peer. A rate that lets nothing through holds everything back.
    pub fn new(inner: Arc<dyn Broadcaster>, rate: Rate) -> Self {
        Self {
            inner,
            rate,
            began: Instant::now(),
            peers: Mutex::default(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Peer, Pace>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A payload that is due, or when the next one is.
    fn due(&self) -> Result<BroadcastEvent, Option<Duration>> {
        let now = self.began.elapsed();
        let mut peers = self.peers();
        let next = peers.iter_mut().filter(|(_, pace)| !pace.held.is_empty());
        let Some((peer, pace)) = next.min_by_key(|(_, pace)| pace.due) else {
            return Err(None);
        };
        if let Err(wait) = pace.bucket.take(now) {
            pace.due = now.saturating_add(wait);
            return Err(Some(pace.due));
        }
        let payload = pace.held.pop_front().unwrap_or_default();
        // The next one needs a token too; when there is one is found out then.
        pace.due = now;
        let from = Some(peer.clone());
        Ok(BroadcastEvent::Payload { from, payload })
    }

    /// The payload, if it may pass now.
    fn pass(&self, peer: &Peer, payload: Bytes) -> Option<Bytes> {
        let now = self.began.elapsed();
        let mut peers = self.peers();
        if peers.len() >= MAX_PEERS && !peers.contains_key(peer) {
            peers.retain(|_, pace| !pace.held.is_empty());
        }
        let pace = peers.entry(peer.clone()).or_insert_with(|| Pace {
            bucket: TokenBucket::new(self.rate),
            held: VecDeque::new(),
            due: now,
        });
        if pace.held.is_empty() {
            match pace.bucket.take(now) {
                Ok(()) => return Some(payload),
                Err(wait) => pace.due = now.saturating_add(wait),
            }
        }
        if pace.held.len() >= MAX_HELD {
            pace.held.pop_front();
        }
        pace.held.push_back(payload);
        None
    }
}

#[async_trait]
impl Broadcaster for PacedBroadcaster {
    async fn broadcast(&self, payload: Bytes) -> Result<(), TransportError> {
        self.inner.broadcast(payload).await
    }

    async fn next(&self) -> Option<BroadcastEvent> {
        loop {
            let due = match self.due() {
                Ok(event) => return Some(event),
                Err(due) => due,
            };
            let pause = async {
                match due {
                    Some(due) => tokio::time::sleep_until(self.began + due).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = self.inner.next() => event?,
                () = pause => continue,
            };
            match event {
                BroadcastEvent::Payload {
                    from: Some(peer),
                    payload,
                } => {
                    if let Some(payload) = self.pass(&peer, payload) {
                        let from = Some(peer);
                        return Some(BroadcastEvent::Payload { from, payload });
                    }
                }
                // Its bucket stays, or leaving and coming back would fill it.
                event => return Some(event),
            }
        }
    }

    fn max_payload_bytes(&self) -> usize {
        self.inner.max_payload_bytes()
    }
}

impl fmt::Debug for PacedBroadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacedBroadcaster")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hub;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_peer_is_delayed_in_order_and_does_not_hold_up_another() {
        let hub = Hub::new(1);
        let (flood, quiet) = (hub.join("flood"), hub.join("quiet"));
        let rate = Rate {
            per_second: 1.0,
            burst: 2,
        };
        let paced = PacedBroadcaster::new(hub.join("a").broadcaster, rate);
        for n in 0..5_u8 {
            flood.broadcaster.broadcast(vec![n].into()).await.unwrap();
        }
        quiet.broadcaster.broadcast("q".into()).await.unwrap();
        let began = Instant::now();
        let mut taken = Vec::new();
        while taken.len() < 6 {
            if let Some(BroadcastEvent::Payload { payload, .. }) = paced.next().await {
                taken.push((payload, began.elapsed().as_secs()));
            }
        }
        let expected: [(&[u8], u64); 6] = [
            (&[0], 0),
            (&[1], 0),
            (b"q", 0),
            (&[2], 1),
            (&[3], 2),
            (&[4], 3),
        ];
        let expected = expected.map(|(payload, at)| (Bytes::copy_from_slice(payload), at));
        assert_eq!(taken, expected);
    }
}
