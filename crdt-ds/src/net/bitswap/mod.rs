//! Bitswap: blocks by their CID, as go-ds-crdt, js-ds-crdt and IPFS exchange them.
//!
//! [`Behaviour`] serves the blocks of the stores that are on this node, and no others, to whoever
//! names their CIDs; it has no message that lists them. [`Handle`] fetches blocks, and is the
//! [`BlockFetcher`](crate::sync::BlockFetcher) of a transport. It speaks `/ipfs/bitswap/1.2.0`,
//! `1.1.0`, `1.0.0` and `/ipfs/bitswap`.
//!
//! # What a peer can cost
//! Everything that a peer can make us hold is bounded by [`Limits`]. With the defaults a peer costs
//! at most 4 MiB of messages being read, 2 MiB of read buffers, 4.3 MiB of a reply being sent (only
//! where a block of 4 MiB is served; 0.6 MiB else), and 0.5 MiB of wants. The number of peers is
//! bounded by the swarm. A fetch holds at most 16 MiB of blocks that its caller has not taken yet,
//! and one block more.
//!
//! Store reads, hashing and decoding run in tasks of their own, one for sending and one a stream for
//! receiving, never in the swarm's. The behaviour owns them: they end with it.

mod behaviour;
mod client;
mod exchange;
mod fetch;
mod frame;
mod handler;
mod ledger;
mod limits;
mod message;
mod peer;
mod wantlist;
mod wire;

pub use self::behaviour::{Behaviour, Event, Misbehaviour};
pub use self::exchange::{Handle, PeerTraffic};
pub use self::frame::FrameError;
pub use self::limits::Limits;
pub use self::message::Version;
pub use self::wire::WireError;
