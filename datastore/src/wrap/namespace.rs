use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, future};

use crate::{
    Batch, Datastore, Error, Extras, Instance, Key, Op, Query, QueryStream, Result, Transaction,
    Transactions, Ttl,
};

/// Part of another store: its key `/k` is `prefix` + `/k` there, and its root is `prefix`.
///
/// Closing it closes the other store. Extras are those of the other store: disk usage, garbage
/// collection and check are about all of it.
///
/// A query that can select the root also scans, and drops, those siblings of `prefix` that come
/// between it and its children in byte order, as `/ns-2` and all below it do for `/ns`. A `prefix`
/// that is no other's beginning has none.
///
/// ```
/// use datastore_core::{Datastore, DatastoreExt, Key, NamespaceDatastore, Result};
///
/// async fn greet(store: impl Datastore) -> Result<()> {
///     let users = NamespaceDatastore::new(store, Key::new("/users"));
///     users.put(&Key::new("/lia"), "hello".into()).await // at /users/lia of the store
/// }
/// ```
#[derive(Debug, Clone)]
pub struct NamespaceDatastore<D> {
    inner: D,
    prefix: Key,
}

impl<D: Datastore> NamespaceDatastore<D> {
    /// What `inner` holds at and under `prefix`.
    pub fn new(inner: D, prefix: Key) -> Self {
        Self { inner, prefix }
    }

    fn inner_batch(&self, batch: Batch) -> Batch {
        batch
            .into_iter()
            .map(|op| match op {
                Op::Put { key, value } => Op::Put {
                    key: self.prefix.child(&key),
                    value,
                },
                Op::Delete { key } => Op::Delete {
                    key: self.prefix.child(&key),
                },
            })
            .collect()
    }
}

#[async_trait]
impl<D: Datastore> Datastore for NamespaceDatastore<D> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(&self.prefix.child(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let keys: Vec<Key> = keys.iter().map(|key| self.prefix.child(key)).collect();
        self.inner.get_many(&keys).await
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        self.inner.has(&self.prefix.child(key)).await
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        self.inner.get_size(&self.prefix.child(key)).await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        self.inner.commit(self.inner_batch(batch)).await
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        let scan = self.inner.query(query.scan_under(&self.prefix)).await?;
        let prefix = self.prefix.clone();
        Ok(query.apply(scan.try_filter_map(move |entry| {
            let key = entry.key.strip_prefix(&prefix);
            future::ok(key.map(|key| (key, entry.value.unwrap_or_default())))
        })))
    }

    async fn sync(&self, prefix: &Key) -> Result<()> {
        self.inner.sync(&self.prefix.child(prefix)).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }

    fn extras(&self) -> Extras<'_> {
        let inner = self.inner.extras();
        Extras {
            transactions: inner.transactions.map(|_| self as _),
            ttl: inner.ttl.map(|_| self as _),
            instance: inner.instance.map(|_| self as _),
            ..inner
        }
    }
}

fn unsupported<T>(extra: Option<T>, what: &'static str) -> Result<T> {
    extra.ok_or(Error::Unsupported {
        store: "the datastore under a namespace",
        what,
    })
}

#[async_trait]
impl<D: Datastore> Transactions for NamespaceDatastore<D> {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let inner = unsupported(self.inner.extras().transactions, "transactions")?
            .begin()
            .await?;
        Ok(Box::new(NamespaceTransaction {
            inner,
            prefix: self.prefix.clone(),
        }))
    }
}

struct NamespaceTransaction {
    inner: Box<dyn Transaction>,
    prefix: Key,
}

#[async_trait]
impl Transaction for NamespaceTransaction {
    async fn get(&mut self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(&self.prefix.child(key)).await
    }

    fn put(&mut self, key: Key, value: Bytes) {
        self.inner.put(self.prefix.child(&key), value);
    }

    fn delete(&mut self, key: Key) {
        self.inner.delete(self.prefix.child(&key));
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.inner.commit().await.map_err(|error| match error {
            Error::Conflict { key } => Error::Conflict {
                key: key.strip_prefix(&self.prefix).unwrap_or(key),
            },
            other => other,
        })
    }
}

#[async_trait]
impl<D: Datastore> Ttl for NamespaceDatastore<D> {
    async fn commit_with_ttl(&self, batch: Batch, ttl: Duration) -> Result<()> {
        let inner = unsupported(self.inner.extras().ttl, "TTL")?;
        inner.commit_with_ttl(self.inner_batch(batch), ttl).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Duration>> {
        let inner = unsupported(self.inner.extras().ttl, "TTL")?;
        inner.ttl(&self.prefix.child(key)).await
    }
}

#[async_trait]
impl<D: Datastore> Instance for NamespaceDatastore<D> {
    /// Two namespaces of one store are two stores; one namespace opened twice is one.
    fn handle_id(&self) -> u64 {
        let inner = self.inner.extras().instance.map(Instance::handle_id);
        let mut hasher = DefaultHasher::new();
        (inner, &self.prefix).hash(&mut hasher);
        hasher.finish()
    }

    async fn set_mark(&self) -> Result<Option<Bytes>> {
        unsupported(self.inner.extras().instance, "marks")?
            .set_mark()
            .await
    }

    async fn has_mark(&self, identity: &[u8]) -> Result<bool> {
        unsupported(self.inner.extras().instance, "marks")?
            .has_mark(identity)
            .await
    }

    async fn clear_mark(&self, identity: &[u8]) -> Result<()> {
        unsupported(self.inner.extras().instance, "marks")?
            .clear_mark(identity)
            .await
    }
}
