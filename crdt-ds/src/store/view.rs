use bytes::Bytes;
use datastore_core::{Batch, Key};

use super::CrdtDatastore;
use crate::Result;
use crate::block::DagName;
use crate::replica::Receipt;

/// A replica that writes under one DAG name. Reads, deletes and overwrites see the keys of all names.
#[derive(Debug, Clone)]
pub struct DagView {
    store: CrdtDatastore,
    name: DagName,
}

impl DagView {
    pub(super) fn new(store: CrdtDatastore, name: DagName) -> Self {
        Self { store, name }
    }

    /// The name.
    pub fn name(&self) -> &DagName {
        &self.name
    }

    /// The replica.
    pub fn store(&self) -> &CrdtDatastore {
        &self.store
    }

    /// As [`CrdtDatastore::put`], under this name.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn put(&self, key: &Key, value: Bytes) -> Result<Receipt> {
        let mut batch = Batch::with_capacity(1);
        batch.put(key.clone(), value);
        self.write(batch).await
    }

    /// As [`CrdtDatastore::delete`], under this name.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn delete(&self, key: &Key) -> Result<Receipt> {
        let mut batch = Batch::with_capacity(1);
        batch.delete(key.clone());
        self.write(batch).await
    }

    /// As [`CrdtDatastore::write`], under this name.
    ///
    /// # Errors
    /// As there; also [`Error::NameTooLong`](crate::Error::NameTooLong) if the name has more than
    /// [`DagName::MAX_BYTES`].
    pub async fn write(&self, batch: Batch) -> Result<Receipt> {
        self.store.write_under(&self.name, batch).await
    }
}
