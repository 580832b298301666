//! Nodes with blocks in a map.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{Block, Format};
use crdt_ds::net::{Node, NodeBuilder};
use crdt_ds::sync::{
    BlockSource, BroadcastEvent, FetchEvent, Peer, PeerDigests, ServeBlocks, Transport,
};
use futures::StreamExt;
use libp2p::Multiaddr;

/// Longer than anything here takes; what exceeds it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn patiently<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it hangs")
}

/// The blocks of a store.
#[derive(Default)]
pub struct Blocks(Mutex<HashMap<Cid, Bytes>>);

impl Blocks {
    pub fn put(&self, block: &Block) {
        self.0
            .lock()
            .unwrap()
            .insert(*block.cid(), block.bytes().clone());
    }
}

#[async_trait]
impl ServeBlocks for Blocks {
    async fn block(&self, cid: &Cid) -> Option<Bytes> {
        self.0.lock().unwrap().get(cid).cloned()
    }

    async fn digests(&self) -> Option<PeerDigests> {
        None
    }
}

/// A block of so many bytes, another one for each number.
pub fn block(number: u32, size: usize) -> Block {
    let mut bytes = vec![0; size.max(4)];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Block::new(Format::DagCbor, bytes.into()).unwrap()
}

/// A node, and a store of it.
pub struct Replica {
    pub node: Node,
    pub transport: Transport,
    pub blocks: Arc<Blocks>,
}

pub fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

impl Replica {
    pub async fn start() -> Self {
        Self::with(Node::builder()).await
    }

    pub async fn with(options: NodeBuilder) -> Self {
        let node = options.listen(loopback()).start().await.unwrap();
        let transport = node.topic("rig");
        let blocks = Arc::new(Blocks::default());
        let weak: Weak<dyn ServeBlocks> = Arc::downgrade(&(blocks.clone() as Arc<dyn ServeBlocks>));
        transport.fetcher.serve(BlockSource::new(weak));
        Self {
            node,
            transport,
            blocks,
        }
    }

    pub async fn address(&self) -> Multiaddr {
        self.node.listening().await.unwrap().remove(0)
    }

    pub async fn dial(&self, other: &Replica) {
        let peer = patiently(self.node.dial(other.address().await))
            .await
            .unwrap();
        assert_eq!(peer, other.node.id());
    }

    pub fn name(&self) -> Peer {
        crdt_ds::net::peer_name(&self.node.id())
    }

    /// Waits until a peer is on the topic.
    pub async fn meet(&self, other: &Replica) {
        let wanted = other.name();
        self.wait(|event| matches!(event, BroadcastEvent::PeerJoined(peer) if *peer == wanted))
            .await;
    }

    pub async fn wait(&self, wanted: impl Fn(&BroadcastEvent) -> bool) -> BroadcastEvent {
        patiently(async {
            loop {
                let event = self
                    .transport
                    .broadcaster
                    .next()
                    .await
                    .expect("the topic has closed");
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
    }

    pub async fn payload(&self) -> Bytes {
        match self
            .wait(|event| matches!(event, BroadcastEvent::Payload { .. }))
            .await
        {
            BroadcastEvent::Payload { payload, .. } => payload,
            _ => unreachable!(),
        }
    }

    pub async fn fetch(&self, cids: Vec<Cid>, hint: Option<Peer>) -> Vec<FetchEvent> {
        patiently(self.transport.fetcher.fetch(cids, hint).collect()).await
    }

    pub async fn fetch_one(&self, block: &Block, hint: Option<Peer>) -> FetchEvent {
        self.fetch(vec![*block.cid()], hint).await.remove(0)
    }
}

/// Two replicas that are connected.
pub async fn pair() -> (Replica, Replica) {
    let (a, b) = (Replica::start().await, Replica::start().await);
    a.dial(&b).await;
    (a, b)
}
