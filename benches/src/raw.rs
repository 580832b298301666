use bytes::Bytes;
use datastore_core::{Batch, Key};

/// How many records the baseline commits for a block.
pub const RAW_RECORDS: usize = 5;

/// What the baseline commits where the replica commits one put: the block's bytes, the version's row,
/// and three records of 64 bytes, under fresh keys of the lengths that the replica's have.
pub fn five_records(number: u64, key: &Key, value: &[u8]) -> Batch {
    // A block of one put is some 150 bytes around key and value, a version's row 45 before the value.
    let mut batch = Batch::with_capacity(RAW_RECORDS);
    let hash = format!("{:052}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    batch.put(
        Key::new(format!("/raw/b/c{hash}")),
        [&[7; 150], key.as_bytes(), value].concat(),
    );
    let inline: &[u8] = if value.len() <= 4096 { value } else { &[] };
    batch.put(
        Key::new(format!("/raw/k{key}")),
        [&[7; 45], inline].concat(),
    );
    batch.put(
        Key::new(format!("/raw/i/-/{number:013}c{hash}")),
        Bytes::from_static(&[7; 64]),
    );
    batch.put(
        Key::new(format!("/raw/l/{number:013}")),
        Bytes::from_static(&[7; 64]),
    );
    batch.put(Key::new("/raw/s"), Bytes::from_static(&[7; 64]));
    batch
}
