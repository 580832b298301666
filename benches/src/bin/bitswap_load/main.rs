//! Bitswap between two nodes beside bare request-response that moves the same bytes, and how long a
//! put takes to be visible on another node. All on loopback, in one process.
//!
//! ```sh
//! cargo run --release -p crdt-ds-benches --features libp2p --bin bitswap_load
//! ```
//!
//! Exits with an error where a figure misses its target.

mod bitswap;
mod latency;
mod request_response;

use std::error::Error;
use std::time::{Duration, Instant};

use crdt_ds::block::{Block, Format};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const BLOCKS: u32 = 10_000;
const BLOCK_BYTES: usize = 1024;
const WINDOW: usize = 256;
const PUTS: u32 = 500;

/// How long a transfer took, and the longest time in which nothing came.
struct Measured {
    took: Duration,
    longest_gap: Duration,
}

/// Takes the time of a transfer.
struct Stopwatch {
    begun: Instant,
    last: Instant,
    longest_gap: Duration,
}

impl Stopwatch {
    fn start() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            last: now,
            longest_gap: Duration::ZERO,
        }
    }

    /// Something came.
    fn lap(&mut self) {
        let now = Instant::now();
        self.longest_gap = self.longest_gap.max(now - self.last);
        self.last = now;
    }

    fn stop(self) -> Measured {
        Measured {
            took: self.begun.elapsed(),
            longest_gap: self.longest_gap,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let blocks = (0..BLOCKS)
        .map(|number| {
            let mut bytes = number.to_be_bytes().to_vec();
            bytes.resize(BLOCK_BYTES, 0);
            Block::new(Format::DagCbor, bytes.into())
        })
        .collect::<Result<Vec<Block>, _>>()?;

    println!("{BLOCKS} blocks of {BLOCK_BYTES} bytes");
    let mut missed = Vec::new();
    for (in_flight, target) in [(1, 0.7), (WINDOW, 0.3)] {
        let bare = request_response::transfer(&blocks, in_flight).await?;
        let ours = bitswap::transfer(&blocks, in_flight).await?;
        let rate = |measured: &Measured| f64::from(BLOCKS) / measured.took.as_secs_f64();
        let ratio = rate(&ours) / rate(&bare);
        println!(
            "{in_flight:4} in flight: {:18} {:9.0} blocks/s",
            "request-response",
            rate(&bare)
        );
        println!(
            "{in_flight:4} in flight: {:18} {:9.0} blocks/s, {ratio:.2} of it (target {target}), \
             longest gap {:.1?}",
            "bitswap",
            rate(&ours),
            ours.longest_gap
        );
        if ratio < target {
            missed.push(format!(
                "{in_flight} in flight: {ratio:.2} is below {target}"
            ));
        }
        if ours.longest_gap > Duration::from_millis(500) {
            missed.push(format!(
                "{in_flight} in flight: a gap of {:?}",
                ours.longest_gap
            ));
        }
    }

    let latency = latency::median(PUTS).await?;
    println!(
        "put on one node to visible on the other: median {latency:.2?} of {PUTS} (target 5 ms)"
    );
    if latency > Duration::from_millis(5) {
        missed.push(format!("a median latency of {latency:?}"));
    }
    match missed.as_slice() {
        [] => Ok(()),
        missed => Err(missed.join("; ").into()),
    }
}
