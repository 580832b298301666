//! The conformance test-kit on the store in memory, and on each wrapper over it.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use datastore_backends::MemoryDatastore;
use datastore_core::testkit::{ExtraSet, Factory};
use datastore_core::{
    CrashDatastore, Datastore, DatastoreExt, DelayDatastore, FailDatastore, Key, MountDatastore,
    NamespaceDatastore,
};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Stores that are gone when they are closed.
struct InMemory {
    fresh: fn() -> BoxFuture<'static, Arc<dyn Datastore>>,
    extras: ExtraSet,
}

#[async_trait]
impl Factory for InMemory {
    async fn fresh(&self) -> Arc<dyn Datastore> {
        (self.fresh)().await
    }

    fn extras(&self) -> ExtraSet {
        self.extras
    }
}

const NONE: ExtraSet = ExtraSet {
    transactions: false,
    ttl: false,
    disk_usage: false,
    garbage_collection: false,
    check: false,
    instance: false,
};
const MEMORY: ExtraSet = ExtraSet {
    transactions: true,
    ttl: true,
    instance: true,
    ..NONE
};

/// One module of tests for an expression that makes a store.
macro_rules! kit {
    ($name:ident, $extras:expr, $fresh:expr) => {
        mod $name {
            use super::*;

            datastore_core::datastore_testkit!(InMemory {
                fresh: || async { Arc::new($fresh) as Arc<dyn Datastore> }.boxed(),
                extras: $extras,
            });
        }
    };
}

kit!(memory, MEMORY, MemoryDatastore::new());
kit!(
    pointers,
    MEMORY,
    Box::new(Arc::new(MemoryDatastore::new()) as Arc<dyn Datastore>)
);
kit!(namespace, MEMORY, namespace().await);
kit!(mounts, ExtraSet { ttl: true, ..NONE }, mounts());
kit!(
    never_failing,
    MEMORY,
    FailDatastore::new(MemoryDatastore::new())
);
kit!(delayed, MEMORY, delayed());
kit!(
    never_crashing,
    ExtraSet {
        instance: true,
        ..NONE
    },
    CrashDatastore::new(MemoryDatastore::new())
);

/// Among siblings that must not show through.
async fn namespace() -> impl Datastore {
    let store = MemoryDatastore::new();
    for key in [
        "/", "/a", "/ns!", "/ns-2/a", "/ns.a/b", "/ns0", "/nsa", "/z",
    ] {
        store.put(&Key::new(key), "sibling".into()).await.unwrap();
    }
    NamespaceDatastore::new(store, Key::new("/ns"))
}

/// Over the namespaces that the random queries use, and over the one that holds the batches.
fn mounts() -> impl Datastore {
    let mounts = ["/", "/a", "/a/b", "/a/b/0", "/b/a-", "/kit"];
    let mounts = mounts.map(|key| -> (Key, Arc<dyn Datastore>) {
        (Key::new(key), Arc::new(MemoryDatastore::new()))
    });
    MountDatastore::new(mounts).unwrap()
}

fn delayed() -> impl Datastore {
    DelayDatastore::new(MemoryDatastore::new(), |_| tokio::task::yield_now().boxed())
}
