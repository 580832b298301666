use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use datastore_core::Key;

use crate::block::Format;
use crate::{Error, Result};

/// Called after a commit, in commit order, with each key whose visible value was set, perhaps in the
/// task of the caller that wrote. The next commit waits for it, so it must not block, nor wait for a
/// write; one that panics is logged.
pub type PutHook = Arc<dyn Fn(&Key, &Bytes) + Send + Sync>;

/// Called after a commit, in commit order, with each key that is no longer there, as a [`PutHook`].
pub type DeleteHook = Arc<dyn Fn(&Key) + Send + Sync>;

/// The wall clock: microseconds since 1970. Orders concurrent writes in DAG-CBOR.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How a replica behaves. Each field says its default and why; set them through
/// [`Builder`](crate::Builder) or here.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// How blocks are written; for the life of the store. Default: DAG-CBOR. A network with
    /// go-ds-crdt peers is DAG-PB.
    pub format: Format,
    /// The network that the store belongs to, for life: at most 64 bytes. Default: empty.
    pub network: String,
    /// Where the rows lie in the datastore underneath. Default: `/crdt`.
    pub namespace: Key,
    /// How often heads that nobody announced lately are announced again, ± 30 %. Default: 1 minute,
    /// as in Go.
    pub rebroadcast_interval: Duration,
    /// How long a first write waits for others to share its block. Default: 0: writes that are
    /// queued already go out together, none is held back.
    pub batch_delay: Duration,
    /// How many fetches run at once, each of up to 64 blocks. Default: 5, as in Go.
    pub workers: usize,
    /// How long a fetch may take. Default: 1 minute.
    pub fetch_timeout: Duration,
    /// The pause before a block that nobody served is asked for again; it doubles each time.
    /// Default: 500 ms.
    pub retry_min: Duration,
    /// The longest such pause. Default: 1 minute.
    pub retry_max: Duration,
    /// The most bytes that a block of ours has. Default: 1 MiB, as in Go; at least 8 KiB, at most 4 MiB,
    /// the format's limit. Bitswap carries about 2 MiB.
    pub max_delta_bytes: usize,
    /// The largest value that is stored in its key's row; a larger one is read from its block.
    /// Default: 4 KiB: smaller ones are read with one look-up, larger ones are stored once.
    pub max_inline_bytes: usize,
    /// How many pending blocks keep their bytes. Default: 16,384; at 1 MiB each 16 GiB of disk.
    pub max_pending_bodies: u64,
    /// How many pending blocks are known at all. Default: 10 million, about 4 GiB of disk.
    pub max_pending: u64,
    /// How many wants the blocks that one peer announced may leave behind. Default: 100,000.
    pub max_wants_per_peer: u64,
    /// How long a DAG-PB block that no connected peer serves holds up those above it. Zero merges
    /// newest first, as Go does. Default: 10 minutes.
    pub gap_after: Duration,
    /// The largest block that rides along in an announcement. Default: 16 KiB.
    pub ride_along_bytes: usize,
    /// How many writes may be queued; more wait. Default: 1,024.
    pub queue_capacity: usize,
    /// How many commits a subscriber may be behind before it reads from the log. Default: 1,024.
    pub change_capacity: usize,
    /// Make each commit durable before it is announced and returned, by a sync of the datastore.
    /// Default: off.
    pub durable: bool,
    /// Called for each key that was set.
    pub put_hook: Option<PutHook>,
    /// Called for each key that was removed.
    pub delete_hook: Option<DeleteHook>,
    /// The wall clock. Default: the system's.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::default(),
            network: String::new(),
            namespace: Key::new("/crdt"),
            rebroadcast_interval: Duration::from_secs(60),
            batch_delay: Duration::ZERO,
            workers: 5,
            fetch_timeout: Duration::from_secs(60),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            max_delta_bytes: 1024 * 1024,
            max_inline_bytes: 4096,
            max_pending_bodies: 16_384,
            max_pending: 10_000_000,
            max_wants_per_peer: 100_000,
            gap_after: Duration::from_secs(600),
            ride_along_bytes: 16 * 1024,
            queue_capacity: 1024,
            change_capacity: 1024,
            durable: false,
            put_hook: None,
            delete_hook: None,
            clock: Arc::new(system_clock),
        }
    }
}

fn system_clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// What a block needs for its links, at most 64, and its names is below half of this.
const MIN_DELTA_BYTES: usize = 8 * 1024;

/// The most bytes that a network id may have.
pub const MAX_NETWORK_BYTES: usize = 64;

impl Options {
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |option, value: String, reason| {
            Err(Error::Option {
                option,
                value,
                reason,
            })
        };
        if self.network.len() > MAX_NETWORK_BYTES {
            return Err(Error::NameTooLong {
                what: "network id",
                size: self.network.len(),
                limit: MAX_NETWORK_BYTES,
            });
        }
        if !(MIN_DELTA_BYTES..=crate::block::MAX_BLOCK_BYTES).contains(&self.max_delta_bytes) {
            return refuse(
                "max_delta_bytes",
                self.max_delta_bytes.to_string(),
                "it must lie between 8 KiB and the format's limit of 4 MiB",
            );
        }
        for (option, value) in [
            ("workers", self.workers),
            ("queue_capacity", self.queue_capacity),
            ("change_capacity", self.change_capacity),
        ] {
            if value == 0 {
                return refuse(option, value.to_string(), "it must be at least 1");
            }
        }
        if self.rebroadcast_interval.is_zero() {
            return refuse(
                "rebroadcast_interval",
                "0".to_owned(),
                "it must be above zero",
            );
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("format", &self.format)
            .field("network", &self.network)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
