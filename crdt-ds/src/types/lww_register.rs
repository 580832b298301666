use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use datastore_core::Key;

use crate::{Clock, CrdtDatastore, Result};

/// One value; the one written last wins, by the writers' clocks (Shapiro et al. 2011, specification
/// 9).
///
/// Its key holds the time of the write, big-endian microseconds since 1970 in 8 bytes, and then the
/// value. Of several live versions the one with the latest time counts, of equal times the one with
/// the greatest bytes: in either format, though priorities in DAG-PB know no time. A write is always later than
/// what its writer saw, also if its clock is behind. A writer whose clock is ahead wins until others'
/// clocks get there, and for good at the end of the numbers: keep clocks in order.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use crdt_ds::{CrdtDatastore, datastore::Key, types::LwwRegister};
/// use datastore_backends::MemoryDatastore;
///
/// let store = CrdtDatastore::builder(MemoryDatastore::new()).open().await?;
/// let name = LwwRegister::open(store.clone(), Key::new("/users/1/name"));
/// name.set("Ada".into()).await?;
/// assert_eq!(name.get().await?.as_deref(), Some(&b"Ada"[..]));
/// # store.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct LwwRegister {
    store: CrdtDatastore,
    key: Key,
    clock: Clock,
    /// Held from reading the time to writing a later one.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl LwwRegister {
    /// The register at `key`.
    pub fn open(store: CrdtDatastore, key: Key) -> Self {
        Self::with_clock(store, key, Arc::new(system_clock))
    }

    /// The register at `key`, with a clock of the caller's.
    pub fn with_clock(store: CrdtDatastore, key: Key, clock: Clock) -> Self {
        Self {
            store,
            key,
            clock,
            turn: Arc::default(),
        }
    }

    /// Sets the value; at which time.
    ///
    /// # Errors
    /// As [`CrdtDatastore::write`].
    pub async fn set(&self, value: Bytes) -> Result<u64> {
        let _turn = self.turn.lock().await;
        let seen = self.latest().await?.map(|(time, _)| time);
        let time = (self.clock)().max(seen.map_or(0, |seen| seen.saturating_add(1)));
        let row = [&time.to_be_bytes(), value.as_ref()].concat();
        self.store.put(&self.key, row.into()).await?;
        Ok(time)
    }

    /// The value; `None` if it was never set, or cleared.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn get(&self) -> Result<Option<Bytes>> {
        Ok(self.latest().await?.map(|(_, value)| value))
    }

    /// When the value was set: microseconds since 1970, by the writer's clock.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn time(&self) -> Result<Option<u64>> {
        Ok(self.latest().await?.map(|(time, _)| time))
    }

    /// Removes the value. One that is set concurrently elsewhere stays.
    ///
    /// # Errors
    /// As [`CrdtDatastore::write`].
    pub async fn clear(&self) -> Result<()> {
        self.store.delete(&self.key).await?;
        Ok(())
    }

    async fn latest(&self) -> Result<Option<(u64, Bytes)>> {
        let versions = self.store.versions(&self.key).await?;
        let dated = versions.into_iter().filter_map(|version| {
            let (time, _) = version.value.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*time), version.value.slice(8..)))
        });
        Ok(dated.max())
    }
}

impl std::fmt::Debug for LwwRegister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LwwRegister")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn system_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
