//! The contract of a key-value store, and what can be said of every store that keeps it.
//!
//! A [`Datastore`] maps [`Key`]s, cleaned `/`-separated paths, to values. It is an object-safe async
//! trait, and an `Arc<dyn Datastore>` is a `Datastore` too. A write is a [`Batch`], committed
//! atomically; a [`Query`] reads one consistent snapshot; [`DatastoreExt`] adds `put`, `delete` and the
//! like; what only some stores can do is in their [`Extras`]. Keys and prefixes mean what they mean in
//! [go-datastore](https://github.com/ipfs/go-datastore); the guarantees, listed on the trait, go
//! further.
//!
//! ```
//! use datastore_core::{Batch, Datastore, DatastoreExt, Key, NamespaceDatastore, Query, Result};
//!
//! async fn greet(store: impl Datastore) -> Result<()> {
//!     let greetings = NamespaceDatastore::new(store, Key::new("/greetings"));
//!     greetings.put(&Key::new("/en"), "hello".into()).await?;
//!
//!     let mut batch = Batch::new();
//!     batch.put(Key::new("/de"), "hallo");
//!     batch.delete(Key::new("/en"));
//!     greetings.commit(batch).await?;
//!
//!     let left = greetings.query_all(Query::new().keys_only()).await?;
//!     assert_eq!(left[0].key, Key::new("/de"));
//!     Ok(())
//! }
//! ```
//!
//! # Stores
//!
//! Backends (memory, fjall) are in the crate `datastore-backends`. Here are the stores that are made of
//! others: [`NamespaceDatastore`] and [`MountDatastore`]; and, with the feature `testkit`,
//! `FailDatastore`, `DelayDatastore` and `CrashDatastore`, to test what is built on a store.
//!
//! # Writing a backend
//!
//! Implement [`Datastore`]. Take a snapshot, scan the query's [`interval`](Query::interval) in the
//! direction that it wants, lazily if you can, and let [`Query::apply`] do the rest:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Mutex, MutexGuard};
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use datastore_core::{Batch, Datastore, Error, Extras, Key, Op, Query, QueryStream, Result};
//! use futures::stream;
//!
//! /// `None` once closed.
//! struct Map(Mutex<Option<BTreeMap<Key, Bytes>>>);
//!
//! impl Map {
//!     fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<Key, Bytes>) -> T) -> Result<T> {
//!         self.0.lock().unwrap().as_mut().map(f).ok_or(Error::Closed)
//!     }
//! }
//!
//! #[async_trait]
//! impl Datastore for Map {
//!     async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
//!         self.with(|map| map.get(key).cloned())
//!     }
//!
//!     async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
//!         self.with(|map| keys.iter().map(|key| map.get(key).cloned()).collect())
//!     }
//!
//!     async fn has(&self, key: &Key) -> Result<bool> {
//!         self.with(|map| map.contains_key(key))
//!     }
//!
//!     async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
//!         self.with(|map| map.get(key).map(|value| value.len() as u64))
//!     }
//!
//!     async fn commit(&self, batch: Batch) -> Result<()> {
//!         self.with(|map| {
//!             for op in batch {
//!                 match op {
//!                     Op::Put { key, value } => map.insert(key, value),
//!                     Op::Delete { key } => map.remove(&key),
//!                 };
//!             }
//!         })
//!     }
//!
//!     async fn query(&self, query: Query) -> Result<QueryStream> {
//!         let mut scan = self.with(|map| {
//!             let Some(interval) = query.interval() else { return Vec::new() };
//!             let range = map.range::<[u8], _>(interval.bounds());
//!             range.map(|(key, value)| Ok((key.clone(), value.clone()))).collect()
//!         })?;
//!         if query.descending() {
//!             scan.reverse();
//!         }
//!         Ok(query.apply(stream::iter(scan)))
//!     }
//!
//!     async fn sync(&self, _prefix: &Key) -> Result<()> {
//!         self.with(|_| ())
//!     }
//!
//!     async fn close(&self) -> Result<()> {
//!         self.0.lock().unwrap().take();
//!         Ok(())
//!     }
//!
//!     fn extras(&self) -> Extras<'_> {
//!         Extras::default()
//!     }
//! }
//! # use datastore_core::DatastoreExt;
//! # use futures::StreamExt;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! #     let map = Map(Mutex::new(Some(BTreeMap::new())));
//! #     for key in ["/a/1", "/a/2", "/b"] {
//! #         map.put(&Key::new(key), key.into()).await?;
//! #     }
//! #     let query = Query::new().prefix(Key::new("/a")).reversed();
//! #     let keys: Vec<_> = map.query(query).await?.map(|entry| entry.unwrap().key).collect().await;
//! #     assert_eq!(keys, ["/a/2", "/a/1"].map(Key::new));
//! #     map.close().await?;
//! #     assert!(matches!(map.get(&Key::root()).await, Err(Error::Closed)));
//! #     Ok(())
//! # }
//! ```
//!
//! Then run the test-kit on it, the module `testkit` behind the feature of that name: a factory that
//! makes a fresh store gets every case of the contract, torn reads and dropped commits included.

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
