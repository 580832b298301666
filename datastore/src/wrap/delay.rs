use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use super::Operation;
use crate::{Batch, Datastore, Extras, Key, Query, QueryStream, Result};

/// A store that waits before each operation. For tests.
///
/// The wait is whatever future the caller makes for the operation: a timer, a barrier, a channel. The
/// entries of a query do not wait, nor do extras, which are those of the store beneath.
///
/// ```
/// use std::time::Duration;
///
/// use datastore_core::{Datastore, DelayDatastore};
///
/// fn slow(store: impl Datastore) -> impl Datastore {
///     DelayDatastore::new(store, |_| Box::pin(tokio::time::sleep(Duration::from_millis(5))))
/// }
/// ```
#[derive(Clone)]
pub struct DelayDatastore<D, F> {
    inner: D,
    wait: F,
}

impl<D, F> DelayDatastore<D, F>
where
    D: Datastore,
    F: Fn(&Operation<'_>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    /// `inner`, with what `wait` returns awaited before each operation.
    pub fn new(inner: D, wait: F) -> Self {
        Self { inner, wait }
    }
}

impl<D: fmt::Debug, F> fmt::Debug for DelayDatastore<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayDatastore")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<D, F> Datastore for DelayDatastore<D, F>
where
    D: Datastore,
    F: Fn(&Operation<'_>) -> BoxFuture<'static, ()> + Send + Sync + 'static,
{
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        (self.wait)(&Operation::Get(key)).await;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        (self.wait)(&Operation::GetMany(keys)).await;
        self.inner.get_many(keys).await
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        (self.wait)(&Operation::Has(key)).await;
        self.inner.has(key).await
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        (self.wait)(&Operation::GetSize(key)).await;
        self.inner.get_size(key).await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        (self.wait)(&Operation::Commit(&batch)).await;
        self.inner.commit(batch).await
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        (self.wait)(&Operation::Query(&query)).await;
        self.inner.query(query).await
    }

    async fn sync(&self, prefix: &Key) -> Result<()> {
        (self.wait)(&Operation::Sync(prefix)).await;
        self.inner.sync(prefix).await
    }

    async fn close(&self) -> Result<()> {
        (self.wait)(&Operation::Close).await;
        self.inner.close().await
    }

    fn extras(&self) -> Extras<'_> {
        self.inner.extras()
    }
}
