//! The task that drives a node's swarm.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::options::NodeBuilder;
use super::swarm::{NodeBehaviour, NodeBehaviourEvent};
use crate::net::bitswap::Misbehaviour;
use crate::net::reconnect::{Reconnect, peer_of};
use crate::net::{Event, NetError};

/// Something that happened to a node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A peer is connected, by its first connection.
    Connected {
        /// The peer.
        peer: PeerId,
        /// Where it is, or appears to be.
        address: Multiaddr,
    },
    /// The last connection to a peer has closed.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// The node listens on a further address.
    Listening {
        /// The address.
        address: Multiaddr,
    },
    /// The node listens on an address no more.
    ListenerClosed {
        /// The address.
        address: Multiaddr,
    },
    /// A peer did what it should not have done. [`Node::deny`](super::Node::deny) may be an answer.
    Misbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        what: Arc<Misbehaviour>,
    },
}

/// What a node is asked to do.
pub(super) enum Command {
    Listening(oneshot::Sender<Vec<Multiaddr>>),
    Peers(oneshot::Sender<Vec<PeerId>>),
    Dial(Multiaddr, oneshot::Sender<Result<PeerId, NetError>>),
    Disconnect(PeerId, oneshot::Sender<Result<(), NetError>>),
    HangUp(oneshot::Sender<()>),
    Allow(PeerId, oneshot::Sender<()>),
    Deny(PeerId, oneshot::Sender<()>),
    Close,
}

type DialReply = oneshot::Sender<Result<PeerId, NetError>>;
type SwarmEventOf = SwarmEvent<NodeBehaviourEvent>;

pub(super) struct NodeTask {
    swarm: Swarm<NodeBehaviour>,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<NodeEvent>,
    reconnect: Reconnect,
    /// Dials under way that were asked for.
    dials: HashMap<ConnectionId, (Multiaddr, Option<DialReply>)>,
    /// Dials under way when the node hung up.
    abandoned: HashSet<ConnectionId>,
    /// Who waits until these peers are disconnected.
    hanging_up: Vec<(HashSet<PeerId>, oneshot::Sender<()>)>,
    /// Whether peers that turn up are connected to: not after hanging up.
    connects_found: bool,
    /// How many connections there may be before peers that turn up are left alone.
    #[cfg(any(feature = "libp2p-mdns", feature = "libp2p-kad"))]
    enough_connections: usize,
    #[cfg(feature = "libp2p-relay")]
    relay_server: bool,
}

impl NodeTask {
    pub(super) fn new(
        mut swarm: Swarm<NodeBehaviour>,
        options: &NodeBuilder,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<NodeEvent>,
    ) -> Self {
        for address in &options.external {
            swarm.add_external_address(address.clone());
        }
        let mut reconnect = Reconnect::new(options.reconnect.0, options.reconnect.1);
        for address in &options.dial {
            reconnect.name(address.clone(), Instant::now());
        }
        Self {
            swarm,
            commands,
            events,
            reconnect,
            dials: HashMap::new(),
            abandoned: HashSet::new(),
            hanging_up: Vec::new(),
            connects_found: true,
            #[cfg(any(feature = "libp2p-mdns", feature = "libp2p-kad"))]
            enough_connections: options.max_connections as usize / 2,
            #[cfg(feature = "libp2p-relay")]
            relay_server: options.relay_server,
        }
    }

    /// Listens, and waits until it does so on each address that needs no other peer for it.
    pub(super) async fn listen(&mut self, options: &NodeBuilder) -> Result<(), NetError> {
        let mut waiting: HashMap<ListenerId, Multiaddr> = HashMap::new();
        for address in &options.listen {
            let listener =
                self.swarm
                    .listen_on(address.clone())
                    .map_err(|error| NetError::Listen {
                        address: address.clone(),
                        reason: error.to_string(),
                    })?;
            if !address.iter().any(|part| part == Protocol::P2pCircuit) {
                waiting.insert(listener, address.clone());
            }
        }
        while !waiting.is_empty() {
            let event = self.swarm.select_next_some().await;
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waiting.remove(listener_id);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                } => {
                    if let Some(address) = waiting.remove(listener_id) {
                        let reason = closing_reason(reason);
                        return Err(NetError::Listen { address, reason });
                    }
                }
                _ => {}
            }
            self.on_event(event);
        }
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            while let Some(address) = self.reconnect.due(Instant::now()) {
                self.dial(address, None);
            }
            let next_due = self.reconnect.next_due();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(Command::Close) | None => return,
                    Some(command) => self.on_command(command),
                },
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Listening(reply) => answer(reply, self.listening()),
            Command::Peers(reply) => {
                answer(reply, self.swarm.connected_peers().copied().collect());
            }
            Command::Dial(address, reply) => {
                self.connects_found = true;
                self.dial(address, Some(reply));
            }
            Command::Disconnect(peer, reply) => {
                self.reconnect.forget(&peer);
                let closed = self.swarm.disconnect_peer_id(peer);
                answer(reply, closed.map_err(|()| NetError::NotConnected { peer }));
            }
            Command::HangUp(reply) => self.hang_up(reply),
            Command::Allow(peer, reply) => {
                let behaviour = self.swarm.behaviour_mut();
                if let Some(allowed) = behaviour.allowed.as_mut() {
                    allowed.allow_peer(peer);
                }
                behaviour.denied.unblock_peer(peer);
                answer(reply, ());
            }
            Command::Deny(peer, reply) => {
                self.reconnect.forget(&peer);
                let behaviour = self.swarm.behaviour_mut();
                if let Some(allowed) = behaviour.allowed.as_mut() {
                    allowed.disallow_peer(peer);
                }
                behaviour.denied.block_peer(peer);
                answer(reply, ());
            }
            Command::Close => {}
        }
    }

    fn listening(&self) -> Vec<Multiaddr> {
        let id = *self.swarm.local_peer_id();
        self.swarm
            .listeners()
            .map(|address| match peer_of(address) {
                Some(peer) if peer == id => address.clone(),
                _ => address.clone().with(Protocol::P2p(id)),
            })
            .collect()
    }

    fn dial(&mut self, address: Multiaddr, reply: Option<DialReply>) {
        let opts = match peer_of(&address) {
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![address.clone()])
                .condition(PeerCondition::Always)
                .build(),
            None => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let id = opts.connection_id();
        self.reconnect.dialling(&address, id);
        if let Some(peer) = peer_of(&address).filter(|peer| self.swarm.is_connected(peer)) {
            self.reconnect.connected(peer, id, Instant::now());
            if let Some(reply) = reply {
                answer(reply, Ok(peer));
            }
            return;
        }
        self.dials.insert(id, (address, reply));
        if let Err(error) = self.swarm.dial(opts) {
            self.dial_failed(id, &error.to_string());
        }
    }

    fn dial_failed(&mut self, id: ConnectionId, reason: &str) {
        self.abandoned.remove(&id);
        self.reconnect.failed(id, Instant::now(), rand::random());
        if let Some((address, reply)) = self.dials.remove(&id) {
            tracing::debug!(%address, reason, "could not connect");
            if let Some(reply) = reply {
                answer(
                    reply,
                    Err(NetError::Dial {
                        address,
                        reason: reason.to_owned(),
                    }),
                );
            }
        }
    }

    fn hang_up(&mut self, reply: oneshot::Sender<()>) {
        self.reconnect.clear();
        self.connects_found = false;
        self.abandoned.extend(self.dials.keys().copied());
        let peers: HashSet<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in &peers {
            // A dial of the table's own would connect it again.
            #[cfg(feature = "libp2p-kad")]
            if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                kad.remove_peer(peer);
            }
            // It errs only if it is not connected.
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        self.hanging_up.push((peers, reply));
        self.reply_to_hung_up(None);
    }

    fn reply_to_hung_up(&mut self, disconnected: Option<PeerId>) {
        for (mut peers, reply) in std::mem::take(&mut self.hanging_up) {
            if let Some(peer) = disconnected {
                peers.remove(&peer);
            }
            if peers.is_empty() {
                answer(reply, ());
            } else {
                self.hanging_up.push((peers, reply));
            }
        }
    }

    fn emit(&self, event: NodeEvent) {
        // It errs only if nobody listens.
        let _ = self.events.send(event);
    }

    fn on_event(&mut self, event: SwarmEventOf) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint,
                num_established,
                ..
            } => {
                if self.abandoned.remove(&connection_id) {
                    self.swarm.close_connection(connection_id);
                }
                self.reconnect
                    .connected(peer, connection_id, Instant::now());
                if let Some((_, Some(reply))) = self.dials.remove(&connection_id) {
                    answer(reply, Ok(peer));
                }
                if num_established.get() == 1 {
                    let address = endpoint.get_remote_address().clone();
                    self.emit(NodeEvent::Connected { peer, address });
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id: peer,
                num_established: 0,
                ..
            } => {
                self.reconnect
                    .disconnected(&peer, Instant::now(), rand::random());
                self.reply_to_hung_up(Some(peer));
                self.emit(NodeEvent::Disconnected { peer });
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                self.dial_failed(connection_id, &error.to_string());
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                #[cfg(feature = "libp2p-relay")]
                if self.relay_server {
                    // A reservation names the addresses at which the relay is reached.
                    self.swarm.add_external_address(address.clone());
                }
                self.emit(NodeEvent::Listening { address });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.emit(NodeEvent::ListenerClosed { address });
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                tracing::debug!(reason = closing_reason(&reason), "a listener has closed");
                for address in addresses {
                    self.emit(NodeEvent::ListenerClosed { address });
                }
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: NodeBehaviourEvent) {
        match event {
            NodeBehaviourEvent::Replicas(Event::Bitswap(event)) => {
                let what = Arc::new(event.misbehaviour);
                self.emit(NodeEvent::Misbehaved {
                    peer: event.peer,
                    what,
                });
            }
            #[cfg(feature = "libp2p-mdns")]
            NodeBehaviourEvent::Mdns(libp2p::mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.connect_found(peer, vec![address]);
                }
            }
            #[cfg(feature = "libp2p-kad")]
            NodeBehaviourEvent::Identify(libp2p::identify::Event::Received {
                peer_id,
                info,
                ..
            }) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    for address in info.listen_addrs {
                        kad.add_address(&peer_id, address);
                    }
                }
            }
            #[cfg(feature = "libp2p-kad")]
            NodeBehaviourEvent::Kad(libp2p::kad::Event::RoutingUpdated {
                peer,
                is_new_peer: true,
                addresses,
                ..
            }) => self.connect_found(peer, addresses.into_vec()),
            _ => {}
        }
    }

    /// Connects to a peer that turned up by itself. It is not named: it will turn up again.
    #[cfg(any(feature = "libp2p-mdns", feature = "libp2p-kad"))]
    fn connect_found(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let connected = self.swarm.network_info().num_peers();
        if self.connects_found && connected < self.enough_connections {
            let opts = DialOpts::peer_id(peer).addresses(addresses).build();
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(%peer, %error, "did not dial a peer that turned up");
            }
        }
    }
}

fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    // Who asked may have gone meanwhile.
    let _ = reply.send(answer);
}

fn closing_reason(reason: &Result<(), io::Error>) -> String {
    match reason {
        Ok(()) => "it was closed".to_owned(),
        Err(error) => error.to_string(),
    }
}
