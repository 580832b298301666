//! Replicated key-value storage over any datastore.

pub mod block;
mod error;
mod replica;
pub mod sync;

pub use self::error::{Error, Result};
pub use self::replica::Receipt;
pub use datastore_core as datastore;

/// The most bytes that a key may have. A constant, for what merges must be the same everywhere: a
/// block may carry longer keys, but they take no effect.
pub const MAX_KEY_BYTES: usize = 32 * 1024;
