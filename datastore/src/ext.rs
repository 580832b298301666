use std::future::Future;

use bytes::Bytes;
use futures::TryStreamExt;

use crate::{Batch, Datastore, Entry, Key, Query, Result};

/// Sugar for every [`Datastore`], in terms of its methods.
pub trait DatastoreExt: Datastore {
    /// Sets the value of `key`, as a batch of one.
    ///
    /// # Errors
    /// As [`commit`](Datastore::commit).
    fn put(&self, key: &Key, value: Bytes) -> impl Future<Output = Result<()>> + Send {
        let mut batch = Batch::with_capacity(1);
        batch.put(key.clone(), value);
        self.commit(batch)
    }

    /// Removes `key`, as a batch of one. Removing what is not there succeeds.
    ///
    /// # Errors
    /// As [`commit`](Datastore::commit).
    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send {
        let mut batch = Batch::with_capacity(1);
        batch.delete(key.clone());
        self.commit(batch)
    }

    /// All entries that `query` selects, in memory; its [`limit`](Query::limit) is the only bound.
    ///
    /// # Errors
    /// As [`query`](Datastore::query), or the error that ended the stream.
    fn query_all(&self, query: Query) -> impl Future<Output = Result<Vec<Entry>>> + Send {
        async move { self.query(query).await?.try_collect().await }
    }
}

impl<T: Datastore + ?Sized> DatastoreExt for T {}
