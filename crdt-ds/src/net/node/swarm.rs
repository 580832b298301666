//! The swarm of a node: its transports, and the protocols beside ours.

use std::time::Duration;

use libp2p::allow_block_list::{self, AllowedPeers, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, Swarm, Transport, identify, noise, ping, swarm, tcp, yamux};

use super::options::NodeBuilder;
use crate::net::{Behaviour, NetError};

/// How long a connection may take to be set up.
const HANDSHAKE: Duration = Duration::from_secs(20);

#[derive(NetworkBehaviour)]
pub(super) struct NodeBehaviour {
    // The gates come first: what they refuse, the others do not hear of.
    limits: connection_limits::Behaviour,
    pub(super) allowed: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    pub(super) denied: allow_block_list::Behaviour<BlockedPeers>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) replicas: Behaviour,
    #[cfg(feature = "libp2p-mdns")]
    mdns: Toggle<libp2p::mdns::tokio::Behaviour>,
    #[cfg(feature = "libp2p-kad")]
    pub(super) kad: Toggle<libp2p::kad::Behaviour<libp2p::kad::store::MemoryStore>>,
    #[cfg(feature = "libp2p-relay")]
    relay_server: Toggle<libp2p::relay::Behaviour>,
    #[cfg(feature = "libp2p-relay")]
    relay_client: libp2p::relay::client::Behaviour,
    #[cfg(feature = "libp2p-relay")]
    dcutr: libp2p::dcutr::Behaviour,
}

fn config_error(reason: impl ToString) -> NetError {
    NetError::Config {
        reason: reason.to_string(),
    }
}

pub(super) fn build(
    key: &Keypair,
    options: &NodeBuilder,
) -> Result<Swarm<NodeBehaviour>, NetError> {
    let id = key.public().to_peer_id();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    #[cfg(feature = "libp2p-dns")]
    let tcp = libp2p::dns::tokio::Transport::system(tcp).map_err(config_error)?;
    #[cfg(feature = "libp2p-relay")]
    let (tcp, relay_client) = {
        let (relayed, behaviour) = libp2p::relay::client::new(id);
        (relayed.or_transport(tcp), behaviour)
    };
    let transport = match options.psk {
        None => secure(tcp, key, options)?,
        Some(psk) => secure(
            tcp.and_then(move |socket, _| shared_key(psk, socket)),
            key,
            options,
        )?,
    };
    #[cfg(feature = "libp2p-quic")]
    let transport = match options.psk {
        None => with_quic(transport, key),
        Some(_) => transport,
    };
    let behaviour = NodeBehaviour {
        limits: connection_limits::Behaviour::new(
            ConnectionLimits::default()
                .with_max_pending_incoming(Some(options.max_connections.div_ceil(4)))
                .with_max_pending_outgoing(Some(options.max_connections.div_ceil(4)))
                .with_max_established(Some(options.max_connections))
                .with_max_established_per_peer(Some(options.max_connections_per_peer)),
        ),
        allowed: options.allow.as_ref().map(|peers| allowing(peers)).into(),
        denied: denying(&options.deny),
        identify: identify::Behaviour::new(
            identify::Config::new("ipfs/0.1.0".to_owned(), key.public())
                .with_agent_version(format!("crdt-ds/{}", env!("CARGO_PKG_VERSION"))),
        ),
        ping: ping::Behaviour::default(),
        replicas: Behaviour::new(key, options.gossip.clone(), options.bitswap.clone())?,
        #[cfg(feature = "libp2p-mdns")]
        mdns: options.mdns.then(|| mdns(id)).transpose()?.into(),
        #[cfg(feature = "libp2p-kad")]
        kad: options
            .kad
            .as_ref()
            .map(|bootstrap| kademlia(id, bootstrap))
            .transpose()?
            .into(),
        #[cfg(feature = "libp2p-relay")]
        relay_server: options
            .relay_server
            .then(|| libp2p::relay::Behaviour::new(id, relay_limits()))
            .into(),
        #[cfg(feature = "libp2p-relay")]
        relay_client,
        #[cfg(feature = "libp2p-relay")]
        dcutr: libp2p::dcutr::Behaviour::new(id),
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(options.idle_timeout)
        .with_max_negotiating_inbound_streams(options.max_streams_per_connection.div_ceil(4));
    Ok(Swarm::new(transport, behaviour, id, config))
}

/// A connection that can be encrypted.
trait Socket: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static {}

impl<S: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static> Socket for S {}

async fn shared_key<S: Socket>(
    psk: PreSharedKey,
    socket: S,
) -> Result<libp2p::pnet::PnetOutput<S>, libp2p::pnet::PnetError> {
    PnetConfig::new(psk).handshake(socket).await
}

/// Noise and yamux over a transport of plain connections.
fn secure<T>(
    transport: T,
    key: &Keypair,
    options: &NodeBuilder,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError>
where
    T: Transport<Output: Socket, Error: Send + Sync, Dial: Send, ListenerUpgrade: Send>
        + Send
        + Unpin
        + 'static,
{
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(options.max_streams_per_connection);
    Ok(transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(config_error)?)
        .multiplex(muxer)
        .timeout(HANDSHAKE)
        .boxed())
}

#[cfg(feature = "libp2p-quic")]
fn with_quic(
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    key: &Keypair,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    use futures::future::Either;

    let quic = libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(key));
    transport
        .or_transport(quic)
        .map(|either, _| match either {
            Either::Left((peer, muxer)) => (peer, muxer),
            Either::Right((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
        })
        .boxed()
}

fn allowing(peers: &[PeerId]) -> allow_block_list::Behaviour<AllowedPeers> {
    let mut behaviour = allow_block_list::Behaviour::default();
    for peer in peers {
        behaviour.allow_peer(*peer);
    }
    behaviour
}

fn denying(peers: &[PeerId]) -> allow_block_list::Behaviour<BlockedPeers> {
    let mut behaviour = allow_block_list::Behaviour::default();
    for peer in peers {
        behaviour.block_peer(*peer);
    }
    behaviour
}

#[cfg(feature = "libp2p-mdns")]
fn mdns(id: PeerId) -> Result<libp2p::mdns::tokio::Behaviour, NetError> {
    libp2p::mdns::tokio::Behaviour::new(libp2p::mdns::Config::default(), id).map_err(config_error)
}

#[cfg(feature = "libp2p-kad")]
fn kademlia(
    id: PeerId,
    bootstrap: &[libp2p::Multiaddr],
) -> Result<libp2p::kad::Behaviour<libp2p::kad::store::MemoryStore>, NetError> {
    use libp2p::StreamProtocol;
    use libp2p::kad;

    let config = kad::Config::new(StreamProtocol::new("/crdt-ds/kad/1.0.0"));
    let mut table = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
    // Every node answers: the network is its members.
    table.set_mode(Some(kad::Mode::Server));
    for address in bootstrap {
        let peer = crate::net::reconnect::peer_of(address).ok_or_else(|| {
            config_error(format!(
                "the bootstrap address {address} does not end in /p2p/…"
            ))
        })?;
        table.add_address(&peer, address.clone());
    }
    if !bootstrap.is_empty() {
        // It errs only where no peer is known.
        let _ = table.bootstrap();
    }
    Ok(table)
}

/// Circuits that carry a replica's traffic, not only the talk before a hole is punched.
#[cfg(feature = "libp2p-relay")]
fn relay_limits() -> libp2p::relay::Config {
    libp2p::relay::Config {
        max_circuit_duration: Duration::from_secs(3600),
        max_circuit_bytes: 1 << 30,
        ..Default::default()
    }
}
