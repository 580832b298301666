//! A network in one process, with the faults of a real one, all from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, BoxStream, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    BlockFetcher, BlockSource, BroadcastEvent, Broadcaster, FetchError, FetchEvent, Peer,
    PeerDigests, Transport, TransportError,
};
use crate::block::Block;

/// How many events may wait for a member; beyond that the oldest is lost.
const MAX_EVENTS: usize = 16_384;

/// What goes wrong on a [`Hub`]. The default: nothing, and no delay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// The probability that an announcement is lost on its way to a member.
    pub loss: f64,
    /// The probability that it arrives twice.
    pub duplication: f64,
    /// How long it takes; a range reorders. Empty: no time.
    pub delay: Range<Duration>,
    /// The probability that a request for a block is not answered.
    pub fetch_loss: f64,
}

/// A network in one process: everybody reaches everybody, but for partitions and [`Faults`], which
/// follow from the seed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use crdt_ds::CrdtDatastore;
/// use crdt_ds::sync::Hub;
/// use datastore_backends::MemoryDatastore;
///
/// let hub = Hub::new(7);
/// let a = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("a")).open().await?;
/// let b = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("b")).open().await?;
/// hub.partition(&[&["a"], &["b"]]);
/// hub.heal();
/// # a.close().await?; b.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Hub {
    net: Arc<Mutex<Net>>,
}

struct Net {
    random: StdRng,
    faults: Faults,
    members: BTreeMap<Peer, Member>,
    /// The part of the network that each member is in; 0 if it is not named.
    parts: BTreeMap<Peer, usize>,
    next_event: u64,
    joins: u64,
}

struct Member {
    /// Which join of this name it is.
    join: u64,
    source: Option<BlockSource>,
    events: BinaryHeap<Reverse<Event>>,
    arrived: Arc<Notify>,
}

struct Event {
    due: Instant,
    number: u64,
    event: BroadcastEvent,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl Hub {
    /// A network without faults.
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::default())
    }

    /// A network with faults.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self {
            net: Arc::new(Mutex::new(Net {
                random: StdRng::seed_from_u64(seed),
                faults,
                members: BTreeMap::new(),
                parts: BTreeMap::new(),
                next_event: 0,
                joins: 0,
            })),
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.net().faults = faults;
    }

    /// Joins the network as `name`; a member of that name that is here leaves. The member leaves when
    /// the transport is dropped.
    pub fn join(&self, name: &str) -> Transport {
        let peer = Peer::new(name.to_owned());
        let arrived = Arc::new(Notify::new());
        let mut net = self.net();
        net.leave(&peer, None);
        net.joins += 1;
        let join = net.joins;
        net.members.insert(
            peer.clone(),
            Member {
                join,
                source: None,
                events: BinaryHeap::new(),
                arrived: arrived.clone(),
            },
        );
        for other in net.reachable(&peer) {
            net.send(
                &other,
                BroadcastEvent::PeerJoined(peer.clone()),
                Duration::ZERO,
            );
            net.send(&peer, BroadcastEvent::PeerJoined(other), Duration::ZERO);
        }
        drop(net);
        let member = Arc::new(HubMember {
            net: self.net.clone(),
            peer,
            join,
            arrived,
        });
        Transport {
            broadcaster: member.clone(),
            fetcher: member,
        }
    }

    /// Cuts the network into parts that do not reach each other. Members that are not named form a
    /// part of their own.
    pub fn partition(&self, parts: &[&[&str]]) {
        let parts = parts
            .iter()
            .enumerate()
            .flat_map(|(part, names)| {
                names
                    .iter()
                    .map(move |name| (Peer::new((*name).to_owned()), part + 1))
            })
            .collect();
        self.net().set_parts(parts);
    }

    /// Joins all parts again.
    pub fn heal(&self) {
        self.net().set_parts(BTreeMap::new());
    }

    fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = self.net();
        f.debug_struct("Hub")
            .field("members", &net.members.keys().collect::<Vec<_>>())
            .field("parts", &net.parts)
            .finish_non_exhaustive()
    }
}

impl Net {
    fn part(&self, peer: &Peer) -> usize {
        self.parts.get(peer).copied().unwrap_or(0)
    }

    fn connected(&self, a: &Peer, b: &Peer) -> bool {
        a != b
            && self.members.contains_key(a)
            && self.members.contains_key(b)
            && self.part(a) == self.part(b)
    }

    fn reachable(&self, peer: &Peer) -> Vec<Peer> {
        self.members
            .keys()
            .filter(|other| self.connected(peer, other))
            .cloned()
            .collect()
    }

    fn set_parts(&mut self, parts: BTreeMap<Peer, usize>) {
        let names: Vec<Peer> = self.members.keys().cloned().collect();
        let pairs = |net: &Self| -> BTreeSet<(Peer, Peer)> {
            let pairs = names.iter().flat_map(|a| names.iter().map(move |b| (a, b)));
            pairs
                .filter(|(a, b)| net.connected(a, b))
                .map(|(a, b)| (a.clone(), b.clone()))
                .collect()
        };
        let before = pairs(self);
        self.parts = parts;
        let after = pairs(self);
        for (a, b) in before.difference(&after) {
            self.send(a, BroadcastEvent::PeerLeft(b.clone()), Duration::ZERO);
        }
        for (a, b) in after.difference(&before) {
            self.send(a, BroadcastEvent::PeerJoined(b.clone()), Duration::ZERO);
        }
    }

    fn send(&mut self, to: &Peer, event: BroadcastEvent, delay: Duration) {
        self.next_event += 1;
        let number = self.next_event;
        if let Some(member) = self.members.get_mut(to) {
            if member.events.len() >= MAX_EVENTS {
                member.events.pop();
            }
            member.events.push(Reverse(Event {
                due: Instant::now() + delay,
                number,
                event,
            }));
            member.arrived.notify_one();
        }
    }

    fn delay(&mut self) -> Duration {
        let range = self.faults.delay.clone();
        if range.is_empty() {
            Duration::ZERO
        } else {
            self.random.random_range(range)
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random_bool(probability.min(1.0))
    }

    /// Removes a member, if it is still the one of this join.
    fn leave(&mut self, peer: &Peer, join: Option<u64>) {
        let same = self
            .members
            .get(peer)
            .is_some_and(|member| join.is_none_or(|join| member.join == join));
        if same {
            let others = self.reachable(peer);
            if let Some(member) = self.members.remove(peer) {
                member.arrived.notify_one();
            }
            for other in others {
                self.send(
                    &other,
                    BroadcastEvent::PeerLeft(peer.clone()),
                    Duration::ZERO,
                );
            }
        }
    }
}

/// A member of a hub: the broadcaster and fetcher of one replica.
struct HubMember {
    net: Arc<Mutex<Net>>,
    peer: Peer,
    join: u64,
    arrived: Arc<Notify>,
}

impl HubMember {
    fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The due event, or when the next one is due; `Err` if this member has left.
    fn poll_event(&self) -> Result<Result<BroadcastEvent, Option<Instant>>, TransportError> {
        let mut net = self.net();
        let member = match net.members.get_mut(&self.peer) {
            Some(member) if member.join == self.join => member,
            _ => return Err(TransportError::Closed),
        };
        match member.events.peek() {
            None => Ok(Err(None)),
            Some(Reverse(event)) if event.due > Instant::now() => Ok(Err(Some(event.due))),
            Some(_) => Ok(member.events.pop().map(|event| event.0.event).ok_or(None)),
        }
    }
}

impl Drop for HubMember {
    fn drop(&mut self) {
        let peer = self.peer.clone();
        self.net().leave(&peer, Some(self.join));
    }
}

#[async_trait]
impl Broadcaster for HubMember {
    async fn broadcast(&self, payload: Bytes) -> Result<(), TransportError> {
        let limit = self.max_payload_bytes();
        if payload.len() > limit {
            return Err(TransportError::TooLarge {
                size: payload.len(),
                limit,
            });
        }
        let mut net = self.net();
        let others = net.reachable(&self.peer);
        if others.is_empty() {
            return Err(TransportError::NoPeers);
        }
        for other in others {
            let (loss, duplication) = (net.faults.loss, net.faults.duplication);
            if net.happens(loss) {
                continue;
            }
            let copies = 1 + usize::from(net.happens(duplication));
            for _ in 0..copies {
                let event = BroadcastEvent::Payload {
                    from: Some(self.peer.clone()),
                    payload: payload.clone(),
                };
                let delay = net.delay();
                net.send(&other, event, delay);
            }
        }
        Ok(())
    }

    async fn next(&self) -> Option<BroadcastEvent> {
        loop {
            match self.poll_event() {
                Err(_) => return None,
                Ok(Ok(event)) => return Some(event),
                Ok(Err(None)) => self.arrived.notified().await,
                Ok(Err(Some(due))) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.arrived.notified() => {}
                    }
                }
            }
        }
    }

    fn max_payload_bytes(&self) -> usize {
        60 * 1024
    }
}

#[async_trait]
impl BlockFetcher for HubMember {
    fn serve(&self, source: BlockSource) {
        if let Some(member) = self.net().members.get_mut(&self.peer)
            && member.join == self.join
        {
            member.source = Some(source);
        }
    }

    fn fetch(&self, cids: Vec<Cid>, hint: Option<Peer>) -> BoxStream<'static, FetchEvent> {
        let (net, peer) = (self.net.clone(), self.peer.clone());
        stream::iter(cids)
            .then(move |cid| ask(net.clone(), peer.clone(), cid, hint.clone()))
            .boxed()
    }

    fn stored(&self, _: &[Cid]) {}

    fn peers(&self) -> Vec<Peer> {
        self.net().reachable(&self.peer)
    }

    async fn digests(&self, peer: &Peer) -> Option<PeerDigests> {
        let source = {
            let net = self.net();
            if !net.connected(&self.peer, peer) {
                return None;
            }
            net.members.get(peer)?.source.clone()?
        };
        source.digests().await
    }
}

/// Asks the peers that can be reached for a block, the hinted one first.
async fn ask(net: Arc<Mutex<Net>>, asker: Peer, cid: Cid, hint: Option<Peer>) -> FetchEvent {
    let lock = || net.lock().unwrap_or_else(PoisonError::into_inner);
    let mut peers = lock().reachable(&asker);
    peers.sort_by_key(|peer| Some(peer) != hint.as_ref());
    let mut error = FetchError::NotFound;
    for peer in peers {
        let (delay, lost) = {
            let mut net = lock();
            let fetch_loss = net.faults.fetch_loss;
            (net.delay(), net.happens(fetch_loss))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if lost {
            error = FetchError::TimedOut;
            continue;
        }
        // The network may have changed meanwhile.
        let source = {
            let net = lock();
            net.connected(&asker, &peer)
                .then(|| {
                    net.members
                        .get(&peer)
                        .and_then(|member| member.source.clone())
                })
                .flatten()
        };
        let Some(source) = source else { continue };
        if let Some(bytes) = source.block(&cid).await {
            match Block::verify(&cid, bytes) {
                Ok(block) => {
                    return FetchEvent {
                        cid,
                        from: Some(peer),
                        result: Ok(block),
                    };
                }
                Err(_) => error = FetchError::BadBlock,
            }
        }
    }
    FetchEvent {
        cid,
        from: None,
        result: Err(error),
    }
}
