//! Gossipsub as go-ds-crdt's networks use it, and a topic of it as a `Broadcaster`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p::gossipsub::{
    ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId, TopicHash, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::{PeerId, gossipsub};
use tokio::sync::{mpsc, oneshot};

use super::NetError;
use super::inbox::Inbox;
use crate::sync::{BroadcastEvent, Broadcaster, TransportError};

/// How announcements are sent.
#[derive(Debug, Clone)]
pub struct GossipConfig {
    /// The most bytes of a gossipsub message, with its signature and topic: 64 KiB. Peers drop
    /// larger ones than they take themselves, so this is one of the things that a network agrees on.
    pub max_message_bytes: usize,
    /// How often the mesh is mended: 1 second.
    pub heartbeat: Duration,
    /// Payloads of a topic that its store has not taken yet: 256. One more drops the oldest.
    pub queue: usize,
    /// Messages that wait to be sent to a peer: 256. More are dropped.
    pub peer_queue: usize,
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 << 10,
            heartbeat: Duration::from_secs(1),
            queue: 256,
            peer_queue: 256,
        }
    }
}

/// Bytes of a message beside its payload and topic: source, sequence number, framing, and signature
/// and key of the largest kind, RSA with 4,096 bits.
const MESSAGE_OVERHEAD: usize = 1280;

/// The id that go-libp2p gives a message: its author and the author's sequence number.
fn message_id(message: &Message) -> MessageId {
    let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
    id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(id)
}

pub(super) fn behaviour(
    key: &Keypair,
    config: &GossipConfig,
) -> Result<gossipsub::Behaviour, NetError> {
    let gossip = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .message_id_fn(message_id)
        .max_transmit_size(config.max_message_bytes)
        .heartbeat_interval(config.heartbeat)
        .heartbeat_initial_delay(config.heartbeat / 10)
        // To every subscriber that we are connected to, so that a message reaches one that has just
        // subscribed, whether or not the mesh has taken it in.
        .flood_publish(true)
        .connection_handler_queue_len(config.peer_queue)
        .build()
        .map_err(|error| NetError::Config {
            reason: error.to_string(),
        })?;
    gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), gossip).map_err(|reason| {
        NetError::Config {
            reason: reason.to_owned(),
        }
    })
}

/// What a topic asks of the behaviour.
pub(super) enum TopicCommand {
    Subscribe {
        topic: TopicId,
        inbox: Arc<Inbox>,
    },
    Unsubscribe {
        topic: TopicId,
    },
    Publish {
        hash: TopicHash,
        payload: Bytes,
        reply: oneshot::Sender<Result<(), TransportError>>,
    },
}

/// Names a subscription: a topic, and which of the handles to it.
#[derive(Debug, Clone)]
pub(super) struct TopicId {
    pub(super) topic: IdentTopic,
    pub(super) subscription: u64,
}

/// A topic, as a [`Broadcaster`]. It is left when the handle is dropped.
pub(super) struct Topic {
    id: TopicId,
    hash: TopicHash,
    inbox: Arc<Inbox>,
    /// Has at most one command a caller in it, and two of this handle.
    commands: mpsc::UnboundedSender<TopicCommand>,
    max_payload: usize,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.hash)
    }
}

impl Topic {
    pub(super) fn subscribe(
        name: &str,
        subscription: u64,
        config: &GossipConfig,
        commands: mpsc::UnboundedSender<TopicCommand>,
    ) -> Self {
        let id = TopicId {
            topic: IdentTopic::new(name),
            subscription,
        };
        let inbox = Arc::new(Inbox::new(config.queue));
        let command = TopicCommand::Subscribe {
            topic: id.clone(),
            inbox: inbox.clone(),
        };
        if commands.send(command).is_err() {
            inbox.close();
        }
        Self {
            hash: id.topic.hash(),
            id,
            inbox,
            commands,
            max_payload: config
                .max_message_bytes
                .saturating_sub(MESSAGE_OVERHEAD + name.len()),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let _ = self.commands.send(TopicCommand::Unsubscribe {
            topic: self.id.clone(),
        });
    }
}

#[async_trait]
impl Broadcaster for Topic {
    async fn broadcast(&self, payload: Bytes) -> Result<(), TransportError> {
        if payload.len() > self.max_payload {
            return Err(TransportError::TooLarge {
                size: payload.len(),
                limit: self.max_payload,
            });
        }
        let (reply, result) = oneshot::channel();
        let command = TopicCommand::Publish {
            hash: self.hash.clone(),
            payload,
            reply,
        };
        self.commands
            .send(command)
            .map_err(|_| TransportError::Closed)?;
        result.await.unwrap_or(Err(TransportError::Closed))
    }

    async fn next(&self) -> Option<BroadcastEvent> {
        self.inbox.next().await
    }

    fn max_payload_bytes(&self) -> usize {
        self.max_payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_author_and_sequence_number_as_in_go() {
        let source = PeerId::random();
        let message = Message {
            source: Some(source),
            data: b"x".to_vec(),
            sequence_number: Some(0x0102),
            topic: IdentTopic::new("t").hash(),
        };
        let mut expected = source.to_bytes();
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(message_id(&message).0, expected);
    }
}
