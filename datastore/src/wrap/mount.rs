use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    Batch, Check, Datastore, DiskUsage, Entry, Error, Extras, GarbageCollection, Key, Op, Query,
    QueryStream, Result, Ttl,
};

/// Several stores as one: each is mounted at a key, and holds that key (as its root) and what is
/// below it, unless a longer mount key holds it.
///
/// - A batch whose keys lie in several mounts is refused with
///   [`AcrossMounts`](Error::AcrossMounts), since no commit could make it atomic.
/// - `query` and `get_many` read one snapshot of each mount. As no commit spans mounts, they still
///   see every commit wholly or not at all; but a later one in one mount may be seen where an earlier
///   one in another is not.
/// - Where nothing is mounted there is nothing to read and nothing to delete; a put there fails with
///   [`NotMounted`](Error::NotMounted).
/// - Closing it closes every mount. TTL, disk usage (the sum), garbage collection and check are there
///   if every mount has them; transactions and instance are not.
///
/// ```
/// use std::sync::Arc;
///
/// use datastore_core::{Datastore, Key, MountDatastore, Result};
///
/// fn mount(fast: Arc<dyn Datastore>, large: Arc<dyn Datastore>) -> Result<MountDatastore> {
///     MountDatastore::new([(Key::root(), fast), (Key::new("/blocks"), large)])
/// }
/// ```
#[derive(Clone)]
pub struct MountDatastore {
    /// Longest prefix first, so the first that holds a key owns it.
    mounts: Arc<[Mount]>,
}

struct Mount {
    prefix: Key,
    store: Arc<dyn Datastore>,
    /// Keys of the store below which another mount hides it.
    hidden: Arc<[Key]>,
}

impl MountDatastore {
    /// A store of these mounts.
    ///
    /// # Errors
    /// [`MountedTwice`](Error::MountedTwice) if two have one key.
    pub fn new(mounts: impl IntoIterator<Item = (Key, Arc<dyn Datastore>)>) -> Result<Self> {
        let mut mounts: Vec<_> = mounts.into_iter().collect();
        mounts.sort_by(|(a, _), (b, _)| (Reverse(a.len()), a).cmp(&(Reverse(b.len()), b)));
        let keys: Vec<Key> = mounts.iter().map(|(prefix, _)| prefix.clone()).collect();
        if let Some(key) = keys
            .iter()
            .zip(keys.iter().skip(1))
            .find_map(|(a, b)| (a == b).then_some(a))
        {
            return Err(Error::MountedTwice { key: key.clone() });
        }
        let mounts = mounts.into_iter().map(|(prefix, store)| Mount {
            hidden: keys
                .iter()
                .filter(|key| key.is_descendant_of(&prefix))
                .filter_map(|key| key.strip_prefix(&prefix))
                .collect(),
            prefix,
            store,
        });
        Ok(Self {
            mounts: mounts.collect(),
        })
    }

    /// The mount that owns `key`, and what the key is there.
    fn owner(&self, key: &Key) -> Option<(&Mount, Key)> {
        self.mounts
            .iter()
            .find_map(|mount| Some((mount, key.strip_prefix(&mount.prefix)?)))
    }

    /// The one mount that a batch writes to, and the batch for it; `None` if it writes nothing.
    fn owner_of_batch(&self, batch: Batch) -> Result<Option<(&Mount, Batch)>> {
        let mut owner: Option<&Mount> = None;
        let mut inner = Batch::with_capacity(batch.len());
        for op in batch {
            let Some((mount, key)) = self.owner(op.key()) else {
                match op {
                    Op::Delete { .. } => continue,
                    Op::Put { key, .. } => return Err(Error::NotMounted { key }),
                }
            };
            let first = &owner.get_or_insert(mount).prefix;
            if *first != mount.prefix {
                let (first, second) = (first.clone(), mount.prefix.clone());
                return Err(Error::AcrossMounts { first, second });
            }
            inner.push(match op {
                Op::Put { value, .. } => Op::Put { key, value },
                Op::Delete { .. } => Op::Delete { key },
            });
        }
        Ok(owner.map(|owner| (owner, inner)))
    }

    /// Whether each mount has an extra.
    fn all_have(&self, extra: impl Fn(Extras<'_>) -> bool) -> bool {
        self.mounts.iter().all(|mount| extra(mount.store.extras()))
    }
}

impl fmt::Debug for MountDatastore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = self.mounts.iter().map(|mount| &mount.prefix);
        f.debug_list().entries(prefixes).finish()
    }
}

#[async_trait]
impl Datastore for MountDatastore {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        match self.owner(key) {
            Some((mount, key)) => mount.store.get(&key).await,
            None => Ok(None),
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; keys.len()];
        for mount in self.mounts.iter() {
            let mut places = Vec::new();
            let mut inner = Vec::new();
            for (key, place) in keys.iter().zip(&mut values) {
                if let Some((owner, key)) = self.owner(key)
                    && owner.prefix == mount.prefix
                {
                    inner.push(key);
                    places.push(place);
                }
            }
            if !inner.is_empty() {
                for (place, value) in places.into_iter().zip(mount.store.get_many(&inner).await?) {
                    *place = value;
                }
            }
        }
        Ok(values)
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        match self.owner(key) {
            Some((mount, key)) => mount.store.has(&key).await,
            None => Ok(false),
        }
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        match self.owner(key) {
            Some((mount, key)) => mount.store.get_size(&key).await,
            None => Ok(None),
        }
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        match self.owner_of_batch(batch)? {
            Some((mount, batch)) => mount.store.commit(batch).await,
            None => Ok(()),
        }
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        let mut scans = Vec::new();
        for mount in self.mounts.iter() {
            let Some(mut scan) = query.scan_within(&mount.prefix) else {
                continue;
            };
            let hidden = mount.hidden.clone();
            if !hidden.is_empty() {
                scan = scan.filter_keys(move |key| {
                    !hidden
                        .iter()
                        .any(|hidden| key.strip_prefix(hidden).is_some())
                });
            }
            let prefix = mount.prefix.clone();
            let entries = mount.store.query(scan).await?;
            scans.push(entries.map_ok(move |Entry { key, value, .. }| {
                (prefix.child(&key), value.unwrap_or_default())
            }));
        }
        let descending = query.descending();
        Ok(query.apply(merged(scans, descending)))
    }

    async fn sync(&self, prefix: &Key) -> Result<()> {
        if let Some((mount, prefix)) = self.owner(prefix) {
            mount.store.sync(&prefix).await?;
        }
        for mount in self
            .mounts
            .iter()
            .filter(|mount| mount.prefix.is_descendant_of(prefix))
        {
            mount.store.sync(&Key::root()).await?;
        }
        Ok(())
    }

    /// Closes every mount, also after one failed.
    async fn close(&self) -> Result<()> {
        let mut closed = Ok(());
        for mount in self.mounts.iter() {
            closed = closed.and(mount.store.close().await);
        }
        closed
    }

    fn extras(&self) -> Extras<'_> {
        Extras {
            ttl: self
                .all_have(|extras| extras.ttl.is_some())
                .then_some(self as _),
            disk_usage: self
                .all_have(|extras| extras.disk_usage.is_some())
                .then_some(self as _),
            garbage_collection: self
                .all_have(|extras| extras.garbage_collection.is_some())
                .then_some(self as _),
            check: self
                .all_have(|extras| extras.check.is_some())
                .then_some(self as _),
            ..Extras::default()
        }
    }
}

/// Ordered scans as one ordered scan. It holds one entry of each.
fn merged<S>(scans: Vec<S>, descending: bool) -> impl Stream<Item = Result<(Key, Bytes)>> + Send
where
    S: Stream<Item = Result<(Key, Bytes)>> + Send + Unpin + 'static,
{
    let scans: Vec<_> = scans.into_iter().map(|scan| scan.peekable()).collect();
    stream::try_unfold(scans, move |mut scans| async move {
        let mut next: Option<(usize, Key)> = None;
        for (index, scan) in scans.iter_mut().enumerate() {
            let key = match std::pin::Pin::new(&mut *scan).peek().await {
                None => continue,
                Some(Ok((key, _))) => key,
                Some(Err(error)) => return Err(error.clone()),
            };
            if next
                .as_ref()
                .is_none_or(|(_, best)| if descending { key > best } else { key < best })
            {
                next = Some((index, key.clone()));
            }
        }
        let Some(scan) = next.and_then(|(index, _)| scans.get_mut(index)) else {
            return Ok(None);
        };
        let entry = scan.try_next().await?;
        Ok(entry.map(|entry| (entry, scans)))
    })
}

fn unsupported(what: &'static str) -> Error {
    Error::Unsupported {
        store: "a mounted datastore",
        what,
    }
}

#[async_trait]
impl Ttl for MountDatastore {
    async fn commit_with_ttl(&self, batch: Batch, ttl: Duration) -> Result<()> {
        let Some((mount, batch)) = self.owner_of_batch(batch)? else {
            return Ok(());
        };
        let extra = mount.store.extras().ttl.ok_or(unsupported("TTL"))?;
        extra.commit_with_ttl(batch, ttl).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Duration>> {
        let Some((mount, key)) = self.owner(key) else {
            return Ok(None);
        };
        mount
            .store
            .extras()
            .ttl
            .ok_or(unsupported("TTL"))?
            .ttl(&key)
            .await
    }
}

#[async_trait]
impl DiskUsage for MountDatastore {
    async fn disk_usage(&self) -> Result<u64> {
        let mut sum = 0u64;
        for mount in self.mounts.iter() {
            let extra = mount
                .store
                .extras()
                .disk_usage
                .ok_or(unsupported("disk usage"))?;
            sum = sum.saturating_add(extra.disk_usage().await?);
        }
        Ok(sum)
    }
}

#[async_trait]
impl GarbageCollection for MountDatastore {
    async fn collect_garbage(&self) -> Result<()> {
        for mount in self.mounts.iter() {
            let extra = mount.store.extras().garbage_collection;
            extra
                .ok_or(unsupported("garbage collection"))?
                .collect_garbage()
                .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Check for MountDatastore {
    async fn check(&self) -> Result<()> {
        for mount in self.mounts.iter() {
            mount
                .store
                .extras()
                .check
                .ok_or(unsupported("check"))?
                .check()
                .await?;
        }
        Ok(())
    }
}
