//! A node: a swarm of one's own, for those who have none.

mod options;
mod swarm;
mod task;

use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{Mutex, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::options::NodeBuilder;
pub use self::task::NodeEvent;
use self::task::{Command, NodeTask};
use super::bitswap::PeerTraffic;
use super::{Handle, NetError};
use crate::sync::Transport;

/// A libp2p node that carries stores: TCP with noise and yamux, gossipsub, bitswap, identify and
/// ping. Clones are one node. It runs in a task of its own until it is closed, or its last clone is
/// dropped; then the transports that it made close too.
///
/// ```
/// use crdt_ds::net::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), crdt_ds::net::NetError> {
/// let a = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start().await?;
/// let b = Node::builder().start().await?;
/// let address = a.listening().await?.remove(0);
/// assert_eq!(b.dial(address).await?, a.id());
///
/// let transport = b.topic("my-app"); // for `CrdtDatastore::builder(…).transport(transport)`
/// # let _ = transport;
/// a.close().await;
/// b.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    id: PeerId,
    replicas: Handle,
    commands: mpsc::Sender<Command>,
    /// Of the task, so that streams of events end with it.
    events: broadcast::WeakSender<NodeEvent>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.0.id)
    }
}

/// Events that a slow reader may be behind before it misses some.
const EVENTS: usize = 256;

/// Commands that wait for the swarm; who gives one more waits.
const COMMANDS: usize = 64;

impl Node {
    /// Sets up a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    async fn start(options: NodeBuilder) -> Result<Self, NetError> {
        let key = options
            .key
            .clone()
            .unwrap_or_else(Keypair::generate_ed25519);
        let swarm = swarm::build(&key, &options)?;
        let replicas = swarm.behaviour().replicas.handle();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (events, _) = broadcast::channel(EVENTS);
        let weak = events.downgrade();
        let mut task = NodeTask::new(swarm, &options, receiver, events);
        task.listen(&options).await?;
        let task = tokio::spawn(task.run());
        Ok(Self(Arc::new(Inner {
            id: key.public().to_peer_id(),
            replicas,
            commands,
            events: weak,
            task: Mutex::new(Some(task)),
        })))
    }

    /// Who this node is.
    pub fn id(&self) -> PeerId {
        self.0.id
    }

    /// Joins a topic: the transport of one store. See [`Handle::topic`].
    pub fn topic(&self, name: &str) -> Transport {
        self.0.replicas.topic(name)
    }

    /// What was exchanged by bitswap with each peer that is connected.
    pub fn traffic(&self) -> Vec<(PeerId, PeerTraffic)> {
        self.0.replicas.traffic()
    }

    /// What happens from now on, until the node ends. A reader that is slow misses events.
    pub fn events(&self) -> BoxStream<'static, NodeEvent> {
        let events = self.0.events.upgrade().map(|events| events.subscribe());
        unfold(events, |events| async move {
            let mut events = events?;
            loop {
                match events.recv().await {
                    Ok(event) => return Some((event, Some(events))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NetError> {
        let (reply, answer) = oneshot::channel();
        self.0
            .commands
            .send(command(reply))
            .await
            .map_err(|_| NetError::Closed)?;
        answer.await.map_err(|_| NetError::Closed)
    }

    /// The addresses on which it listens, with its id.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub async fn listening(&self) -> Result<Vec<Multiaddr>, NetError> {
        self.ask(Command::Listening).await
    }

    /// The peers that are connected.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub async fn peers(&self) -> Result<Vec<PeerId>, NetError> {
        self.ask(Command::Peers).await
    }

    /// Connects to a peer, and names it: from now on it is dialled again, with a back-off, whenever
    /// the connection is lost or cannot be made.
    ///
    /// # Errors
    /// [`NetError::Dial`] if it could not be reached at once; [`NetError::Closed`].
    pub async fn dial(&self, address: Multiaddr) -> Result<PeerId, NetError> {
        self.ask(|reply| Command::Dial(address, reply)).await?
    }

    /// Closes the connections to a peer and forgets its addresses.
    ///
    /// # Errors
    /// [`NetError::NotConnected`], [`NetError::Closed`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetError> {
        self.ask(|reply| Command::Disconnect(peer, reply)).await?
    }

    /// Closes every connection, and makes none until [`dial`](Self::dial) is called. Peers may still
    /// connect to it.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub async fn hang_up(&self) -> Result<(), NetError> {
        self.ask(Command::HangUp).await
    }

    /// Lets a peer connect: puts it on the list of [`NodeBuilder::allow_only`], if there is one, and
    /// takes it off the list of the denied.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub async fn allow(&self, peer: PeerId) -> Result<(), NetError> {
        self.ask(|reply| Command::Allow(peer, reply)).await
    }

    /// Closes the connections to a peer, and lets it connect no more.
    ///
    /// # Errors
    /// [`NetError::Closed`].
    pub async fn deny(&self, peer: PeerId) -> Result<(), NetError> {
        self.ask(|reply| Command::Deny(peer, reply)).await
    }

    /// Closes every connection and ends the node, and its transports.
    pub async fn close(&self) {
        // It errs only if the node has ended already.
        let _ = self.0.commands.send(Command::Close).await;
        if let Some(task) = self.0.task.lock().await.take() {
            let _ = task.await;
        }
    }
}
