//! An announcement is refused, or says the same when it is written again.
#![no_main]

use bytes::Bytes;
use crdt_ds::sync::{Announcement, AnnouncementLimits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = AnnouncementLimits {
        max_payload_bytes: 1 << 20,
        max_block_bytes: 1 << 20,
    };
    let Ok(announcement) = Announcement::decode(&Bytes::copy_from_slice(data), &limits) else {
        return;
    };
    let payloads = announcement.encode(&limits);
    assert_eq!(payloads.len(), usize::from(!announcement.heads.is_empty()));
    for payload in payloads {
        assert_eq!(
            Announcement::decode(&payload, &limits).expect("it was written"),
            announcement
        );
    }
});
