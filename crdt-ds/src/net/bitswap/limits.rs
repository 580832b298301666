use std::time::Duration;

/// The bounds of bitswap on this node.
///
/// ```
/// use crdt_ds::net::bitswap::Limits;
///
/// let limits = Limits { max_wants_per_peer: 4096, ..Limits::default() };
/// assert_eq!(limits.max_message_bytes, 4 << 20);
/// ```
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most bytes of a message, in and out: 4 MiB, which is where go-libp2p stops reading. A
    /// block that does not fit into one is not served. Of the messages of one peer that are being
    /// read, those above 16 KiB are together no larger than this.
    pub max_message_bytes: usize,
    /// A reply is sent when it has this many bytes: 256 KiB, so that a slow link sees progress.
    pub reply_bytes: usize,
    /// A peer that asks whether we have a block of at most this many bytes gets it at once: 1 KiB,
    /// as in Go.
    pub have_becomes_block_bytes: usize,
    /// The most wants that we remember of a peer: 1,024, as in Go. More are answered DONT_HAVE.
    pub max_wants_per_peer: usize,
    /// How long we remember a want for a block that is not here: 10 minutes.
    pub want_expiry: Duration,
    /// The most wants that we have with one peer: 1,024, which is what Go remembers.
    pub max_wants_at_peer: usize,
    /// The most streams that a peer may have open to us: 128. Go opens one a reply.
    pub max_streams_per_peer: usize,
    /// How long a message may take from its first byte to its last, in or out: 30 seconds.
    pub message_timeout: Duration,
    /// The most blocks of one fetch that are asked for or not taken by its caller yet: 256.
    pub fetch_window: usize,
    /// The most bytes of one fetch that its caller has not taken yet: 16 MiB. A block above that is
    /// dropped and asked for again later.
    pub fetch_buffer_bytes: usize,
    /// How long the peer that was asked first may take before others are asked: 1 second.
    pub ask_others_after: Duration,
    /// The most peers that are asked for a block at a time, besides the first: 16.
    pub ask_others: usize,
    /// How long a block is waited for that every peer denies: 2 seconds. A peer that gets it in that
    /// time sends it by itself.
    pub not_found_after: Duration,
    /// How long a block is waited for at all: 30 seconds.
    pub fetch_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            reply_bytes: 256 << 10,
            have_becomes_block_bytes: 1 << 10,
            max_wants_per_peer: 1024,
            want_expiry: Duration::from_secs(600),
            max_wants_at_peer: 1024,
            max_streams_per_peer: 128,
            message_timeout: Duration::from_secs(30),
            fetch_window: 256,
            fetch_buffer_bytes: 16 << 20,
            ask_others_after: Duration::from_secs(1),
            ask_others: 16,
            not_found_after: Duration::from_secs(2),
            fetch_timeout: Duration::from_secs(30),
        }
    }
}
