use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Batch, Error, Key, Result, Transaction, Transactions};
use fjall::Snapshot;

use super::FjallDatastore;
use super::engine::Engine;
use super::store::Store;

/// Reads one snapshot. Its commit looks, with no other write in between, whether a key that it read
/// was written since.
struct OptimisticTransaction {
    store: Arc<Store>,
    snapshot: Arc<Snapshot>,
    /// Of the engine that made the snapshot.
    generation: u64,
    reads: HashSet<Key>,
    writes: HashMap<Key, Option<Bytes>>,
}

#[async_trait]
impl Transactions for FjallDatastore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        self.store.with(|engine| {
            let transaction = OptimisticTransaction {
                store: self.store.clone(),
                snapshot: engine.snapshot(),
                generation: engine.generation(),
                reads: HashSet::new(),
                writes: HashMap::new(),
            };
            Ok(Box::new(transaction) as Box<dyn Transaction>)
        })
    }
}

#[async_trait]
impl Transaction for OptimisticTransaction {
    async fn get(&mut self, key: &Key) -> Result<Option<Bytes>> {
        if let Some(written) = self.writes.get(key) {
            return Ok(written.clone());
        }
        let value = self.store.with(|engine| {
            self.ensure_made_by(engine, key)?;
            engine.get(&self.snapshot, key)
        })?;
        self.reads.insert(key.clone());
        Ok(value)
    }

    fn put(&mut self, key: Key, value: Bytes) {
        self.writes.insert(key, Some(value));
    }

    fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        let mut batch = Batch::with_capacity(self.writes.len());
        for (key, value) in self.writes.drain() {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let store = self.store.clone();
        store
            .commit(batch, move |engine| self.ensure_unchanged(engine))
            .await
    }
}

impl OptimisticTransaction {
    fn ensure_unchanged(&self, engine: &Engine) -> Result<()> {
        for key in &self.reads {
            self.ensure_made_by(engine, key)?;
            if engine.written_since(&self.snapshot, key)? {
                return Err(Error::Conflict { key: key.clone() });
            }
        }
        Ok(())
    }

    /// A store that was opened again, after a failure, may have forgotten what the snapshot shows.
    fn ensure_made_by(&self, engine: &Engine, key: &Key) -> Result<()> {
        if engine.generation() == self.generation {
            Ok(())
        } else {
            Err(Error::Conflict { key: key.clone() })
        }
    }
}
