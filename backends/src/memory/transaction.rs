use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Batch, Error, Key, Op, Result, Transaction};

use super::MemoryDatastore;
use super::entries::Snapshot;

/// An optimistic transaction: it keeps which version of a key it read, and compares when it commits.
pub(super) struct MemoryTransaction {
    store: MemoryDatastore,
    snapshot: Snapshot,
    /// `None`: the key was not there.
    reads: HashMap<Key, Option<u64>>,
    writes: HashMap<Key, Option<Bytes>>,
}

impl MemoryTransaction {
    pub(super) fn new(store: MemoryDatastore, snapshot: Snapshot) -> Self {
        Self {
            store,
            snapshot,
            reads: HashMap::new(),
            writes: HashMap::new(),
        }
    }
}

#[async_trait]
impl Transaction for MemoryTransaction {
    async fn get(&mut self, key: &Key) -> Result<Option<Bytes>> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        self.reads.insert(key.clone(), self.snapshot.version(key));
        Ok(self.snapshot.get(key).cloned())
    }

    fn put(&mut self, key: Key, value: Bytes) {
        self.writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self {
            store,
            reads,
            writes,
            ..
        } = *self;
        store.write(|entries, now| {
            if let Some((key, _)) = reads
                .iter()
                .find(|(key, read)| entries.version(key, now) != **read)
            {
                return Err(Error::Conflict { key: key.clone() });
            }
            let batch: Batch = writes
                .into_iter()
                .map(|(key, value)| match value {
                    Some(value) => Op::Put { key, value },
                    None => Op::Delete { key },
                })
                .collect();
            entries.commit(batch, None, now);
            Ok(())
        })
    }
}
