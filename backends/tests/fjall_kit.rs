//! The conformance test-kit on `FjallDatastore`.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datastore_backends::{Durability, FjallBuilder, FjallDatastore};
use datastore_core::Datastore;
use datastore_core::testkit::{ExtraSet, Factory};
use tempfile::TempDir;

/// A store in a directory of its own, with a memtable so small that it is flushed under the cases.
struct OnDisk {
    durability: Durability,
    directory: Mutex<TempDir>,
}

const MEMTABLE: u64 = 1024 * 1024;

impl OnDisk {
    fn new(durability: Durability) -> Self {
        Self {
            durability,
            directory: Mutex::new(tempfile::tempdir().unwrap()),
        }
    }

    fn builder(&self) -> FjallBuilder {
        let directory = self.directory.lock().unwrap();
        let builder = FjallDatastore::builder(directory.path());
        builder.durability(self.durability).memtable_bytes(MEMTABLE)
    }
}

#[async_trait]
impl Factory for OnDisk {
    async fn fresh(&self) -> Arc<dyn Datastore> {
        *self.directory.lock().unwrap() = tempfile::tempdir().unwrap();
        Arc::new(self.builder().open().await.unwrap())
    }

    async fn reopen(&self) -> Option<Arc<dyn Datastore>> {
        Some(Arc::new(self.builder().open().await.unwrap()))
    }

    fn largest_value(&self) -> Option<u64> {
        Some(1 << 30)
    }

    fn flushes_after(&self) -> u64 {
        8 * MEMTABLE
    }

    fn extras(&self) -> ExtraSet {
        ExtraSet {
            transactions: true,
            ttl: false,
            disk_usage: true,
            garbage_collection: true,
            check: true,
            instance: true,
        }
    }
}

mod buffer {
    datastore_core::datastore_testkit!(super::OnDisk::new(super::Durability::Buffer));
}

mod sync {
    datastore_core::datastore_testkit!(super::OnDisk::new(super::Durability::Sync));
}
