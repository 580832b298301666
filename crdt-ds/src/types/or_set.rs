use std::sync::Arc;

use bytes::Bytes;
use datastore_core::{Datastore, DatastoreExt, Key, Query};
use futures::TryStreamExt;

use super::{escape, unescape};
use crate::{CrdtDatastore, Result};

/// A set of texts. An add survives a remove that did not see it (observed-remove, Shapiro et al. 2011,
/// specification 15).
///
/// A member is the key `{key}/{member}`, escaped by [`escape`]; its value is a random tag of 16 bytes,
/// so that equal adds on two replicas are two versions in either format, and a remove ends only
/// those that it saw. Adding what is there changes nothing, and so does not stand against a remove
/// elsewhere.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use crdt_ds::{CrdtDatastore, datastore::Key, types::OrSet};
/// use datastore_backends::MemoryDatastore;
///
/// let store = CrdtDatastore::builder(MemoryDatastore::new()).open().await?;
/// let tags = OrSet::open(store.clone(), Key::new("/posts/1/tags"));
/// assert!(tags.add("rust").await?);
/// assert!(!tags.add("rust").await?);
/// assert!(tags.contains("rust").await?);
/// assert!(tags.remove("rust").await?);
/// # store.close().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OrSet {
    store: CrdtDatastore,
    key: Key,
    /// Held from looking whether a member is there to changing it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A page of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Members, in the order of their keys.
    pub members: Vec<String>,
    /// Give it to get the next page; `None` if this is the last.
    pub cursor: Option<String>,
}

impl OrSet {
    /// The set at `key`. No key strictly below `key` may be used otherwise.
    pub fn open(store: CrdtDatastore, key: Key) -> Self {
        Self {
            store,
            key,
            turn: Arc::default(),
        }
    }

    /// With a lock that others share.
    #[cfg(feature = "stats")]
    pub(crate) fn sharing(
        store: CrdtDatastore,
        key: Key,
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self { store, key, turn }
    }

    fn member(&self, member: &str) -> Result<Key> {
        Ok(self.key.child_str(&escape("member", member)?))
    }

    /// Adds a member; whether it was not there.
    ///
    /// # Errors
    /// As [`CrdtDatastore::write`]; [`EmptyName`](crate::Error::EmptyName),
    /// [`NameTooLong`](crate::Error::NameTooLong) for the member.
    pub async fn add(&self, member: &str) -> Result<bool> {
        let key = self.member(member)?;
        let _turn = self.turn.lock().await;
        if self.store.has(&key).await? {
            return Ok(false);
        }
        let tag: [u8; 16] = rand::random();
        self.store.put(&key, Bytes::copy_from_slice(&tag)).await?;
        Ok(true)
    }

    /// Removes a member; whether it was there.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn remove(&self, member: &str) -> Result<bool> {
        let key = self.member(member)?;
        let _turn = self.turn.lock().await;
        if !self.store.has(&key).await? {
            return Ok(false);
        }
        self.store.delete(&key).await?;
        Ok(true)
    }

    /// Whether it is a member.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub async fn contains(&self, member: &str) -> Result<bool> {
        Ok(self.store.has(&self.member(member)?).await?)
    }

    /// How many members there are; reads each key.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn len(&self) -> Result<u64> {
        let mut keys = self
            .store
            .query(Query::new().prefix(self.key.clone()).keys_only())
            .await?;
        let mut count = 0;
        while let Some(entry) = keys.try_next().await? {
            count += u64::from(self.member_at(&entry.key).is_some());
        }
        Ok(count)
    }

    /// Whether there is no member.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.members(None, 1).await?.members.is_empty())
    }

    /// At most `limit` members, after a cursor that an earlier page gave.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn members(&self, cursor: Option<&str>, limit: usize) -> Result<Members> {
        members(&self.store, &self.key, cursor, limit).await
    }

    fn member_at(&self, key: &Key) -> Option<String> {
        member_at(&self.key, key)
    }
}

fn member_at(set: &Key, key: &Key) -> Option<String> {
    (key.parent() == *set).then(|| unescape(key.base_namespace()))?
}

/// A page of the ids that lie as escaped children under a key, in any store.
pub(crate) async fn members(
    store: &(impl Datastore + ?Sized),
    set: &Key,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Members> {
    let mut query = Query::new().prefix(set.clone()).keys_only();
    if let Some(cursor) = cursor {
        query = query.start_after(set.child_str(&escape("cursor", cursor)?));
    }
    let under = set.clone();
    // One more tells whether there is a next page.
    let query = query
        .filter_keys(move |key| member_at(&under, key).is_some())
        .limit(limit.saturating_add(1));
    let entries = store.query_all(query).await?;
    let ids = entries
        .iter()
        .filter_map(|entry| member_at(set, &entry.key));
    let mut members: Vec<String> = ids.collect();
    let more = members.len() > limit;
    members.truncate(limit);
    let cursor = members.last().filter(|_| more).cloned();
    Ok(Members { members, cursor })
}
