//! Backends for [`datastore_core`]: each a [`Datastore`](datastore_core::Datastore), each behind a
//! cargo feature.

#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "memory")]
pub use self::memory::MemoryDatastore;
