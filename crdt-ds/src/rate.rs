//! How often something may happen.

use std::time::Duration;

/// How many events are let through: `per_second` on average, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// On average; above zero.
    pub per_second: f64,
    /// At once; at least 1.
    pub burst: u32,
}

/// Lets events through at a [`Rate`]. A plain value: time is passed in.
///
/// ```
/// use std::time::Duration;
/// use crdt_ds::sync::{Rate, TokenBucket};
///
/// let mut bucket = TokenBucket::new(Rate { per_second: 2.0, burst: 1 });
/// assert_eq!(bucket.take(Duration::ZERO), Ok(()));
/// assert_eq!(bucket.take(Duration::ZERO), Err(Duration::from_millis(500)));
/// assert_eq!(bucket.take(Duration::from_millis(500)), Ok(()));
/// ```
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: Rate,
    tokens: f64,
    filled_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            tokens: f64::from(rate.burst.max(1)),
            filled_at: Duration::ZERO,
        }
    }

    /// Takes a token at a time that never goes back, counted from any beginning.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        let burst = f64::from(self.rate.burst.max(1));
        self.tokens = (self.tokens + passed * self.rate.per_second).min(burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.tokens) / self.rate.per_second;
        Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }
}
