use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::gossipsub::{self, PublishError, TopicHash};
use libp2p::identity::Keypair;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandlerSelect, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use super::NetError;
use super::bitswap::{self, Limits};
use super::gossip::{self, GossipConfig, Topic, TopicCommand, TopicId};
use super::inbox::Inbox;
use super::peer_name::peer_name;
use crate::sync::{Transport, TransportError};

/// The network of replicas, to be composed into a swarm that an app has already.
///
/// It holds gossipsub and bitswap. An app whose gossipsub is its own takes
/// [`bitswap::Behaviour`] alone, and implements [`Broadcaster`](crate::sync::Broadcaster) over its
/// gossip. Identify should be in the swarm: Go peers ask for blocks only where it lists bitswap.
///
/// Its swarm has to be polled within a tokio runtime. When it is dropped, its transports close.
///
/// ```
/// use crdt_ds::net::{self, bitswap, GossipConfig};
/// use libp2p::{identity::Keypair, ping, swarm::NetworkBehaviour};
///
/// #[derive(NetworkBehaviour)]
/// struct App {
///     replicas: net::Behaviour,
///     ping: ping::Behaviour,
/// }
///
/// let key = Keypair::generate_ed25519();
/// let replicas =
///     net::Behaviour::new(&key, GossipConfig::default(), bitswap::Limits::default())?;
/// let transport = replicas.handle().topic("my-app");
/// let app = App { replicas, ping: ping::Behaviour::default() };
/// # let _ = (transport, app);
/// # Ok::<(), net::NetError>(())
/// ```
pub struct Behaviour {
    protocols: Protocols,
    topics: HashMap<TopicHash, TopicState>,
    commands: mpsc::UnboundedReceiver<TopicCommand>,
    handle: Handle,
}

#[derive(NetworkBehaviour)]
#[behaviour(to_swarm = "Event")]
struct Protocols {
    gossip: gossipsub::Behaviour,
    bitswap: bitswap::Behaviour,
}

/// What a [`Behaviour`] reports: everything that its protocols do. Nothing has to be done about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Of gossipsub. Messages of the stores' topics have been handed to the stores already.
    Gossip(Box<gossipsub::Event>),
    /// A peer that misbehaved.
    Bitswap(bitswap::Event),
}

impl From<gossipsub::Event> for Event {
    fn from(event: gossipsub::Event) -> Self {
        Self::Gossip(Box::new(event))
    }
}

impl From<bitswap::Event> for Event {
    fn from(event: bitswap::Event) -> Self {
        Self::Bitswap(event)
    }
}

/// A topic that stores of this node are on.
#[derive(Default)]
struct TopicState {
    inboxes: HashMap<u64, Arc<Inbox>>,
    subscribers: BTreeSet<PeerId>,
}

/// Joins topics of a [`Behaviour`].
#[derive(Clone)]
pub struct Handle {
    bitswap: bitswap::Handle,
    gossip: GossipConfig,
    commands: mpsc::UnboundedSender<TopicCommand>,
    subscriptions: Arc<AtomicU64>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("net::Handle")
    }
}

impl Handle {
    /// Joins a topic: the transport of one store. The topic is left when its broadcaster is dropped,
    /// and the store's blocks are not served any more when its fetcher is.
    ///
    /// Peers that were there before are announced as joined. Two stores of a node on one topic do
    /// not hear each other.
    pub fn topic(&self, name: &str) -> Transport {
        let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let topic = Topic::subscribe(name, subscription, &self.gossip, self.commands.clone());
        Transport {
            broadcaster: Arc::new(topic),
            fetcher: Arc::new(self.bitswap.another()),
        }
    }

    /// What was exchanged by bitswap with each peer that is connected.
    pub fn traffic(&self) -> Vec<(PeerId, bitswap::PeerTraffic)> {
        self.bitswap.traffic()
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("net::Behaviour")
            .field("topics", &self.topics.len())
            .finish()
    }
}

impl Behaviour {
    /// Gossipsub and bitswap; `key` signs the announcements and has to be the swarm's.
    ///
    /// # Errors
    /// [`NetError::Config`] if `gossip` cannot be used as it is.
    pub fn new(key: &Keypair, gossip: GossipConfig, bitswap: Limits) -> Result<Self, NetError> {
        let (sender, commands) = mpsc::unbounded_channel();
        let protocols = Protocols {
            gossip: gossip::behaviour(key, &gossip)?,
            bitswap: bitswap::Behaviour::new(bitswap),
        };
        let handle = Handle {
            bitswap: protocols.bitswap.handle(),
            gossip,
            commands: sender,
            subscriptions: Arc::default(),
        };
        Ok(Self {
            protocols,
            topics: HashMap::new(),
            commands,
            handle,
        })
    }

    /// A handle that joins topics.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The gossipsub in it, for topics of the app's own, scores, or explicit peers.
    pub fn gossip_mut(&mut self) -> &mut gossipsub::Behaviour {
        &mut self.protocols.gossip
    }

    fn on_command(&mut self, command: TopicCommand) {
        match command {
            TopicCommand::Subscribe { topic, inbox } => self.subscribe(topic, inbox),
            TopicCommand::Unsubscribe { topic } => self.unsubscribe(&topic),
            TopicCommand::Publish {
                hash,
                payload,
                reply,
            } => {
                // Who asked may have gone meanwhile.
                drop(reply.send(self.publish(hash, payload)));
            }
        }
    }

    fn subscribe(&mut self, id: TopicId, inbox: Arc<Inbox>) {
        if let Err(error) = self.protocols.gossip.subscribe(&id.topic) {
            tracing::warn!(topic = %id.topic, %error, "could not subscribe");
        }
        let hash = id.topic.hash();
        let state = self.topics.entry(hash.clone()).or_default();
        state.subscribers = self
            .protocols
            .gossip
            .all_peers()
            .filter(|(_, topics)| topics.contains(&&hash))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &state.subscribers {
            inbox.joined(peer_name(peer));
            self.protocols.bitswap.keep_alive(*peer, true);
        }
        state.inboxes.insert(id.subscription, inbox);
    }

    fn unsubscribe(&mut self, id: &TopicId) {
        let hash = id.topic.hash();
        let Some(state) = self.topics.get_mut(&hash) else {
            return;
        };
        state.inboxes.remove(&id.subscription);
        if state.inboxes.is_empty() {
            let subscribers = std::mem::take(&mut state.subscribers);
            self.topics.remove(&hash);
            self.protocols.gossip.unsubscribe(&id.topic);
            for peer in subscribers {
                self.update_keep_alive(peer);
            }
        }
    }

    fn publish(&mut self, hash: TopicHash, payload: Bytes) -> Result<(), TransportError> {
        let size = payload.len();
        match self.protocols.gossip.publish(hash, payload) {
            Ok(_) | Err(PublishError::Duplicate) => Ok(()),
            Err(PublishError::NoPeersSubscribedToTopic) => Err(TransportError::NoPeers),
            Err(PublishError::MessageTooLarge) => Err(TransportError::TooLarge {
                size,
                limit: self.handle.gossip.max_message_bytes,
            }),
            Err(error) => Err(TransportError::Failed {
                reason: error.to_string(),
            }),
        }
    }

    /// A connection is worth keeping while its peer is on a topic of ours.
    fn update_keep_alive(&mut self, peer: PeerId) {
        let shared = self
            .topics
            .values()
            .any(|state| state.subscribers.contains(&peer));
        self.protocols.bitswap.keep_alive(peer, shared);
    }

    fn joined(&mut self, peer: PeerId, topic: &TopicHash) {
        let Some(state) = self.topics.get_mut(topic) else {
            return;
        };
        if state.subscribers.insert(peer) {
            for inbox in state.inboxes.values() {
                inbox.joined(peer_name(&peer));
            }
            self.update_keep_alive(peer);
        }
    }

    fn left(&mut self, peer: PeerId, topic: &TopicHash) {
        let Some(state) = self.topics.get_mut(topic) else {
            return;
        };
        if state.subscribers.remove(&peer) {
            for inbox in state.inboxes.values() {
                inbox.left(peer_name(&peer));
            }
            self.update_keep_alive(peer);
        }
    }

    fn disconnected(&mut self, peer: PeerId) {
        let topics: Vec<TopicHash> = self.topics.keys().cloned().collect();
        for topic in topics {
            self.left(peer, &topic);
        }
    }

    fn on_event(&mut self, event: &Event) {
        let Event::Gossip(event) = event else { return };
        match event.as_ref() {
            gossipsub::Event::Message {
                propagation_source,
                message,
                ..
            } => {
                let Some(state) = self.topics.get(&message.topic) else {
                    return;
                };
                let payload = Bytes::copy_from_slice(&message.data);
                for inbox in state.inboxes.values() {
                    inbox.payload(Some(peer_name(propagation_source)), payload.clone());
                }
            }
            gossipsub::Event::Subscribed { peer_id, topic, .. } => self.joined(*peer_id, topic),
            gossipsub::Event::Unsubscribed { peer_id, topic } => self.left(*peer_id, topic),
            _ => {}
        }
    }
}

impl Drop for Behaviour {
    fn drop(&mut self) {
        for state in self.topics.values() {
            for inbox in state.inboxes.values() {
                inbox.close();
            }
        }
        // A topic that was joined and not looked at yet.
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            if let TopicCommand::Subscribe { inbox, .. } = command {
                inbox.close();
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler =
        ConnectionHandlerSelect<THandler<gossipsub::Behaviour>, THandler<bitswap::Behaviour>>;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.protocols
            .handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.protocols
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.protocols
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.protocols
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.protocols.on_swarm_event(event);
        if let FromSwarm::ConnectionClosed(closed) = event
            && closed.remaining_established == 0
        {
            self.disconnected(closed.peer_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.protocols.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            self.on_command(command);
        }
        let polled = self.protocols.poll(cx);
        if let Poll::Ready(ToSwarm::GenerateEvent(event)) = &polled {
            self.on_event(event);
        }
        polled
    }
}
