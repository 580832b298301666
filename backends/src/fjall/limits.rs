use datastore_core::{Batch, Error, Op, Result};

/// The longest key in bytes: fjall stores a key's length in 16 bits.
pub(super) const MAX_KEY: u64 = u16::MAX as u64;
/// The largest value in bytes. fjall stores lengths in 32 bits, also that of the block a value is
/// part of; this leaves room.
pub(super) const MAX_VALUE: u64 = 1 << 30;
/// The most operations of a batch: fjall stores their count in 32 bits.
const MAX_OPS: u64 = u32::MAX as u64;

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

fn limit(what: &'static str, size: usize, limit: u64) -> Result<()> {
    let size = size as u64;
    if size <= limit {
        Ok(())
    } else {
        Err(Error::TooLarge { what, size, limit })
    }
}
