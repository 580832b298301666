use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::pnet::PreSharedKey;
use libp2p::{Multiaddr, PeerId};

use super::Node;
use crate::net::bitswap::Limits;
use crate::net::{GossipConfig, NetError};

/// How a [`Node`] is set up; from [`Node::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct NodeBuilder {
    pub(super) key: Option<Keypair>,
    pub(super) listen: Vec<Multiaddr>,
    pub(super) dial: Vec<Multiaddr>,
    pub(super) external: Vec<Multiaddr>,
    pub(super) psk: Option<PreSharedKey>,
    pub(super) gossip: GossipConfig,
    pub(super) bitswap: Limits,
    pub(super) allow: Option<Vec<PeerId>>,
    pub(super) deny: Vec<PeerId>,
    pub(super) max_connections: u32,
    pub(super) max_connections_per_peer: u32,
    pub(super) max_streams_per_connection: usize,
    pub(super) idle_timeout: Duration,
    pub(super) reconnect: (Duration, Duration),
    #[cfg(feature = "libp2p-mdns")]
    pub(super) mdns: bool,
    #[cfg(feature = "libp2p-kad")]
    pub(super) kad: Option<Vec<Multiaddr>>,
    #[cfg(feature = "libp2p-relay")]
    pub(super) relay_server: bool,
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            key: None,
            listen: Vec::new(),
            dial: Vec::new(),
            external: Vec::new(),
            psk: None,
            gossip: GossipConfig::default(),
            bitswap: Limits::default(),
            allow: None,
            deny: Vec::new(),
            max_connections: 256,
            max_connections_per_peer: 4,
            max_streams_per_connection: 512,
            idle_timeout: Duration::from_secs(60),
            reconnect: (Duration::from_secs(1), Duration::from_secs(60)),
            #[cfg(feature = "libp2p-mdns")]
            mdns: false,
            #[cfg(feature = "libp2p-kad")]
            kad: None,
            #[cfg(feature = "libp2p-relay")]
            relay_server: false,
        }
    }
}

impl NodeBuilder {
    /// Who the node is; see [`identity_file`](crate::net::identity_file). Without it, somebody new.
    pub fn identity(mut self, key: Keypair) -> Self {
        self.key = Some(key);
        self
    }

    /// An address to listen on: `/ip4/0.0.0.0/tcp/4001`, with port 0 for any that is free;
    /// `/ip4/0.0.0.0/udp/4001/quic-v1` with feature `libp2p-quic`;
    /// `/ip4/…/tcp/…/p2p/RELAY/p2p-circuit` to be reached through a relay, with `libp2p-relay`.
    /// Without any, the node dials only.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// A peer to be connected to, from the start and again whenever the connection is lost.
    pub fn dial(mut self, address: Multiaddr) -> Self {
        self.dial.push(address);
        self
    }

    /// An address under which others reach this node, though it does not listen on it itself: it is
    /// behind a port forwarding.
    pub fn external_address(mut self, address: Multiaddr) -> Self {
        self.external.push(address);
        self
    }

    /// Makes the network private: peers without this key are not spoken to, nor understood; see
    /// [`psk_file`](crate::net::psk_file). QUIC, which cannot be made so, is off then.
    pub fn private_network(mut self, key: PreSharedKey) -> Self {
        self.psk = Some(key);
        self
    }

    /// How announcements are sent.
    pub fn gossip(mut self, config: GossipConfig) -> Self {
        self.gossip = config;
        self
    }

    /// The bounds of bitswap.
    pub fn bitswap(mut self, limits: Limits) -> Self {
        self.bitswap = limits;
        self
    }

    /// Connects to these peers only. More can be allowed later. By default everybody may connect.
    pub fn allow_only(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.allow.get_or_insert_default().extend(peers);
        self
    }

    /// Does not connect to these peers.
    pub fn deny(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.deny.extend(peers);
        self
    }

    /// The most connections, in all and with one peer: 256 and 4.
    pub fn max_connections(mut self, total: u32, per_peer: u32) -> Self {
        self.max_connections = total;
        self.max_connections_per_peer = per_peer;
        self
    }

    /// The most streams of a connection, of all protocols: 512.
    pub fn max_streams_per_connection(mut self, streams: usize) -> Self {
        self.max_streams_per_connection = streams;
        self
    }

    /// How long a connection is kept that is of no use: 60 seconds. One to a peer that is on a topic
    /// of ours is always of use.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// The first and the longest wait before a named peer is dialled again: 1 second and 60. It
    /// doubles from one to the other.
    pub fn reconnect(mut self, first: Duration, longest: Duration) -> Self {
        self.reconnect = (first, longest);
        self
    }

    /// Finds peers in the local network by multicast DNS, and connects to them.
    #[cfg(feature = "libp2p-mdns")]
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// Finds peers through a Kademlia table of the nodes of this network
    /// (`/crdt-ds/kad/1.0.0`), beginning with these, whose addresses end in `/p2p/…`; and connects
    /// to those found while fewer than half of the connections are in use.
    #[cfg(feature = "libp2p-kad")]
    pub fn kademlia(mut self, bootstrap: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.kad.get_or_insert_default().extend(bootstrap);
        self
    }

    /// Lets peers that cannot be reached listen through this node, which can.
    #[cfg(feature = "libp2p-relay")]
    pub fn relay_server(mut self, on: bool) -> Self {
        self.relay_server = on;
        self
    }

    /// Starts the node, in a task of its own, and waits until it listens.
    ///
    /// # Errors
    /// [`NetError::Config`], or [`NetError::Listen`] if it cannot listen on one of the addresses.
    pub async fn start(self) -> Result<Node, NetError> {
        Node::start(self).await
    }
}
