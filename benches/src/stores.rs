use std::sync::Arc;

use datastore_backends::{FjallDatastore, MemoryDatastore};
use datastore_core::Datastore;
use tempfile::TempDir;

/// A backend to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `MemoryDatastore`.
    Memory,
    /// `FjallDatastore`, durability buffer.
    Fjall,
}

/// Where a store lies while it is measured; its folder goes with it.
pub struct Folder {
    /// The store.
    pub store: Arc<dyn Datastore>,
    _folder: Option<TempDir>,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Fjall];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fjall => "fjall",
        }
    }

    /// An empty store.
    pub async fn open(self) -> Folder {
        match self {
            Self::Memory => Folder {
                store: Arc::new(MemoryDatastore::new()),
                _folder: None,
            },
            Self::Fjall => {
                let folder = tempfile::tempdir().unwrap();
                let store = FjallDatastore::open(folder.path().join("db"))
                    .await
                    .unwrap();
                Folder {
                    store: Arc::new(store),
                    _folder: Some(folder),
                }
            }
        }
    }
}
