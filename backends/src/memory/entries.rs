use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datastore_core::{Batch, Interval, Key, Op, Result};
use futures::{Stream, stream};
use imbl::OrdMap;

/// Up to this size a value is copied: by far less than the map costs, and enough for most values that
/// are cut out of a message or a block.
const COPIED_VALUE: usize = 16 * 1024;

/// How many entries a scan takes from its snapshot at first, and at most, at a time.
const FIRST_CHUNK: usize = 8;
const LARGEST_CHUNK: usize = 256;

/// The contents of a store.
#[derive(Default)]
pub(super) struct Entries {
    map: OrdMap<Key, Slot>,
    /// When each value that expires does.
    expiries: BTreeSet<(Instant, Key)>,
    /// How many commits there were: the version of the values that the last one put.
    version: u64,
}

#[derive(Clone)]
struct Slot {
    value: Bytes,
    version: u64,
    expires: Option<Instant>,
}

impl Slot {
    fn lives(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Entries {
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<&Bytes> {
        self.map
            .get(key)
            .filter(|slot| slot.lives(now))
            .map(|slot| &slot.value)
    }

    /// The version of the value of `key`, which no two values of it share.
    pub(super) fn version(&self, key: &Key, now: Instant) -> Option<u64> {
        self.map
            .get(key)
            .filter(|slot| slot.lives(now))
            .map(|slot| slot.version)
    }

    /// How long `key` still lives, if it expires.
    pub(super) fn ttl(&self, key: &Key, now: Instant) -> Option<Duration> {
        let expires = self.map.get(key)?.expires?;
        expires
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())
    }

    pub(super) fn snapshot(&self, now: Instant) -> Snapshot {
        Snapshot {
            map: self.map.clone(),
            now,
        }
    }

    /// Applies a batch, whose puts expire at `expires`, and forgets what has expired before `now`.
    pub(super) fn commit(&mut self, batch: Batch, expires: Option<Instant>, now: Instant) {
        self.version += 1;
        for op in batch {
            match op {
                Op::Put { key, value } => {
                    let value = if value.len() <= COPIED_VALUE {
                        Bytes::copy_from_slice(&value)
                    } else {
                        value
                    };
                    if let Some(expires) = expires {
                        self.expiries.insert((expires, key.clone()));
                    }
                    let slot = Slot {
                        value,
                        version: self.version,
                        expires,
                    };
                    let replaced = self.map.insert(key.clone(), slot);
                    if replaced
                        .as_ref()
                        .is_some_and(|slot| slot.expires != expires)
                    {
                        self.forget_expiry(key, replaced);
                    }
                }
                Op::Delete { key } => {
                    let removed = self.map.remove(&key);
                    self.forget_expiry(key, removed);
                }
            }
        }
        while let Some((expires, _)) = self.expiries.first()
            && *expires <= now
            && let Some((_, key)) = self.expiries.pop_first()
        {
            self.map.remove(&key);
        }
    }

    fn forget_expiry(&mut self, key: Key, slot: Option<Slot>) {
        if let Some(expires) = slot.and_then(|slot| slot.expires) {
            self.expiries.remove(&(expires, key));
        }
    }
}

/// What a store held at one moment.
pub(super) struct Snapshot {
    map: OrdMap<Key, Slot>,
    now: Instant,
}

impl Snapshot {
    pub(super) fn get(&self, key: &Key) -> Option<&Bytes> {
        self.map
            .get(key)
            .filter(|slot| slot.lives(self.now))
            .map(|slot| &slot.value)
    }

    pub(super) fn version(&self, key: &Key) -> Option<u64> {
        self.map
            .get(key)
            .filter(|slot| slot.lives(self.now))
            .map(|slot| slot.version)
    }

    /// The entries of `interval` in key order, or in reverse.
    pub(super) fn scan(
        self,
        interval: Option<Interval>,
        descending: bool,
    ) -> impl Stream<Item = Result<(Key, Bytes)>> + Send + 'static {
        // A stream owns its snapshot and so cannot hold an iterator over it: it looks up the place
        // where it was for each chunk.
        let now = self.now;
        let mut left = interval;
        let mut size = FIRST_CHUNK;
        let chunks = std::iter::from_fn(move || {
            let interval = left.take()?;
            let chunk = self.chunk(&interval, descending, size);
            if chunk.len() == size
                && let Some((key, _)) = chunk.last()
            {
                left = interval.after(key, descending);
            }
            size = (size * 2).min(LARGEST_CHUNK);
            Some(chunk)
        });
        let living = chunks.flatten().filter(move |(_, slot)| slot.lives(now));
        stream::iter(living.map(|(key, slot)| Ok((key, slot.value))))
    }

    fn chunk(&self, interval: &Interval, descending: bool, size: usize) -> Vec<(Key, Slot)> {
        let range = self.map.range::<_, [u8]>(interval.bounds());
        let owned = |(key, slot): (&Key, &Slot)| (key.clone(), slot.clone());
        if descending {
            range.rev().take(size).map(owned).collect()
        } else {
            range.take(size).map(owned).collect()
        }
    }
}
