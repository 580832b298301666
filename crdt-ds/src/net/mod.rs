//! The transport over libp2p: announcements by gossipsub, blocks by bitswap, as go-ds-crdt's.
//! Feature `libp2p`.
//!
//! A program without a swarm of its own starts a [`Node`]; one that has a swarm composes
//! [`Behaviour`] into it. Either makes a [`Transport`](crate::sync::Transport) for each store.
//!
//! # What is bounded
//! A node has at most 256 connections, 4 a peer ([`NodeBuilder::max_connections`]). What a peer costs
//! by bitswap is in [`bitswap`]; by gossipsub at most 256 messages of 64 KiB that wait to be sent
//! ([`GossipConfig`]), and a topic at most as many that its store has not taken.

pub mod bitswap;

mod behaviour;
mod error;
mod gossip;
mod identity;
mod inbox;
mod node;
mod peer_name;
mod reconnect;

pub use self::behaviour::{Behaviour, Event, Handle};
pub use self::error::NetError;
pub use self::gossip::GossipConfig;
pub use self::identity::{identity_file, psk_file};
pub use self::node::{Node, NodeBuilder, NodeEvent};
pub use self::peer_name::{peer_id, peer_name};
