//! What we want, from whom, and who waits for it: the client's memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use cid::Cid;
use libp2p::PeerId;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::Limits;
use super::message::{Presence, WantKind};
use super::wantlist::PeerWantlist;
use crate::block::{Block, Format};
use crate::sync::{FetchError, FetchEvent, Peer, TransportError};

/// Names a fetch.
pub(super) type FetchId = u64;

/// The client. Plain data: it is told the time, and says what to send through [`PeerWantlist`].
///
/// The hinted peer is asked for the block. If it does not have it, or takes too long, others are
/// asked whether they have it, and the first that does is asked for it. A peer that denied a block
/// may get it, and then says so by itself; so a want ends only when the block is here, its fetch is
/// dropped, every peer has denied it for a while, or its time is up.
#[derive(Debug)]
pub(super) struct Client {
    limits: Limits,
    peers: HashMap<PeerId, ClientPeer>,
    wants: HashMap<Cid, Want>,
    fetches: HashMap<FetchId, Fetch>,
    last_id: FetchId,
    closed: bool,
}

#[derive(Debug)]
struct ClientPeer {
    name: Peer,
    wantlist: PeerWantlist,
}

#[derive(Debug)]
struct Want {
    fetches: Vec<FetchId>,
    asked: HashMap<PeerId, Asked>,
    /// When the last peer was asked for the block.
    asked_at: Instant,
    /// Whether peers other than the hinted one are asked.
    others: bool,
    /// Since when there is no peer left of whom to expect it.
    denied_since: Option<Instant>,
}

/// What a peer was asked, and has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Whether,
    ForBlock,
    Has,
    Denied,
}

#[derive(Debug)]
struct Fetch {
    hint: Option<PeerId>,
    /// Not asked for yet.
    queue: VecDeque<Cid>,
    /// Asked for, with the time at which that ends.
    open: HashMap<Cid, Instant>,
    ready: VecDeque<FetchEvent>,
    /// Events and bytes of them that the caller has not taken yet.
    untaken: usize,
    untaken_bytes: usize,
    waker: Option<Waker>,
}

impl Client {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            peers: HashMap::new(),
            wants: HashMap::new(),
            fetches: HashMap::new(),
            last_id: 0,
            closed: false,
        }
    }

    /// A peer that speaks bitswap, as far as is known, is connected.
    pub(super) fn peer_joined(
        &mut self,
        peer: PeerId,
        name: Peer,
        work: Arc<Notify>,
        now: Instant,
    ) {
        self.peers.entry(peer).or_insert_with(|| ClientPeer {
            name,
            wantlist: PeerWantlist::new(work),
        });
        let cids: Vec<Cid> = self.wants.keys().copied().collect();
        for cid in cids {
            let hinted = self.wants.get(&cid).is_some_and(|want| {
                want.fetches
                    .iter()
                    .any(|id| self.fetches.get(id).is_some_and(|f| f.hint == Some(peer)))
            });
            if hinted {
                self.ask(&cid, peer, WantKind::Block, now);
            } else if self.wants.get(&cid).is_some_and(|want| want.others) {
                self.ask_others(&cid, now);
            }
        }
    }

    /// A peer is gone, or does not speak bitswap.
    pub(super) fn peer_left(&mut self, peer: &PeerId, now: Instant) {
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        for cid in gone.wantlist.cids() {
            if let Some(want) = self.wants.get_mut(&cid) {
                want.asked.remove(peer);
                self.next_peer(&cid, now);
            }
        }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        self.peers.values().map(|peer| peer.name.clone()).collect()
    }

    /// Whether anything is wanted of this peer. What one sends that we want nothing of needs no look.
    pub(super) fn expects_of(&self, peer: &PeerId) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|peer| peer.wantlist.len() > 0)
    }

    /// The want-list of a peer, to send from it.
    pub(super) fn wantlist(&mut self, peer: &PeerId) -> Option<&mut PeerWantlist> {
        self.peers.get_mut(peer).map(|peer| &mut peer.wantlist)
    }

    /// Ends all fetches; later ones end at once.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.wants.clear();
        for fetch in self.fetches.values_mut() {
            let unanswered = fetch
                .queue
                .drain(..)
                .chain(fetch.open.drain().map(|(cid, _)| cid));
            fetch.ready.extend(unanswered.map(closed));
            wake(fetch);
        }
    }

    /// Begins a fetch. A CID that is there twice is fetched once; one that names no block of ours is
    /// not found.
    pub(super) fn open(&mut self, cids: Vec<Cid>, hint: Option<PeerId>, now: Instant) -> FetchId {
        let mut fetch = Fetch {
            hint,
            queue: VecDeque::with_capacity(cids.len()),
            open: HashMap::new(),
            ready: VecDeque::new(),
            untaken: 0,
            untaken_bytes: 0,
            waker: None,
        };
        let mut seen = HashSet::with_capacity(cids.len());
        for cid in cids {
            if !seen.insert(cid) {
                continue;
            }
            if self.closed {
                fetch.ready.push_back(closed(cid));
            } else if Format::of(&cid).is_err() {
                fetch.ready.push_back(failed(cid, FetchError::NotFound));
            } else {
                fetch.queue.push_back(cid);
            }
        }
        self.last_id += 1;
        let id = self.last_id;
        self.fetches.insert(id, fetch);
        self.fill_window(id, now);
        id
    }

    /// Withdraws a fetch.
    pub(super) fn drop_fetch(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        for cid in fetch.open.keys() {
            self.withdraw(cid, id);
        }
    }

    /// The events of a fetch, all that there are. The ones before count as taken by its caller.
    /// `None` when it has ended.
    pub(super) fn take_events(
        &mut self,
        id: FetchId,
        waker: &Waker,
        now: Instant,
    ) -> Poll<Option<VecDeque<FetchEvent>>> {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return Poll::Ready(None);
        };
        fetch.untaken = fetch.ready.len();
        fetch.untaken_bytes = fetch.ready.iter().map(event_bytes).sum();
        let events = std::mem::take(&mut fetch.ready);
        self.fill_window(id, now);
        if !events.is_empty() {
            return Poll::Ready(Some(events));
        }
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return Poll::Ready(None);
        };
        if fetch.open.is_empty() && fetch.queue.is_empty() {
            return Poll::Ready(None);
        }
        fetch.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Asks for more, once half of the window is free: requests in batches cost less.
    fn fill_window(&mut self, id: FetchId, now: Instant) {
        let window = self.limits.fetch_window.max(1);
        loop {
            let Some(fetch) = self.fetches.get_mut(&id) else {
                return;
            };
            let used = fetch.open.len() + fetch.untaken;
            if used > window / 2 || fetch.untaken_bytes > self.limits.fetch_buffer_bytes / 2 {
                return;
            }
            let free = (window - used).min(fetch.queue.len());
            if free == 0 {
                return;
            }
            let cids: Vec<Cid> = fetch.queue.drain(..free).collect();
            for cid in cids {
                self.begin(cid, id, now);
            }
        }
    }

    fn begin(&mut self, cid: Cid, id: FetchId, now: Instant) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return;
        };
        fetch.open.insert(cid, now + self.limits.fetch_timeout);
        let hint = fetch.hint.filter(|peer| self.peers.contains_key(peer));
        let want = self.wants.entry(cid).or_insert_with(|| Want {
            fetches: Vec::new(),
            asked: HashMap::new(),
            asked_at: now,
            others: false,
            denied_since: None,
        });
        want.fetches.push(id);
        let asked = hint.is_some_and(|peer| self.ask(&cid, peer, WantKind::Block, now));
        if !asked {
            self.ask_others(&cid, now);
        }
    }

    /// Asks a peer, unless it was asked so already or has enough wants of ours.
    fn ask(&mut self, cid: &Cid, peer: PeerId, kind: WantKind, now: Instant) -> bool {
        let (Some(want), Some(asked)) = (self.wants.get_mut(cid), self.peers.get_mut(&peer)) else {
            return false;
        };
        let before = want.asked.get(&peer).copied();
        if before == Some(Asked::ForBlock) {
            return true;
        }
        if before.is_none() && asked.wantlist.len() >= self.limits.max_wants_at_peer {
            return false;
        }
        let now_asked = match kind {
            WantKind::Have => Asked::Whether,
            WantKind::Block => Asked::ForBlock,
        };
        want.asked.insert(peer, now_asked);
        want.denied_since = None;
        if kind == WantKind::Block {
            want.asked_at = now;
        }
        asked.wantlist.want(*cid, kind);
        true
    }

    /// Asks peers that were not asked yet whether they have it; the only one there is, for it.
    fn ask_others(&mut self, cid: &Cid, now: Instant) {
        let Some(want) = self.wants.get_mut(cid) else {
            return;
        };
        want.others = true;
        let busy = want.asked.values().any(|asked| *asked == Asked::ForBlock);
        let room = self.limits.ask_others.saturating_sub(
            want.asked
                .values()
                .filter(|asked| **asked == Asked::Whether)
                .count(),
        );
        let others: Vec<PeerId> = self
            .peers
            .keys()
            .filter(|peer| !want.asked.contains_key(peer))
            .take(room)
            .copied()
            .collect();
        match others.as_slice() {
            [only] if !busy => {
                self.ask(cid, *only, WantKind::Block, now);
            }
            others => {
                for peer in others {
                    self.ask(cid, *peer, WantKind::Have, now);
                }
            }
        }
        self.note_if_denied(cid, now);
    }

    /// After a peer failed: asks one that has it, or else others.
    fn next_peer(&mut self, cid: &Cid, now: Instant) {
        let Some(want) = self.wants.get(cid) else {
            return;
        };
        if want.asked.values().any(|asked| *asked == Asked::ForBlock) {
            return;
        }
        match want
            .asked
            .iter()
            .find(|(_, asked)| **asked == Asked::Has)
            .map(|(peer, _)| *peer)
        {
            Some(peer) => {
                self.ask(cid, peer, WantKind::Block, now);
            }
            None => self.ask_others(cid, now),
        }
    }

    fn note_if_denied(&mut self, cid: &Cid, now: Instant) {
        if let Some(want) = self.wants.get_mut(cid)
            && want.denied_since.is_none()
            && want.asked.values().all(|asked| *asked == Asked::Denied)
        {
            want.denied_since = Some(now);
        }
    }

    /// A peer says whether it has a block.
    pub(super) fn presence(&mut self, peer: PeerId, cid: &Cid, presence: Presence, now: Instant) {
        let Some(asked) = self
            .wants
            .get_mut(cid)
            .and_then(|want| want.asked.get_mut(&peer))
        else {
            return;
        };
        match presence {
            Presence::DontHave => {
                *asked = Asked::Denied;
                self.next_peer(cid, now);
            }
            Presence::Have if *asked != Asked::ForBlock => {
                *asked = Asked::Has;
                self.next_peer(cid, now);
            }
            Presence::Have => {}
        }
    }

    /// A peer sent a block, its hash checked. Whether it was wanted.
    pub(super) fn block(&mut self, peer: &PeerId, block: Block) -> bool {
        let Some(want) = self.wants.remove(block.cid()) else {
            return false;
        };
        for asked in want.asked.keys() {
            if let Some(asked_peer) = self.peers.get_mut(asked) {
                if asked == peer {
                    asked_peer.wantlist.arrived(block.cid());
                } else {
                    asked_peer.wantlist.cancel(block.cid());
                }
            }
        }
        let from = self.peers.get(peer).map(|peer| peer.name.clone());
        for id in want.fetches {
            let Some(fetch) = self.fetches.get_mut(&id) else {
                continue;
            };
            fetch.open.remove(block.cid());
            if fetch.untaken_bytes > self.limits.fetch_buffer_bytes {
                fetch.queue.push_front(*block.cid());
                continue;
            }
            fetch.untaken += 1;
            fetch.untaken_bytes += block.bytes().len();
            fetch.ready.push_back(FetchEvent {
                cid: *block.cid(),
                from: from.clone(),
                result: Ok(block.clone()),
            });
            wake(fetch);
        }
        true
    }

    /// How often [`Self::tick`] should be called for a fetch.
    pub(super) fn tick_interval(&self) -> Duration {
        let limits = &self.limits;
        let shortest = limits
            .ask_others_after
            .min(limits.not_found_after)
            .min(limits.fetch_timeout);
        (shortest / 4).max(Duration::from_millis(5))
    }

    /// Lets time pass for what a fetch waits for.
    pub(super) fn tick(&mut self, id: FetchId, now: Instant) {
        let Some(fetch) = self.fetches.get(&id) else {
            return;
        };
        let open: Vec<(Cid, Instant)> = fetch.open.iter().map(|(c, end)| (*c, *end)).collect();
        for (cid, end) in open {
            let Some(want) = self.wants.get(&cid) else {
                continue;
            };
            let denied = want
                .denied_since
                .map(|since| now.saturating_duration_since(since));
            if denied.is_some_and(|denied| denied >= self.limits.not_found_after) {
                self.fail(&cid, id, FetchError::NotFound);
            } else if now >= end {
                self.fail(&cid, id, FetchError::TimedOut);
            } else if now.saturating_duration_since(want.asked_at) >= self.limits.ask_others_after {
                match want.asked.iter().find(|(_, asked)| **asked == Asked::Has) {
                    Some((peer, _)) => {
                        let peer = *peer;
                        self.ask(&cid, peer, WantKind::Block, now);
                    }
                    None => self.ask_others(&cid, now),
                }
            }
        }
    }

    fn fail(&mut self, cid: &Cid, id: FetchId, error: FetchError) {
        if let Some(fetch) = self.fetches.get_mut(&id) {
            fetch.open.remove(cid);
            fetch.untaken += 1;
            fetch.ready.push_back(failed(*cid, error));
            wake(fetch);
        }
        self.withdraw(cid, id);
    }

    /// A fetch wants a block no more.
    fn withdraw(&mut self, cid: &Cid, id: FetchId) {
        let Some(want) = self.wants.get_mut(cid) else {
            return;
        };
        want.fetches.retain(|fetch| *fetch != id);
        if want.fetches.is_empty()
            && let Some(want) = self.wants.remove(cid)
        {
            for peer in want.asked.keys() {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.wantlist.cancel(cid);
                }
            }
        }
    }
}

fn wake(fetch: &mut Fetch) {
    if let Some(waker) = fetch.waker.take() {
        waker.wake();
    }
}

fn failed(cid: Cid, error: FetchError) -> FetchEvent {
    FetchEvent {
        cid,
        from: None,
        result: Err(error),
    }
}

fn closed(cid: Cid) -> FetchEvent {
    failed(cid, TransportError::Closed.into())
}

fn event_bytes(event: &FetchEvent) -> usize {
    event.result.as_ref().map_or(0, |block| block.bytes().len())
}

#[cfg(test)]
mod tests;
