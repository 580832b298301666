//! The rows that one commit reads and writes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};

use crate::Result;

/// Reads through to the store, keeps writes to itself, and becomes one [`Batch`].
///
/// INVARIANT 2: what is staged is not visible anywhere until that batch is committed; dropping the
/// stage undoes it.
pub(crate) struct Stage<'a> {
    store: &'a dyn Datastore,
    rows: BTreeMap<Key, Row>,
}

struct Row {
    value: Option<Bytes>,
    written: bool,
    /// The store is known to have no such row, so that deleting it again leaves nothing to do.
    absent_below: bool,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(store: &'a dyn Datastore) -> Self {
        Self {
            store,
            rows: BTreeMap::new(),
        }
    }

    pub(crate) fn store(&self) -> &'a dyn Datastore {
        self.store
    }

    /// Reads rows that will be asked for, in one go.
    pub(crate) async fn prefetch(&mut self, keys: Vec<Key>) -> Result<()> {
        let keys: Vec<Key> = keys
            .into_iter()
            .filter(|key| !self.rows.contains_key(key))
            .collect();
        let values = self.store.get_many(&keys).await?;
        for (key, value) in keys.into_iter().zip(values) {
            let absent_below = value.is_none();
            self.rows.insert(
                key,
                Row {
                    value,
                    written: false,
                    absent_below,
                },
            );
        }
        Ok(())
    }

    pub(crate) async fn get(&mut self, key: &Key) -> Result<Option<Bytes>> {
        if let Some(row) = self.rows.get(key) {
            return Ok(row.value.clone());
        }
        let value = self.store.get(key).await?;
        let row = Row {
            value: value.clone(),
            written: false,
            absent_below: value.is_none(),
        };
        self.rows.insert(key.clone(), row);
        Ok(value)
    }

    /// As [`get`](Self::get), without keeping what it read: for large rows that are read once.
    pub(crate) async fn peek(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.rows.get(key) {
            Some(row) => Ok(row.value.clone()),
            None => Ok(self.store.get(key).await?),
        }
    }

    pub(crate) async fn has(&self, key: &Key) -> Result<bool> {
        match self.rows.get(key) {
            Some(row) => Ok(row.value.is_some()),
            None => Ok(self.store.has(key).await?),
        }
    }

    pub(crate) fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.write(key, Some(value.into()));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.write(key, None);
    }

    fn write(&mut self, key: Key, value: Option<Bytes>) {
        let absent_below = self.rows.get(&key).is_some_and(|row| row.absent_below);
        let written = value.is_some() || !absent_below;
        self.rows.insert(
            key,
            Row {
                value,
                written,
                absent_below,
            },
        );
    }

    /// The rows that are strict children of `parent`, in key order, at most `limit`.
    pub(crate) async fn children(&self, parent: &Key, limit: usize) -> Result<Vec<(Key, Bytes)>> {
        // The stage may hide as many stored rows as it has under this parent.
        let staged: Vec<(&Key, &Row)> = self
            .rows
            .range::<Key, _>((Bound::Excluded(parent), Bound::Unbounded))
            .take_while(|(key, _)| parent.is_ancestor_of(key))
            .collect();
        let query = Query::new()
            .prefix(parent.clone())
            .limit(limit.saturating_add(staged.len()));
        let mut rows: BTreeMap<Key, Bytes> = self
            .store
            .query_all(query)
            .await?
            .into_iter()
            .filter_map(|entry| Some((entry.key, entry.value?)))
            .collect();
        for (key, row) in staged {
            match &row.value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }

    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::with_capacity(self.rows.len());
        for (key, row) in self.rows {
            match row.value {
                Some(value) if row.written => batch.put(key, value),
                None if row.written => batch.delete(key),
                _ => {}
            }
        }
        batch
    }
}
