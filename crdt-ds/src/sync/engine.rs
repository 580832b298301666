//! The sync task: announces, takes announcements, fetches.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, StreamExt, stream};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::outbox::{Mail, WantChange};
use super::wants::{Backoff, Wants};
use super::{
    AnnouncedHead, Announcement, AnnouncementLimits, BroadcastEvent, FetchEvent, Peer, Transport,
    TransportError,
};
use crate::Result;
use crate::block::{Block, Format};
use crate::replica::{Arrival, Outcome, Replica, Work};
use crate::store::{Counters, Request, Shared};

/// How many blocks a fetch asks for.
const BLOCKS_PER_FETCH: usize = 64;
/// How many blocks, and bytes of them, go to the committer at once.
const BLOCKS_PER_REQUEST: usize = 256;
const BYTES_PER_REQUEST: usize = 4 * 1024 * 1024;
/// How many such requests may wait for the committer; then no more is fetched.
const MAX_REQUESTS: usize = 4;
/// How long after a peer joined the heads are announced, so that several peers share it.
const JOIN_DELAY: Duration = Duration::from_millis(10);
/// How many announced heads are remembered so as not to announce them ourselves.
const MAX_SEEN: usize = 65_536;

/// A part of a fetch: a block that came or did not, or the end of it.
#[allow(
    clippy::large_enum_variant,
    reason = "handled one at a time: a box a block would cost more"
)]
enum Fetched {
    Event(FetchEvent),
    End(u64),
}

type Reply = Pin<Box<dyn Future<Output = (Vec<Cid>, Option<Result<Vec<Outcome>>>)> + Send>>;

/// The sync task of one replica.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    transport: Transport,
    queue: mpsc::Sender<Request>,
    shutdown: watch::Receiver<bool>,
    random: StdRng,
    wants: Wants,
    fetches: SelectAll<BoxStream<'static, Fetched>>,
    /// What each running fetch still owes.
    in_flight: HashMap<u64, BTreeSet<Cid>>,
    next_fetch: u64,
    /// Blocks that came and are not yet handed to the committer.
    came: Vec<(Block, Option<Peer>)>,
    came_bytes: usize,
    replies: FuturesUnordered<Reply>,
    /// Heads announced by anybody since the last round of our own.
    seen: BTreeSet<Cid>,
    rebroadcast_at: Instant,
    announce_all_at: Option<Instant>,
    refill_at: Option<Instant>,
}

impl Engine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: Transport,
        queue: mpsc::Sender<Request>,
        shutdown: watch::Receiver<bool>,
        random: StdRng,
    ) -> Self {
        let backoff = Backoff {
            min: shared.options.retry_min,
            max: shared.options.retry_max,
        };
        let mut engine = Self {
            shared,
            transport,
            queue,
            shutdown,
            random,
            wants: Wants::new(backoff),
            fetches: SelectAll::new(),
            in_flight: HashMap::new(),
            next_fetch: 0,
            came: Vec::new(),
            came_bytes: 0,
            replies: FuturesUnordered::new(),
            seen: BTreeSet::new(),
            rebroadcast_at: Instant::now(),
            announce_all_at: None,
            refill_at: Some(Instant::now()),
        };
        engine.rebroadcast_at = engine.next_rebroadcast();
        engine
    }

    /// Runs until the replica is closed or dropped, or the transport is closed.
    pub(crate) async fn run(mut self) {
        let broadcaster = self.transport.broadcaster.clone();
        let shared = self.shared.clone();
        loop {
            self.hand_over().await;
            self.start_fetches();
            if self.wants.wants_refill() {
                let pause = self.shared.options.retry_max;
                self.refill_at.get_or_insert_with(|| Instant::now() + pause);
            }
            let deadline = self.deadline();
            tokio::select! {
                _ = self.shutdown.changed() => return,
                event = broadcaster.next() => match event {
                    Some(event) => self.take_event(event).await,
                    None => return,
                },
                Some(fetched) = self.fetches.next(), if self.replies.len() < MAX_REQUESTS => {
                    self.take_fetched(fetched);
                    // Blocks that came together go on together.
                    while self.came.len() < BLOCKS_PER_REQUEST
                        && self.came_bytes < BYTES_PER_REQUEST
                        && let Some(Some(fetched)) = self.fetches.next().now_or_never()
                    {
                        self.take_fetched(fetched);
                    }
                }
                Some((cids, outcomes)) = self.replies.next() => self.take_outcomes(cids, outcomes),
                () = shared.outbox.wait() => self.take_mail().await,
                () = tokio::time::sleep_until(deadline) => self.take_time().await,
            }
        }
    }

    fn deadline(&self) -> Instant {
        let connected = !self.transport.fetcher.peers().is_empty();
        let busy = self.in_flight.len() >= self.shared.options.workers;
        [self.announce_all_at, self.refill_at]
            .into_iter()
            .flatten()
            .chain(self.wants.next_due().filter(|_| connected && !busy))
            .chain([self.rebroadcast_at])
            .min()
            .unwrap_or(self.rebroadcast_at)
    }

    fn next_rebroadcast(&mut self) -> Instant {
        let interval = self.shared.options.rebroadcast_interval;
        Instant::now() + interval.mul_f64(self.random.random_range(0.7..1.3))
    }

    async fn take_time(&mut self) {
        let now = Instant::now();
        if self.announce_all_at.is_some_and(|at| at <= now) {
            self.announce_all_at = None;
            self.announce_heads(|_| true).await;
        }
        if self.rebroadcast_at <= now {
            let seen = std::mem::take(&mut self.seen);
            self.announce_heads(|cid| !seen.contains(cid)).await;
            self.rebroadcast_at = self.next_rebroadcast();
        }
        if self.refill_at.is_some_and(|at| at <= now) {
            self.refill().await;
        }
        self.give_up(now).await;
    }

    // Announcing.

    fn limits(&self) -> AnnouncementLimits {
        AnnouncementLimits {
            max_payload_bytes: self.transport.broadcaster.max_payload_bytes(),
            max_block_bytes: self.shared.options.ride_along_bytes,
        }
    }

    async fn announce(&mut self, heads: Vec<AnnouncedHead>) {
        self.remember_seen(heads.iter().map(|head| head.cid));
        for payload in (Announcement { heads }).encode(&self.limits()) {
            match self.transport.broadcaster.broadcast(payload).await {
                Ok(()) => {}
                // They are announced again when a peer joins, and at the next round.
                Err(TransportError::NoPeers | TransportError::Closed) => return,
                Err(error) => tracing::warn!(%error, "an announcement failed"),
            }
        }
    }

    /// Announces our heads, those that `which` selects.
    async fn announce_heads(&mut self, which: impl Fn(&Cid) -> bool) {
        let state = self.shared.state.borrow().clone();
        // A Go peer could not read past a DAG-CBOR block, so a DAG-PB store never announces one; it
        // never has one.
        let heads: Vec<AnnouncedHead> = state
            .names
            .iter()
            .flat_map(|(name, state)| state.heads().map(move |head| (name, head.cid)))
            .filter(|(_, cid)| which(cid))
            .map(|(name, cid)| AnnouncedHead {
                cid,
                dag_name: name.clone(),
                block: None,
            })
            .collect();
        if !heads.is_empty() {
            self.announce(heads).await;
        }
    }

    fn remember_seen(&mut self, cids: impl IntoIterator<Item = Cid>) {
        for cid in cids {
            if self.seen.len() < MAX_SEEN {
                self.seen.insert(cid);
            }
        }
    }

    async fn take_mail(&mut self) {
        let Mail {
            commits,
            wants,
            wants_lost,
            damaged,
            merged,
        } = self.shared.outbox.take();
        let now = Instant::now();
        for change in wants {
            match change {
                WantChange::Wanted(cid, peer) => self.wants.want(cid, peer, now),
                WantChange::Unwanted(cid) => {
                    self.wants.remove(&cid);
                    self.shared.sync_view().unserved.remove(&cid);
                }
            }
        }
        if wants_lost {
            self.wants.lose_track();
            self.refill_at = Some(now);
        }
        for heads in commits {
            // The block was stored by the commit that sent this mail: it can be served.
            let heads = heads
                .into_iter()
                .map(|head| AnnouncedHead {
                    cid: *head.block.cid(),
                    dag_name: head.dag_name,
                    block: Some(head.block.bytes().clone()),
                })
                .collect();
            self.announce(heads).await;
        }
        if !damaged.is_empty() {
            let work = damaged
                .into_iter()
                .map(|cid| Work::Damaged { cid })
                .collect();
            self.send(work, 0, Vec::new()).await;
        }
        if merged {
            self.shared.sync_view().stalled = false;
            self.progressed();
        }
    }

    fn progressed(&self) {
        self.shared
            .progress
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    // What others announce.

    async fn take_event(&mut self, event: BroadcastEvent) {
        match event {
            BroadcastEvent::Payload { from, payload } => {
                match Announcement::decode(&payload, &self.limits()) {
                    Ok(announcement) => {
                        for head in announcement.heads {
                            self.take_head(head, from.clone()).await;
                        }
                    }
                    Err(error) => {
                        Counters::count(&self.shared.counters.refused_announcements);
                        tracing::debug!(%error, ?from, "an announcement was refused");
                    }
                }
            }
            BroadcastEvent::PeerJoined(_) => {
                self.wants.retry_all(Instant::now());
                self.announce_all_at
                    .get_or_insert_with(|| Instant::now() + JOIN_DELAY);
            }
            BroadcastEvent::PeerLeft(peer) => {
                self.shared.sync_view().forget_peer(&peer);
                if self.transport.fetcher.peers().is_empty() {
                    self.wants.forget_unserved();
                }
            }
        }
        self.progressed();
    }

    async fn take_head(&mut self, head: AnnouncedHead, from: Option<Peer>) {
        let cid = head.cid;
        let foreign =
            self.shared.rules.format == Format::DagPb && cid.codec() != Format::DagPb.codec();
        if foreign || Format::of(&cid).is_err() {
            Counters::count(&self.shared.counters.refused_announcements);
            return;
        }
        self.remember_seen([cid]);
        // Noted before it is looked up: what merges from now on is settled by its commit.
        if let Some(peer) = &from {
            self.shared.sync_view().announce(peer, cid);
        }
        match self.shared.is_stored(&cid).await {
            Ok(false) => {}
            Ok(true) => {
                if matches!(self.shared.is_merged(&cid).await, Ok(true)) {
                    self.shared.sync_view().settle(&cid);
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%cid, %error, "an announced head could not be looked up");
                return;
            }
        }
        match head.block.map(|bytes| Block::verify(&cid, bytes)) {
            Some(Ok(block)) => self.push(block, from),
            rode_along => {
                if rode_along.is_some() {
                    Counters::count(&self.shared.counters.refused_blocks);
                }
                self.wants.hint(cid, from, Instant::now());
            }
        }
    }

    // Fetching.

    fn start_fetches(&mut self) {
        let now = Instant::now();
        while self.in_flight.len() < self.shared.options.workers
            && !self.transport.fetcher.peers().is_empty()
        {
            let (cids, peer) = self.wants.take_due(BLOCKS_PER_FETCH, now);
            if cids.is_empty() {
                return;
            }
            let fetch = self.next_fetch;
            self.next_fetch += 1;
            self.in_flight.insert(fetch, cids.iter().copied().collect());
            let timeout = tokio::time::sleep(self.shared.options.fetch_timeout);
            let events = self
                .transport
                .fetcher
                .fetch(cids, peer)
                .map(Fetched::Event)
                .take_until(timeout)
                .chain(stream::iter([Fetched::End(fetch)]));
            self.fetches.push(events.boxed());
        }
    }

    fn take_fetched(&mut self, fetched: Fetched) {
        let now = Instant::now();
        match fetched {
            Fetched::Event(FetchEvent { cid, from, result }) => {
                for owed in self.in_flight.values_mut() {
                    owed.remove(&cid);
                }
                match result {
                    Ok(block) => self.push(block, from),
                    Err(error) => {
                        tracing::debug!(%cid, %error, "a block did not come");
                        self.failed(&cid, now);
                    }
                }
            }
            Fetched::End(fetch) => {
                for cid in self.in_flight.remove(&fetch).unwrap_or_default() {
                    self.failed(&cid, now);
                }
            }
        }
    }

    fn failed(&mut self, cid: &Cid, now: Instant) {
        let asked = !self.transport.fetcher.peers().is_empty();
        self.wants.failed(cid, asked, now);
        let mut view = self.shared.sync_view();
        if view.unserved.len() < MAX_SEEN {
            view.unserved.insert(*cid);
        }
    }

    fn push(&mut self, block: Block, from: Option<Peer>) {
        self.came_bytes += block.bytes().len();
        self.came.push((block, from));
    }

    /// Hands what came to the committer.
    async fn hand_over(&mut self) {
        if self.came.is_empty() {
            return;
        }
        let came = std::mem::take(&mut self.came);
        let bytes = std::mem::take(&mut self.came_bytes);
        let cids = came.iter().map(|(block, _)| *block.cid()).collect();
        let work = came
            .into_iter()
            .map(|(block, from)| Work::Arrive { block, from })
            .collect();
        self.send(work, bytes, cids).await;
    }

    async fn send(&mut self, work: Vec<Work>, bytes: usize, cids: Vec<Cid>) {
        let (request, outcome) = Request::new(work, bytes, &self.shared);
        // The committer outlives every sender; if it is gone all the same, so will this task be.
        if self.queue.send(request).await.is_ok() {
            self.replies
                .push(Box::pin(async move { (cids, outcome.await.ok()) }));
        }
    }

    fn take_outcomes(&mut self, cids: Vec<Cid>, outcomes: Option<Result<Vec<Outcome>>>) {
        let now = Instant::now();
        match outcomes {
            Some(Ok(outcomes)) => {
                for (cid, outcome) in cids.iter().zip(outcomes) {
                    self.take_outcome(cid, outcome, now);
                }
            }
            // The commit failed: nothing was stored, and the blocks are asked for again.
            _ => cids.iter().for_each(|cid| self.wants.postpone(cid, now)),
        }
        self.progressed();
    }

    fn take_outcome(&mut self, cid: &Cid, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Arrived(Arrival::NoRoom) => {
                self.wants.postpone(cid, now);
                self.shared.sync_view().stalled = true;
            }
            Outcome::Arrived(Arrival::Refused(error)) => {
                Counters::count(&self.shared.counters.refused_blocks);
                tracing::debug!(%error, "a block was refused");
                self.wants.settle(cid, now);
                self.shared.sync_view().settle(cid);
            }
            Outcome::Arrived(Arrival::Merged | Arrival::Known) => {
                self.wants.settle(cid, now);
                self.shared.sync_view().unserved.remove(cid);
            }
            Outcome::Arrived(Arrival::Pending) => self.wants.settle(cid, now),
            Outcome::Wrote(_) | Outcome::Done => {}
        }
    }

    /// Reads wants from disk while there is room for more.
    async fn refill(&mut self) {
        self.refill_at = None;
        let (after, room) = self.wants.refill();
        if room == 0 {
            return;
        }
        let (store, layout) = (&*self.shared.store, &self.shared.layout);
        let read = Replica::wants(store, layout, after.as_ref(), room).await;
        let now = Instant::now();
        match read {
            Ok(rows) => {
                let up_to = rows.last().map(|(cid, _)| *cid);
                self.wants.refilled(up_to.filter(|_| rows.len() == room));
                for (cid, row) in rows {
                    if row.is_fetched() {
                        self.wants.want(cid, row.asker(), now);
                    } else {
                        self.shared.sync_view().note_malformed(cid);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the wanted blocks could not be read");
                self.refill_at = Some(now + self.shared.options.retry_min);
            }
        }
    }

    /// INVARIANT 3: a DAG-PB block that nobody serves holds up those above it only so long.
    async fn give_up(&mut self, now: Instant) {
        let given_up = self.wants.given_up(self.shared.options.gap_after, now);
        let state = self.shared.state.borrow().clone();
        let work: Vec<Work> = given_up
            .into_iter()
            .filter(|cid| !state.gaps.contains_key(cid) && state.sums.pending > 0)
            .map(|cid| Work::Gap {
                cid,
                declared: false,
            })
            .collect();
        if !work.is_empty() {
            self.send(work, 0, Vec::new()).await;
        }
    }
}
