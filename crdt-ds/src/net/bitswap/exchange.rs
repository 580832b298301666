//! What the tasks of bitswap and its handle share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::BoxStream;
use libp2p::PeerId;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::client::Client;
use super::fetch::Fetch;
use super::ledger::Ledger;
use super::limits::Limits;
use crate::net::peer_name::{peer_id, peer_name};
use crate::sync::{BlockFetcher, BlockSource, FetchEvent, Peer, PeerDigests};

/// Shared by the behaviour, its tasks and its handles. The locks are held for plain computation
/// only, and no two of them at a time.
pub(super) struct Exchange {
    pub(super) limits: Limits,
    client: Mutex<Client>,
    /// The connected peers.
    links: RwLock<HashMap<PeerId, Arc<Link>>>,
    /// The stores, each with the handle that brought it.
    sources: RwLock<Arc<[(u64, BlockSource)]>>,
    last_handle: AtomicU64,
}

/// What there is of a connected peer.
pub(super) struct Link {
    pub(super) peer: PeerId,
    ledger: Mutex<Ledger>,
    /// Woken when there is something to send.
    pub(super) work: Arc<Notify>,
    /// Bytes of large messages that may be read at a time.
    pub(super) budget: Semaphore,
    pub(super) traffic: Traffic,
}

/// Counters of a connected peer.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) blocks_in: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) blocks_out: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) unwanted: AtomicU64,
}

/// What was exchanged with a peer since it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PeerTraffic {
    /// Blocks that it sent and we wanted.
    pub blocks_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Blocks that it was sent.
    pub blocks_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Blocks that it sent and nobody wanted, or not any more.
    pub unwanted: u64,
    /// Wants of it that we remember.
    pub wants: usize,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain data; to go on with it is better than to panic too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    fn traffic(&self) -> PeerTraffic {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerTraffic {
            blocks_in: load(&self.traffic.blocks_in),
            bytes_in: load(&self.traffic.bytes_in),
            blocks_out: load(&self.traffic.blocks_out),
            bytes_out: load(&self.traffic.bytes_out),
            unwanted: load(&self.traffic.unwanted),
            wants: self.ledger().len(),
        }
    }
}

impl Exchange {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            client: Mutex::new(Client::new(limits.clone())),
            limits,
            links: RwLock::default(),
            sources: RwLock::new(Arc::from([])),
            last_handle: AtomicU64::new(0),
        })
    }

    pub(super) fn client(&self) -> MutexGuard<'_, Client> {
        lock(&self.client)
    }

    /// A peer has connected.
    pub(super) fn connect(&self, peer: PeerId) -> Arc<Link> {
        let link = Arc::new(Link {
            peer,
            ledger: Mutex::new(Ledger::new(
                self.limits.max_wants_per_peer,
                self.limits.want_expiry,
            )),
            work: Arc::new(Notify::new()),
            budget: Semaphore::new(self.limits.max_message_bytes),
            traffic: Traffic::default(),
        });
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer, link.clone());
        link
    }

    /// A connected peer speaks bitswap, as far as is known.
    pub(super) fn join(&self, link: &Link) {
        let name = peer_name(&link.peer);
        self.client()
            .peer_joined(link.peer, name, link.work.clone(), Instant::now());
    }

    /// The last connection to a peer has closed.
    pub(super) fn disconnect(&self, peer: &PeerId) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(peer);
        self.client().peer_left(peer, Instant::now());
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.links
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The stored bytes of a block, from whichever store has it.
    pub(super) async fn stored_block(&self, cid: &Cid) -> Option<Bytes> {
        let sources = self
            .sources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (_, source) in sources.iter() {
            if let Some(bytes) = source.block(cid).await {
                return Some(bytes);
            }
        }
        None
    }

    fn add_source(&self, handle: u64, source: BlockSource) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        *sources = sources.iter().cloned().chain([(handle, source)]).collect();
        drop(sources);
        // Peers may have asked for its blocks before it was there.
        for link in self.links() {
            link.ledger().look_up_all();
            link.work.notify_one();
        }
    }

    fn remove_sources(&self, handle: u64) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        *sources = sources
            .iter()
            .filter(|(of, _)| *of != handle)
            .cloned()
            .collect();
    }

    fn stored(&self, cids: &[Cid]) {
        for link in self.links() {
            let mut ledger = link.ledger();
            // Not `any`: each of them has to be told.
            let waits = cids.iter().filter(|cid| ledger.stored(cid)).count();
            drop(ledger);
            if waits > 0 {
                link.work.notify_one();
            }
        }
    }
}

/// Fetches blocks through a [`Behaviour`](super::Behaviour), and serves those of one store.
///
/// Clones are one handle; the store that was handed to [`serve`](BlockFetcher::serve) is served
/// until the last is dropped. [`Behaviour::handle`](super::Behaviour::handle) makes further ones,
/// for further stores.
#[derive(Clone)]
pub struct Handle(Arc<Registration>);

struct Registration {
    exchange: Arc<Exchange>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.exchange.remove_sources(self.id);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bitswap::Handle")
    }
}

impl Handle {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        let id = exchange.last_handle.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Registration { exchange, id }))
    }

    /// A handle for a further store.
    pub fn another(&self) -> Self {
        Self::new(self.0.exchange.clone())
    }

    /// What was exchanged with each peer that is connected.
    pub fn traffic(&self) -> Vec<(PeerId, PeerTraffic)> {
        self.0
            .exchange
            .links()
            .iter()
            .map(|link| (link.peer, link.traffic()))
            .collect()
    }
}

#[async_trait]
impl BlockFetcher for Handle {
    fn serve(&self, source: BlockSource) {
        self.0.exchange.add_source(self.0.id, source);
    }

    /// The stream has to be polled within a tokio runtime: it keeps its deadlines itself.
    fn fetch(&self, cids: Vec<Cid>, hint: Option<Peer>) -> BoxStream<'static, FetchEvent> {
        let hint = hint.as_ref().and_then(peer_id);
        Fetch::new(self.0.exchange.clone(), cids, hint).boxed()
    }

    fn stored(&self, cids: &[Cid]) {
        self.0.exchange.stored(cids);
    }

    fn peers(&self) -> Vec<Peer> {
        self.0.exchange.client().peers()
    }

    /// `None`: bitswap has no way to ask.
    async fn digests(&self, _: &Peer) -> Option<PeerDigests> {
        None
    }
}
