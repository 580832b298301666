use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use futures::stream::BoxStream;

use crate::block::{Block, DagName};

/// A peer, as its transport names it: opaque here, at most a few dozen bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(Bytes);

impl Peer {
    /// A peer with this name.
    pub fn new(name: impl Into<Bytes>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.chars().all(|c| !c.is_control()) => f.write_str(text),
            _ => f.write_str(&data_encoding::HEXLOWER.encode(&self.0)),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}

/// Why a transport did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
    /// Nobody is there to receive; the heads will be announced again when somebody is.
    #[error("no peer is subscribed yet")]
    NoPeers,
    /// The payload is larger than the transport takes.
    #[error("a payload of {size} bytes is above the transport's limit of {limit}")]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// Another failure.
    #[error("the transport failed: {reason}")]
    Failed {
        /// What failed.
        reason: String,
    },
}

/// What a [`Broadcaster`] brings.
#[derive(Debug, Clone)]
pub enum BroadcastEvent {
    /// A payload that some replica sent.
    Payload {
        /// The neighbour that handed it to us; not always its author. `None` if unknown.
        from: Option<Peer>,
        /// The payload.
        payload: Bytes,
    },
    /// A peer can be reached from now on: it is connected and takes our payloads.
    PeerJoined(Peer),
    /// A peer cannot be reached any more.
    PeerLeft(Peer),
}

/// Sends payloads to every replica, without promise that they arrive.
#[async_trait]
pub trait Broadcaster: Send + Sync {
    /// Sends `payload` to all.
    ///
    /// # Errors
    /// [`TransportError`]; the caller announces again later.
    async fn broadcast(&self, payload: Bytes) -> Result<(), TransportError>;

    /// The next event; `None` when the transport is closed. Has one caller at a time, and loses no
    /// event when its future is dropped.
    async fn next(&self) -> Option<BroadcastEvent>;

    /// The most bytes that a payload may have.
    fn max_payload_bytes(&self) -> usize;
}

/// Why a block did not come.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No peer that was asked has it.
    #[error("no peer that was asked has it")]
    NotFound,
    /// It did not come in time.
    #[error("it did not come in time")]
    TimedOut,
    /// The peer sent something else.
    #[error("the peer sent bytes that do not hash to it")]
    BadBlock,
    /// The transport failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// What a fetch brings for one CID.
#[derive(Debug, Clone)]
pub struct FetchEvent {
    /// The CID that was asked for.
    pub cid: Cid,
    /// Who sent it, if the transport knows.
    pub from: Option<Peer>,
    /// The block, its hash checked; or why it did not come.
    pub result: Result<Block, FetchError>,
}

/// Fetches blocks from peers, and serves ours.
#[async_trait]
pub trait BlockFetcher: Send + Sync {
    /// Hands the transport the blocks that it may serve. Called once, when the replica opens.
    fn serve(&self, source: BlockSource);

    /// Asks for `cids`: `hint` first if given, others within seconds. The stream gives one event a
    /// CID, in any order, and ends; it has a deadline of its own. Dropping it withdraws the request.
    fn fetch(&self, cids: Vec<Cid>, hint: Option<Peer>) -> BoxStream<'static, FetchEvent>;

    /// Tells the transport that blocks are stored from now on, so that it can serve peers that asked
    /// for them before.
    fn stored(&self, cids: &[Cid]);

    /// The peers that are connected now.
    fn peers(&self) -> Vec<Peer>;

    /// The digests of a peer's replica, where the transport has a way to ask; else `None`.
    async fn digests(&self, peer: &Peer) -> Option<PeerDigests>;
}

/// What two replicas compare to know whether they are in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDigests {
    /// History digest of each DAG name, sorted by name.
    pub histories: Vec<(DagName, [u8; 32])>,
    /// Digest of the visible keys and values.
    pub state: [u8; 32],
}

/// What a replica lets its transport read.
#[async_trait]
pub trait ServeBlocks: Send + Sync {
    /// The stored bytes of a block, merged or pending.
    async fn block(&self, cid: &Cid) -> Option<Bytes>;

    /// The replica's digests now.
    async fn digests(&self) -> Option<PeerDigests>;
}

/// A weak handle to the blocks of a replica: it serves nothing once the replica is dropped.
#[derive(Clone)]
pub struct BlockSource(Weak<dyn ServeBlocks>);

impl BlockSource {
    /// A source of `blocks`.
    pub fn new(blocks: Weak<dyn ServeBlocks>) -> Self {
        Self(blocks)
    }

    /// The stored bytes of a block; `None` if it is not stored or the replica is gone.
    pub async fn block(&self, cid: &Cid) -> Option<Bytes> {
        self.0.upgrade()?.block(cid).await
    }

    /// The replica's digests; `None` if it is gone.
    pub async fn digests(&self) -> Option<PeerDigests> {
        self.0.upgrade()?.digests().await
    }
}

impl fmt::Debug for BlockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockSource")
    }
}

/// How a replica reaches the others: a broadcaster and a fetcher, usually of one network.
#[derive(Clone)]
pub struct Transport {
    /// Sends and brings announcements.
    pub broadcaster: Arc<dyn Broadcaster>,
    /// Fetches and serves blocks.
    pub fetcher: Arc<dyn BlockFetcher>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
