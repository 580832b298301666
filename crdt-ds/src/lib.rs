//! Replicated key-value storage over any datastore.
//!
//! A [`CrdtDatastore`] wraps a [`Datastore`](datastore::Datastore) and is one. It reads and writes
//! locally, online or not; each put and delete becomes a block of a Merkle-DAG, which a
//! [`Transport`](sync::Transport) brings to the other replicas. Replicas with the same blocks have the
//! same contents, in whatever order the blocks came.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use crdt_ds::CrdtDatastore;
//! use crdt_ds::datastore::Key;
//! use crdt_ds::sync::{Hub, Peers};
//! use datastore_backends::MemoryDatastore;
//!
//! let hub = Hub::new(1);
//! let a = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("a")).open().await?;
//! let b = CrdtDatastore::builder(MemoryDatastore::new()).transport(hub.join("b")).open().await?;
//! let lamp = Key::new("/lamp");
//!
//! // Cut off from each other, both write.
//! hub.partition(&[&["a"], &["b"]]);
//! a.put(&lamp, "on".into()).await?;
//! b.put(&lamp, "off".into()).await?;
//!
//! // Together again, both show the same one; the other is there to be looked at.
//! hub.heal();
//! for replica in [&a, &b] {
//!     replica.wait_for_sync(Peers::All, Duration::from_secs(5)).await?;
//! }
//! assert_eq!(a.digests(), b.digests());
//! assert_eq!(a.versions(&lamp).await?, b.versions(&lamp).await?);
//! assert_eq!(a.versions(&lamp).await?.len(), 2);
//! # a.close().await?; b.close().await?; Ok(())
//! # }
//! ```
//!
//! # What to expect
//!
//! - **A write** is atomic, and takes effect here at once. It returns a [`Receipt`]. Several queued
//!   writes share a block.
//! - **A conflict** is settled alike on every replica: the version with the highest priority is visible,
//!   then the one with the greatest value, then with the greatest id. In the format of this crate the
//!   priority is a clock, so the later write wins. A delete removes what its writer saw, nothing else.
//!   [`versions`](CrdtDatastore::versions) has all that are live.
//! - **A change** of what is visible is one [`Event`] of [`subscribe`](CrdtDatastore::subscribe), after
//!   the commit, in order, resumable from a [`Cursor`].
//! - **Sync** needs no calls. [`sync_status`](CrdtDatastore::sync_status) says what is missing,
//!   [`wait_for_sync`](CrdtDatastore::wait_for_sync) waits for it, and
//!   [`digests`](CrdtDatastore::digests) tell whether two replicas are equal.
//! - **A crash** leaves no half of a merge; the next open goes on where the last one stopped. What was
//!   written since the last [`sync`](datastore::Datastore::sync) may be lost with the power, unless
//!   [`durable`](Builder::durable) is on; other replicas bring it back where they have it.
//!
//! # With go-ds-crdt
//!
//! A store opened with [`Format::DagPb`](block::Format::DagPb) reads and writes go-ds-crdt's blocks and
//! announcements. The transport for it is in the module `net`, with the feature `libp2p`. See [`block`] for
//! the formats, and [`sync`] for what a transport is.
//!
//! # Runtime
//!
//! A replica runs its tasks on the tokio runtime that it is opened on, and they end with
//! [`close`](CrdtDatastore::close).

pub mod block;
mod error;
#[cfg(feature = "libp2p")]
pub mod net;
mod options;
mod rate;
mod replica;
#[cfg(feature = "stats")]
pub mod stats;
mod store;
pub mod sync;
pub mod types;

pub use datastore_core as datastore;

pub use self::error::{Error, Result};
pub use self::options::{Clock, DeleteHook, MAX_NETWORK_BYTES, Options, PutHook};
pub use self::replica::Receipt;
pub use self::store::{
    Builder, CrdtDatastore, Cursor, DagView, Event, From, HeadInfo, HistoryBlock, Imported, Info,
    KeyChanged, Origin, Version,
};

/// The most bytes that a key may have. A constant, for what merges must be the same everywhere: a
/// block may carry longer keys, but they take no effect.
pub const MAX_KEY_BYTES: usize = 32 * 1024;
