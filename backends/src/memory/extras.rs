use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Batch, Instance, Key, Result, Transaction, Transactions, Ttl};

use super::MemoryDatastore;
use super::transaction::MemoryTransaction;

#[async_trait]
impl Transactions for MemoryDatastore {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(MemoryTransaction::new(
            self.clone(),
            self.snapshot()?,
        )))
    }
}

#[async_trait]
impl Ttl for MemoryDatastore {
    async fn commit_with_ttl(&self, batch: Batch, ttl: Duration) -> Result<()> {
        self.write(|entries, now| {
            // A time beyond what the clock can name is never.
            entries.commit(batch, now.checked_add(ttl), now);
            Ok(())
        })
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Duration>> {
        let now = (self.shared.clock)();
        self.read(|entries| entries.ttl(key, now))
    }
}

/// Memory is not copied behind a store's back: its marks are random names kept beside the entries.
#[async_trait]
impl Instance for MemoryDatastore {
    fn handle_id(&self) -> u64 {
        self.shared.handle_id
    }

    async fn set_mark(&self) -> Result<Option<Bytes>> {
        self.read(|_| ())?;
        let identity = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        self.marks().push(identity.clone());
        Ok(Some(identity))
    }

    async fn has_mark(&self, identity: &[u8]) -> Result<bool> {
        self.read(|_| ())?;
        Ok(self.marks().iter().any(|mark| mark == identity))
    }

    async fn clear_mark(&self, identity: &[u8]) -> Result<()> {
        self.read(|_| ())?;
        self.marks().retain(|mark| mark != identity);
        Ok(())
    }
}

impl MemoryDatastore {
    fn marks(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.shared
            .marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
