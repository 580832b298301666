//! A peer that speaks bitswap as its test wants it to: it gets and gives bare streams.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use futures::future::{Ready, ready};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, upgrade::Version};
use libp2p::identity::Keypair;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, SubstreamProtocol, SwarmEvent, ToSwarm,
};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, Transport, noise, swarm, tcp, yamux,
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::rig::patiently;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(message, optional, tag = "1")]
    pub wantlist: Option<Wantlist>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub blocks: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub payload: Vec<Payload>,
    #[prost(message, repeated, tag = "4")]
    pub presences: Vec<Presence>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Wantlist {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    #[prost(bool, tag = "2")]
    pub full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    pub block: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub cancel: bool,
    #[prost(int32, tag = "4")]
    pub want_type: i32,
    #[prost(bool, tag = "5")]
    pub send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    pub prefix: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Presence {
    #[prost(bytes = "vec", tag = "1")]
    pub cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    pub kind: i32,
}

impl Message {
    pub fn wants(entries: Vec<Entry>) -> Self {
        Self {
            wantlist: Some(Wantlist {
                entries,
                full: false,
            }),
            ..Self::default()
        }
    }

    /// The bytes of DAG-CBOR blocks.
    pub fn blocks(data: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let payload = data.into_iter().map(|data| Payload {
            prefix: vec![1, 0x71, 0x12, 32],
            data,
        });
        Self {
            payload: payload.collect(),
            ..Self::default()
        }
    }

    /// The CIDs that it wants.
    pub fn wanted(&self) -> Vec<Vec<u8>> {
        let entries = self.wantlist.iter().flat_map(|list| &list.entries);
        entries
            .filter(|entry| !entry.cancel)
            .map(|entry| entry.block.clone())
            .collect()
    }
}

/// A peer of the rig's. It runs until it is dropped.
pub struct RawPeer {
    open: mpsc::UnboundedSender<(PeerId, oneshot::Sender<Stream>)>,
    inbound: mpsc::UnboundedReceiver<Stream>,
    pub id: PeerId,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawPeer {
    /// A peer that speaks these protocols, connected to `to`.
    pub async fn connect(to: &Multiaddr, protocols: &'static [&'static str]) -> Self {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let (open, opens) = mpsc::unbounded_channel();
        let (streams, inbound) = mpsc::unbounded_channel();
        let behaviour = Behaviour {
            protocols,
            opens,
            streams,
        };
        let config =
            swarm::Config::with_tokio_executor().with_idle_connection_timeout(super::rig::PATIENCE);
        let mut swarm = Swarm::new(transport, behaviour, id, config);
        swarm.dial(to.clone()).unwrap();
        patiently(async {
            while !matches!(
                swarm.select_next_some().await,
                SwarmEvent::ConnectionEstablished { .. }
            ) {}
        })
        .await;
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self {
            open,
            inbound,
            id,
            task,
        }
    }

    pub async fn open(&self, to: PeerId) -> Stream {
        self.try_open(to).await.expect("no stream")
    }

    pub async fn try_open(&self, to: PeerId) -> Option<Stream> {
        let (reply, stream) = oneshot::channel();
        self.open.send((to, reply)).unwrap();
        patiently(stream).await.ok()
    }

    /// The next stream that the other side opens.
    pub async fn accept(&mut self) -> Stream {
        patiently(self.inbound.recv()).await.unwrap()
    }
}

/// Sends a message; whether the stream took it.
pub async fn send(stream: &mut Stream, message: &Message) -> bool {
    send_bytes(stream, &message.encode_length_delimited_to_vec()).await
}

pub async fn send_bytes(stream: &mut Stream, bytes: &[u8]) -> bool {
    patiently(async { stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() }).await
}

/// The next message, and its size; `None` if the stream has ended.
pub async fn receive(stream: &mut Stream) -> Option<(Message, usize)> {
    patiently(async {
        let mut prefix = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).await.ok()?;
            prefix.push(byte[0]);
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let len = prost::decode_length_delimiter(&prefix[..]).unwrap();
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.ok()?;
        Some((Message::decode(&body[..]).unwrap(), len))
    })
    .await
}

/// Whether the other side closes a stream on which it has nothing to say.
pub async fn is_closed_by_peer(stream: &mut Stream) -> bool {
    patiently(async { !matches!(stream.read(&mut [0]).await, Ok(1..)) }).await
}

struct Behaviour {
    protocols: &'static [&'static str],
    opens: mpsc::UnboundedReceiver<(PeerId, oneshot::Sender<Stream>)>,
    streams: mpsc::UnboundedSender<Stream>,
}

#[derive(Clone)]
struct Protocols(&'static [&'static str]);

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Vec<StreamProtocol> {
        self.0
            .iter()
            .map(|name| StreamProtocol::new(name))
            .collect()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

struct Open(oneshot::Sender<Stream>);

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Open")
    }
}

struct Handler {
    protocols: Protocols,
    opens: VecDeque<Open>,
    streams: mpsc::UnboundedSender<Stream>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(self.protocols.clone(), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Open, Infallible>> {
        match self.opens.pop_front() {
            Some(open) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(self.protocols.clone(), open),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opens.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), Open>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                let _ = self.streams.send(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                let _ = info.0.send(protocol);
            }
            _ => {}
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        unreachable!("it does not listen")
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let (protocols, streams) = (Protocols(self.protocols), self.streams.clone());
        Ok(Handler {
            protocols,
            opens: VecDeque::new(),
            streams,
        })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Open>> {
        match self.opens.poll_recv(cx) {
            Poll::Ready(Some((peer_id, reply))) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::Any,
                event: Open(reply),
            }),
            _ => Poll::Pending,
        }
    }
}
