use bytes::Bytes;

use crate::Key;

/// One operation of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets the value of a key.
    Put {
        /// The key.
        key: Key,
        /// Its new value; may be empty.
        value: Bytes,
    },
    /// Removes a key; one that is not there is no error.
    Delete {
        /// The key.
        key: Key,
    },
}

impl Op {
    /// The key that the operation writes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A list of puts and deletes, committed as one by
/// [`Datastore::commit`](crate::Datastore::commit).
///
/// A plain value: nothing happens until it is committed, and dropping it leaves nothing behind. Of
/// several operations on one key the last wins.
///
/// ```
/// use datastore_core::{Batch, Key};
///
/// let mut batch = Batch::new();
/// batch.put(Key::new("/a"), "1");
/// batch.delete(Key::new("/b"));
/// assert_eq!(batch.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `capacity` operations.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            ops: Vec::with_capacity(capacity),
        }
    }

    /// Adds a put.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.ops.push(Op::Put {
            key,
            value: value.into(),
        });
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: Key) {
        self.ops.push(Op::Delete { key });
    }

    /// Adds an operation.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// How many operations it holds.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The operations, in the order in which they were added.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

impl IntoIterator for Batch {
    type Item = Op;
    type IntoIter = std::vec::IntoIter<Op>;

    fn into_iter(self) -> Self::IntoIter {
        self.ops.into_iter()
    }
}

impl FromIterator<Op> for Batch {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        Self {
            ops: ops.into_iter().collect(),
        }
    }
}

impl Extend<Op> for Batch {
    fn extend<I: IntoIterator<Item = Op>>(&mut self, ops: I) {
        self.ops.extend(ops);
    }
}
