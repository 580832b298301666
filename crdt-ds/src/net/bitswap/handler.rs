//! The connection handler: it opens streams and hands on those that were opened. What goes through
//! them is for the tasks of [`peer`](super::peer).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use futures::future::{Ready, ready};
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
};
use libp2p::{Stream, StreamProtocol};
use tokio::sync::oneshot;

use super::message::{PROTOCOLS, Version};

/// A stream, and what is spoken on it.
#[derive(Debug)]
pub struct Opened {
    pub(super) stream: Stream,
    pub(super) version: Version,
}

/// Why a stream could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The peer speaks no bitswap.
    Unsupported,
    /// Another reason, which may pass.
    Failed,
}

/// What the behaviour tells a handler.
pub struct Command(pub(super) Order);

pub(super) enum Order {
    /// Open a stream.
    Open(oneshot::Sender<Result<Opened, OpenError>>),
    /// Whether the connection is of use even when nothing is sent.
    KeepAlive(bool),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Order::Open(_) => f.write_str("Open"),
            Order::KeepAlive(keep) => write!(f, "KeepAlive({keep})"),
        }
    }
}

/// All protocols of bitswap.
#[derive(Debug, Clone, Copy)]
pub struct Bitswap;

impl UpgradeInfo for Bitswap {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, 4>;

    fn protocol_info(&self) -> Self::InfoIter {
        PROTOCOLS.map(|(protocol, _)| protocol).into_iter()
    }
}

fn opened(stream: Stream, protocol: &StreamProtocol) -> Ready<Result<Opened, Infallible>> {
    let known = PROTOCOLS.into_iter().find(|(known, _)| known == protocol);
    ready(Ok(Opened {
        stream,
        version: known.map_or(Version::V1_0, |(_, version)| version),
    }))
}

impl InboundUpgrade<Stream> for Bitswap {
    type Output = Opened;
    type Error = Infallible;
    type Future = Ready<Result<Opened, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        opened(stream, &protocol)
    }
}

impl OutboundUpgrade<Stream> for Bitswap {
    type Output = Opened;
    type Error = Infallible;
    type Future = Ready<Result<Opened, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        opened(stream, &protocol)
    }
}

/// A handler of one connection.
#[derive(Debug)]
pub struct Handler {
    keep_alive: bool,
    to_open: VecDeque<oneshot::Sender<Result<Opened, OpenError>>>,
    inbound: VecDeque<Opened>,
}

/// Streams that are handed on at a time; one more is dropped.
const MAX_INBOUND: usize = 64;

impl Handler {
    pub(super) fn new(keep_alive: bool) -> Self {
        Self {
            keep_alive,
            to_open: VecDeque::new(),
            inbound: VecDeque::new(),
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Opened;
    type InboundProtocol = Bitswap;
    type OutboundProtocol = Bitswap;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Result<Opened, OpenError>>;

    fn listen_protocol(&self) -> SubstreamProtocol<Bitswap> {
        SubstreamProtocol::new(Bitswap, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.keep_alive
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Bitswap, Self::OutboundOpenInfo, Opened>> {
        if let Some(stream) = self.inbound.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream));
        }
        if let Some(reply) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(Bitswap, reply);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, command: Command) {
        match command.0 {
            Order::Open(reply) => self.to_open.push_back(reply),
            Order::KeepAlive(keep) => self.keep_alive = keep,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Bitswap, Bitswap, (), Self::OutboundOpenInfo>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut opened,
                ..
            }) => {
                // A peer that leaves streams open shall not hold its connection open with them.
                opened.stream.ignore_for_keep_alive();
                if self.inbound.len() < MAX_INBOUND {
                    self.inbound.push_back(opened);
                }
            }
            // Who asked may have gone meanwhile.
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: opened,
                info: reply,
            }) => drop(reply.send(Ok(opened))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    _ => OpenError::Failed,
                };
                drop(reply.send(Err(error)));
            }
            _ => {}
        }
    }
}
