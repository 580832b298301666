//! Who owns slots: one writer a slot, or two would count from the same total.

use std::sync::{Mutex, PoisonError};

use datastore_core::Key;

use crate::block::WriterId;
use crate::{CrdtDatastore, Error, Result};

/// What is owned: the slots of a node at and below a key of an open replica.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    /// Drawn anew whenever a replica is opened, so it names the open replica.
    replica: WriterId,
    root: Key,
    node: String,
}

impl Owned {
    fn overlaps(&self, other: &Self) -> bool {
        let below = |a: &Key, b: &Key| a == b || a.is_ancestor_of(b);
        self.replica == other.replica
            && self.node == other.node
            && (below(&self.root, &other.root) || below(&other.root, &self.root))
    }
}

static OPEN: Mutex<Vec<Owned>> = Mutex::new(Vec::new());

/// Owns slots until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenSlots(Owned);

impl OpenSlots {
    /// `node` as it is in keys.
    pub(crate) fn take(store: &CrdtDatastore, root: &Key, node: &str) -> Result<Self> {
        let owned = Owned {
            replica: store.info().writer,
            root: root.clone(),
            node: node.to_owned(),
        };
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.iter().any(|other| other.overlaps(&owned)) {
            return Err(Error::NodeOpen {
                node: owned.node,
                root: owned.root,
            });
        }
        open.push(owned.clone());
        Ok(Self(owned))
    }
}

impl Drop for OpenSlots {
    fn drop(&mut self) {
        OPEN.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|owned| *owned != self.0);
    }
}
