//! A replica is a datastore: it passes the conformance test-kit, in both formats, over memory and over
//! a disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crdt_ds::block::{self, DagName, Format, MAX_BLOCK_BYTES};
use crdt_ds::datastore::testkit::{ExtraSet, Factory};
use crdt_ds::datastore::{Datastore, Key, datastore_testkit};
use crdt_ds::{CrdtDatastore, Options};
use datastore_backends::{FjallDatastore, MemoryDatastore};

/// The most heads that a block of ours links to: room for them is kept in each.
const MAX_LINKS: usize = 64;

/// The largest value that a block of the largest size has room for, whatever else it must hold.
fn largest_value(format: Format) -> u64 {
    let base = block::base_len(format, MAX_LINKS, &DagName::default());
    let limit = MAX_BLOCK_BYTES - base;
    // The test-kit names a key for the size of its value.
    let key = Key::new(format!("/kit/{limit}"));
    let put = block::put_len(format, &key, limit) - limit;
    (limit - put) as u64
}

async fn open(format: Format, store: impl Datastore) -> Arc<dyn Datastore> {
    let mut options = Options::default();
    options.format = format;
    options.max_delta_bytes = MAX_BLOCK_BYTES;
    let replica = CrdtDatastore::builder(store).options(options).open().await;
    Arc::new(replica.unwrap())
}

struct OverMemory {
    format: Format,
    last: Mutex<Option<MemoryDatastore>>,
}

impl OverMemory {
    fn new(format: Format) -> Self {
        Self {
            format,
            last: Mutex::default(),
        }
    }
}

#[async_trait]
impl Factory for OverMemory {
    async fn fresh(&self) -> Arc<dyn Datastore> {
        let store = MemoryDatastore::new();
        *self.last.lock().unwrap() = Some(store.clone());
        open(self.format, store).await
    }

    async fn reopen(&self) -> Option<Arc<dyn Datastore>> {
        let store = self.last.lock().unwrap().clone()?;
        Some(open(self.format, store).await)
    }

    fn largest_value(&self) -> Option<u64> {
        Some(largest_value(self.format))
    }
}

struct OverFjall {
    format: Format,
    folder: tempfile::TempDir,
    opened: Mutex<(u32, Option<FjallDatastore>)>,
}

impl OverFjall {
    fn new(format: Format) -> Self {
        Self {
            format,
            folder: tempfile::tempdir().unwrap(),
            opened: Mutex::default(),
        }
    }

    async fn open_folder(&self, number: u32) -> Arc<dyn Datastore> {
        let folder = self.folder.path().join(number.to_string());
        let store = FjallDatastore::open(folder).await.unwrap();
        self.opened.lock().unwrap().1 = Some(store.clone());
        open(self.format, store).await
    }
}

#[async_trait]
impl Factory for OverFjall {
    async fn fresh(&self) -> Arc<dyn Datastore> {
        let number = {
            let mut opened = self.opened.lock().unwrap();
            opened.0 += 1;
            opened.0
        };
        self.open_folder(number).await
    }

    /// The replica leaves the store beneath open: it is closed here.
    async fn reopen(&self) -> Option<Arc<dyn Datastore>> {
        let (number, store) = {
            let mut opened = self.opened.lock().unwrap();
            (opened.0, opened.1.take()?)
        };
        store.close().await.unwrap();
        drop(store);
        Some(self.open_folder(number).await)
    }

    fn largest_value(&self) -> Option<u64> {
        Some(largest_value(self.format))
    }

    fn extras(&self) -> ExtraSet {
        ExtraSet {
            disk_usage: true,
            garbage_collection: true,
            check: true,
            ..ExtraSet::default()
        }
    }
}

mod dag_cbor_over_memory {
    use super::*;
    datastore_testkit!(OverMemory::new(Format::DagCbor));
}

mod dag_pb_over_memory {
    use super::*;
    datastore_testkit!(OverMemory::new(Format::DagPb));
}

mod dag_cbor_over_fjall {
    use super::*;
    datastore_testkit!(OverFjall::new(Format::DagCbor));
}

mod dag_pb_over_fjall {
    use super::*;
    datastore_testkit!(OverFjall::new(Format::DagPb));
}
