//! Backends for [`datastore_core`]: each a [`Datastore`](datastore_core::Datastore), each behind a
//! cargo feature.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "fjall")]
pub use self::fjall::{Durability, FjallBuilder, FjallDatastore};
#[cfg(feature = "memory")]
pub use self::memory::MemoryDatastore;
