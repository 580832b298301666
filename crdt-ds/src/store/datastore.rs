//! A replica is a datastore.

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Batch, Datastore, Extras, Key, Query, QueryStream, Result};
use futures::TryStreamExt;

use super::CrdtDatastore;
use crate::block::DagName;
use crate::replica::Visible;

#[async_trait]
impl Datastore for CrdtDatastore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.check_open()?;
        let shared = self.shared();
        let Some(row) = shared.store.get(&shared.layout.visible(key)).await? else {
            return Ok(None);
        };
        Ok(Some(shared.value(key, &Visible::decode(key, &row)?).await?))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.check_open()?;
        let shared = self.shared();
        let rows: Vec<Key> = keys.iter().map(|key| shared.layout.visible(key)).collect();
        let mut values = Vec::with_capacity(keys.len());
        // A value that is in its block is there for good, so all are of the rows' snapshot.
        for (key, row) in keys.iter().zip(shared.store.get_many(&rows).await?) {
            values.push(match row {
                Some(row) => Some(shared.value(key, &Visible::decode(key, &row)?).await?),
                None => None,
            });
        }
        Ok(values)
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        self.check_open()?;
        let shared = self.shared();
        shared.store.has(&shared.layout.visible(key)).await
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        self.check_open()?;
        let shared = self.shared();
        match shared.store.get(&shared.layout.visible(key)).await? {
            Some(row) => Ok(Some(Visible::decode(key, &row)?.value_len())),
            None => Ok(None),
        }
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        self.write_under(&DagName::default(), batch).await?;
        Ok(())
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        self.check_open()?;
        let shared = self.shared().clone();
        let root = shared.visible_root();
        let scan = shared.store.query(query.scan_under(&root)).await?;
        let needs_values = query.needs_values();
        let values = scan.and_then(move |entry| {
            let (shared, root) = (shared.clone(), root.clone());
            async move {
                let key = entry.key.strip_prefix(&root).unwrap_or(entry.key);
                let value = match entry.value {
                    Some(row) if needs_values => {
                        shared.value(&key, &Visible::decode(&key, &row)?).await?
                    }
                    _ => Bytes::new(),
                };
                Ok((key, value))
            }
        });
        Ok(query.apply(values))
    }

    async fn sync(&self, _prefix: &Key) -> Result<()> {
        self.check_open()?;
        // What makes a key is in many rows: all of them.
        let shared = self.shared();
        shared.store.sync(&shared.options.namespace).await
    }

    async fn close(&self) -> Result<()> {
        self.close().await?;
        Ok(())
    }

    fn extras(&self) -> Extras<'_> {
        let below = self.shared().store.extras();
        // A transaction or a value that expires would have to be a block, which neither can be; and
        // whose instance it is, the replica keeps to itself.
        Extras {
            disk_usage: below.disk_usage,
            garbage_collection: below.garbage_collection,
            check: below.check,
            ..Extras::default()
        }
    }
}
