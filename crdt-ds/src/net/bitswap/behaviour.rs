use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::exchange::{Exchange, Handle, Link};
use super::frame::FrameError;
use super::handler::{Command, Handler, Opened, Order};
use super::limits::Limits;
use super::peer::{self, OpenRequest};

/// Something about a peer that its owner may want to act on, with
/// [`block_peer`](libp2p::allow_block_list::Behaviour::block_peer) for one.
#[derive(Debug)]
pub struct Event {
    /// The peer.
    pub peer: PeerId,
    /// What it did.
    pub misbehaviour: Misbehaviour,
}

/// What a peer did that it should not have done. None of it has an effect beyond this event.
#[derive(Debug)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It sent so many blocks in a message that nobody wanted. Some are to be expected: of a block
    /// that was asked for twice, or not any more.
    UnwantedBlocks(u64),
    /// It sent something that is no message, or too large a one, or did not end it in time. Its
    /// stream was closed.
    BadMessage(FrameError),
    /// It opened more streams than it may. The last was closed.
    TooManyStreams,
}

/// Bitswap, to be composed into a swarm.
///
/// It spawns tasks, so its swarm has to be polled within a tokio runtime. They end when it is
/// dropped, and the fetches of its handles with them.
pub struct Behaviour {
    exchange: Arc<Exchange>,
    peers: HashMap<PeerId, PeerTasks>,
    kept_alive: HashSet<PeerId>,
    commands: VecDeque<(PeerId, NotifyHandler, Command)>,
    open_requests: mpsc::UnboundedReceiver<OpenRequest>,
    /// Has at most one request a peer in it.
    open_requester: mpsc::UnboundedSender<OpenRequest>,
    events: mpsc::Receiver<Event>,
    event_sender: mpsc::Sender<Event>,
}

/// What runs for a connected peer, and ends with its last connection.
struct PeerTasks {
    link: Arc<Link>,
    connections: Vec<ConnectionId>,
    sender: JoinSet<()>,
    receivers: JoinSet<()>,
}

/// Events that wait for the swarm; one more is dropped.
const MAX_EVENTS: usize = 64;

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("bitswap::Behaviour")
            .field("peers", &self.peers.len())
            .finish()
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Behaviour {
    /// Bitswap within these limits.
    pub fn new(limits: Limits) -> Self {
        let (open_requester, open_requests) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::channel(MAX_EVENTS);
        Self {
            exchange: Exchange::new(limits),
            peers: HashMap::new(),
            kept_alive: HashSet::new(),
            commands: VecDeque::new(),
            open_requests,
            open_requester,
            events,
            event_sender,
        }
    }

    /// A new handle: one a store.
    pub fn handle(&self) -> Handle {
        Handle::new(self.exchange.clone())
    }

    /// Whether connections to a peer are kept although nothing is exchanged. They are not, at first.
    pub fn keep_alive(&mut self, peer: PeerId, keep: bool) {
        let changed = if keep {
            self.kept_alive.insert(peer)
        } else {
            self.kept_alive.remove(&peer)
        };
        if let Some(tasks) = self.peers.get(&peer).filter(|_| changed) {
            for connection in &tasks.connections {
                let handler = NotifyHandler::One(*connection);
                self.commands
                    .push_back((peer, handler, Command(Order::KeepAlive(keep))));
            }
        }
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let tasks = self.peers.entry(peer).or_insert_with(|| PeerTasks {
            link: self.exchange.connect(peer),
            connections: Vec::new(),
            sender: JoinSet::new(),
            receivers: JoinSet::new(),
        });
        tasks.connections.push(connection);
        self.ensure_sender(peer);
    }

    fn ensure_sender(&mut self, peer: PeerId) {
        let Some(tasks) = self.peers.get_mut(&peer) else {
            return;
        };
        while tasks.sender.try_join_next().is_some() {}
        if tasks.sender.is_empty() {
            self.exchange.join(&tasks.link);
            tasks.sender.spawn(peer::send(
                self.exchange.clone(),
                tasks.link.clone(),
                self.open_requester.clone(),
            ));
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(tasks) = self.peers.get_mut(&peer) else {
            return;
        };
        tasks.connections.retain(|c| *c != connection);
        if tasks.connections.is_empty() {
            self.peers.remove(&peer);
            self.exchange.disconnect(&peer);
        }
    }
}

impl Drop for Behaviour {
    fn drop(&mut self) {
        self.exchange.client().close();
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.kept_alive.contains(&peer)))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.kept_alive.contains(&peer)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.connected(event.peer_id, event.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                self.disconnected(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, opened: Opened) {
        // It speaks bitswap after all, if it was thought not to.
        self.ensure_sender(peer);
        let Some(tasks) = self.peers.get_mut(&peer) else {
            return;
        };
        while tasks.receivers.try_join_next().is_some() {}
        if tasks.receivers.len() >= self.exchange.limits.max_streams_per_peer {
            let _ = self.event_sender.try_send(Event {
                peer,
                misbehaviour: Misbehaviour::TooManyStreams,
            });
            return;
        }
        tasks.receivers.spawn(peer::receive(
            self.exchange.clone(),
            tasks.link.clone(),
            opened.stream,
            self.event_sender.clone(),
        ));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, Command>> {
        if let Some((peer_id, handler, event)) = self.commands.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler,
                event,
            });
        }
        if let Poll::Ready(Some(OpenRequest { peer, reply })) = self.open_requests.poll_recv(cx) {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id: peer,
                handler: NotifyHandler::Any,
                event: Command(Order::Open(reply)),
            });
        }
        if let Poll::Ready(Some(event)) = self.events.poll_recv(cx) {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        Poll::Pending
    }
}
