//! Replicated key-value storage over any datastore.

pub mod block;
pub mod sync;

pub use datastore_core as datastore;
