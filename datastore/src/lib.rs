//! The contract of a key-value store.

mod batch;
mod datastore;
mod error;
mod ext;
mod extras;
mod key;
mod query;
mod wrap;

#[cfg(feature = "testkit")]
pub mod testkit;

pub use self::batch::{Batch, Op};
pub use self::datastore::Datastore;
pub use self::error::{Error, Result, Source};
pub use self::ext::DatastoreExt;
pub use self::extras::{
    Check, DiskUsage, Extras, GarbageCollection, Instance, Transaction, Transactions, Ttl,
    new_handle_id,
};
pub use self::key::Key;
pub use self::query::{
    CompareEntries, Entry, Filter, Interval, KeyFilter, Order, Query, QueryStream, ValueFilter,
};
#[cfg(feature = "testkit")]
pub use self::wrap::{
    CrashDatastore, CrashPoint, DelayDatastore, FailDatastore, Fault, Loss, Operation,
};
pub use self::wrap::{MountDatastore, NamespaceDatastore};
