//! Replicated key-value storage over any datastore.

pub mod block;
mod error;
#[cfg(feature = "libp2p")]
pub mod net;
mod options;
mod replica;
mod store;
pub mod sync;

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
