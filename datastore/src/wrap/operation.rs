use crate::{Batch, Key, Query};

/// What a store is asked to do, as the wrappers for tests see it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// [`get`](crate::Datastore::get)
    Get(&'a Key),
    /// [`get_many`](crate::Datastore::get_many)
    GetMany(&'a [Key]),
    /// [`has`](crate::Datastore::has)
    Has(&'a Key),
    /// [`get_size`](crate::Datastore::get_size)
    GetSize(&'a Key),
    /// [`commit`](crate::Datastore::commit), also [with a TTL](crate::Ttl::commit_with_ttl)
    Commit(&'a Batch),
    /// [`query`](crate::Datastore::query)
    Query(&'a Query),
    /// The next entry of a query, which has this key
    Entry(&'a Key),
    /// [`sync`](crate::Datastore::sync)
    Sync(&'a Key),
    /// [`close`](crate::Datastore::close)
    Close,
    /// [`set_mark`](crate::Instance::set_mark)
    SetMark,
    /// [`has_mark`](crate::Instance::has_mark)
    HasMark,
    /// [`clear_mark`](crate::Instance::clear_mark)
    ClearMark,
}

impl Operation<'_> {
    /// Whether it changes the store, or what of it is durable.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Commit(_) | Self::Sync(_) | Self::SetMark | Self::ClearMark
        )
    }

    /// Whether it reads or writes a key at or below `prefix`. A query does if any key there lies in
    /// its interval, going by prefix alone.
    pub fn touches(&self, prefix: &Key) -> bool {
        let below = |key: &Key| key.strip_prefix(prefix).is_some();
        match *self {
            Self::Get(key) | Self::Has(key) | Self::GetSize(key) | Self::Entry(key) => below(key),
            Self::GetMany(keys) => keys.iter().any(below),
            Self::Commit(batch) => batch.ops().iter().any(|op| below(op.key())),
            Self::Query(Query { prefix: key, .. }) | Self::Sync(key) => {
                below(key) || key.is_ancestor_of(prefix)
            }
            Self::Close | Self::SetMark | Self::HasMark | Self::ClearMark => false,
        }
    }
}
