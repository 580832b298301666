use std::ops::Bound;

use bytes::Bytes;
use datastore_core::{Batch, Error, Interval, Key, Op, Result};

/// The longest key in bytes: fjall stores a key's length in 16 bits.
const MAX_KEY: usize = u16::MAX as usize;
/// The largest value in bytes. fjall stores lengths in 32 bits, also that of the block a value is
/// part of; this leaves room.
const MAX_VALUE: usize = 1 << 30;
/// The most operations of a batch: fjall stores their count in 32 bits.
const MAX_OPS: usize = u32::MAX as usize;

/// Whether fjall can take `batch`. It panics at what it cannot.
pub(super) fn check(batch: &Batch) -> Result<()> {
    limit("batch (counted in operations)", batch.len(), MAX_OPS)?;
    for op in batch.ops() {
        limit("key", op.key().len(), MAX_KEY)?;
        if let Op::Put { value, .. } = op {
            limit("value", value.len(), MAX_VALUE)?;
        }
    }
    Ok(())
}

/// Whether committing `batch` is a matter of some tens of microseconds, if it need not wait.
pub(super) fn is_short(batch: &Batch) -> bool {
    const OPS: usize = 64;
    const BYTES: usize = 256 * 1024;
    let bytes = |op: &Op| match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
    };
    batch.len() <= OPS && batch.ops().iter().map(bytes).sum::<usize>() <= BYTES
}

/// Whether a store can hold `key`. fjall panics when asked for one that it cannot.
pub(super) fn is_storable(key: &Key) -> bool {
    key.len() <= MAX_KEY
}

/// The keys of `interval` that can be stored, between bounds that fjall takes.
pub(super) fn storable(interval: Interval) -> Option<Interval> {
    let is_short = |bound: Bound<&[u8]>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => key.len() <= MAX_KEY,
        Bound::Unbounded => true,
    };
    if is_short(interval.start()) && is_short(interval.end()) {
        return Some(interval);
    }
    // Among keys that are no longer, a longer one stands right after its beginning.
    let start = match interval.start() {
        Bound::Included(key) | Bound::Excluded(key) if key.len() > MAX_KEY => Bound::Excluded(key),
        bound => bound,
    };
    let end = match interval.end() {
        Bound::Included(key) | Bound::Excluded(key) if key.len() > MAX_KEY => Bound::Included(key),
        bound => bound,
    };
    let shorten = |key: &[u8]| Bytes::copy_from_slice(key.get(..MAX_KEY).unwrap_or(key));
    Interval::new(start.map(shorten), end.map(shorten))
}

fn limit(what: &'static str, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::TooLarge {
        what,
        size: size as u64,
        limit: limit as u64,
    })
}
