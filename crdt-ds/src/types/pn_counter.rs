use std::collections::BTreeMap;

use datastore_core::{DatastoreExt, Key, Query};

use super::{Amount, Encoding, Slot, SlotWriter, Sum, Totals, escape, unescape};
use crate::{CrdtDatastore, Result};

/// A number that many nodes add to and subtract from, offline too, and that all agree on.
///
/// Each node has a slot of its own under each generation of its store, `{key}/{node}:{generation}`,
/// with [`Totals`] of 16 bytes; the counter is the sum of all slots. The generation is new after any
/// open that does not follow a clean close, so a slot is written by one store only, and what a crash or
/// a lost disk took comes back from peers and is not counted twice.
///
/// Clones are one counter. Close it before the store, or nothing of what dropped callers added is
/// written.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use crdt_ds::{CrdtDatastore, datastore::Key, types::PnCounter};
/// use datastore_backends::MemoryDatastore;
///
/// let store = CrdtDatastore::builder(MemoryDatastore::new()).open().await?;
/// let stock = PnCounter::open(store.clone(), Key::new("/stock/apples"), "till-1")?;
/// stock.add(10).await?;
/// stock.subtract(3).await?;
/// assert_eq!(stock.value().await?, 7);
/// # stock.close().await?; store.close().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PnCounter {
    store: CrdtDatastore,
    key: Key,
    slot: Slot,
    writer: SlotWriter,
}

impl PnCounter {
    /// The counter at `key`, written as `node`. No key strictly below `key` may be used otherwise.
    ///
    /// # Errors
    /// [`NodeOpen`](crate::Error::NodeOpen) if this node's counter is open already, as that of an open
    /// replica; [`EmptyName`](crate::Error::EmptyName), [`NameTooLong`](crate::Error::NameTooLong) for
    /// the node.
    pub fn open(store: CrdtDatastore, key: Key, node: &str) -> Result<Self> {
        let node = escape("node id", node)?;
        let writer = SlotWriter::open(store.clone(), &key, &node)?;
        let slot = Slot {
            key: key.child_str(&slot_name(&node, &store.info().generation)),
            encoding: Encoding::Both,
        };
        Ok(Self {
            store,
            key,
            slot,
            writer,
        })
    }

    /// Adds `n`. Many calls at once share a block. Totals saturate, see
    /// [`saturated`](Self::saturated).
    ///
    /// # Errors
    /// As [`CrdtDatastore::write`]; nothing was added then, unless the outcome is unknown.
    pub async fn add(&self, n: u64) -> Result<()> {
        self.grow(Amount { up: n, down: 0 }).await
    }

    /// Subtracts `n`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn subtract(&self, n: u64) -> Result<()> {
        self.grow(Amount { up: 0, down: n }).await
    }

    async fn grow(&self, amount: Amount) -> Result<()> {
        if amount == Amount::default() {
            return Ok(());
        }
        self.writer.add(self.slot.clone(), amount, None).await
    }

    /// The number: the sum over all slots, which may be negative. Reads each slot.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn value(&self) -> Result<i128> {
        let sum: Sum = self
            .slots()
            .await?
            .into_iter()
            .map(|(_, totals)| totals)
            .collect();
        let (up, down) = (i128::try_from(sum.up), i128::try_from(sum.down));
        Ok(up.unwrap_or(i128::MAX) - down.unwrap_or(i128::MAX))
    }

    /// What each node added and subtracted, over all its generations.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn breakdown(&self) -> Result<BTreeMap<String, Sum>> {
        let mut nodes: BTreeMap<String, Sum> = BTreeMap::new();
        for (node, totals) in self.slots().await? {
            nodes.entry(node).or_default().add(totals);
        }
        Ok(nodes)
    }

    async fn slots(&self) -> Result<Vec<(String, Totals)>> {
        let entries = self
            .store
            .query_all(Query::new().prefix(self.key.clone()))
            .await?;
        let slots = entries.into_iter().filter_map(|entry| {
            let (node, _) = slot_of(&self.key, &entry.key)?;
            Some((unescape(node)?, Totals::from_bytes(&entry.value?)?))
        });
        Ok(slots.collect())
    }

    /// How often a total of this node reached `u64::MAX` and stayed there.
    pub fn saturated(&self) -> u64 {
        self.writer.saturated()
    }

    /// Writes what is under way and lets the node be opened again.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn close(&self) -> Result<()> {
        self.writer.close().await
    }
}

/// The last namespace of a slot's key. `node` is escaped.
pub(crate) fn slot_name(node: &str, generation: &[u8]) -> String {
    format!("{node}:{}", data_encoding::HEXLOWER.encode(generation))
}

/// Node, escaped, and generation of the slot at `key`, if it is one of the counter at `counter`.
pub(crate) fn slot_of<'a>(counter: &Key, key: &'a Key) -> Option<(&'a str, &'a str)> {
    if key.parent() != *counter {
        return None;
    }
    key.base_namespace().rsplit_once(':')
}
