//! Blocks: immutable, content-addressed pieces of history, and the two formats in which they are
//! written.
//!
//! A [`Block`] is bytes whose hash has been checked. [`decode`] says what it means: a [`Node`], that
//! is the links to the heads it builds on and a [`Delta`]. Whether a block is well-formed depends on
//! its own bytes alone, never on other blocks.

mod delta;
mod id;

pub use self::delta::{Delta, Deletes, Node, Origin, Put};
pub use self::id::{Block, BlockError, DagName, Format, VersionId, WriterId};

/// The most bytes that a block may have, in either format. A constant of the formats: replicas with
/// different limits would merge different blocks and so differ.
pub const MAX_BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// The highest priority that a block of ours has: 2^62 - 1. Both formats saturate there.
pub const MAX_PRIORITY: u64 = (1 << 62) - 1;
