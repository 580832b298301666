//! The network on real sockets: bitswap with peers of every kind, and nodes.
#![cfg(feature = "libp2p")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
// The modules of a test share their items; there is nobody else to reach.
#![allow(unreachable_pub)]

#[path = "net/bitswap.rs"]
mod bitswap;
#[path = "net/hostile.rs"]
mod hostile;
#[path = "net/node.rs"]
mod node;
#[path = "net/raw.rs"]
mod raw;
#[path = "net/replicas.rs"]
mod replicas;
#[path = "net/rig.rs"]
mod rig;
