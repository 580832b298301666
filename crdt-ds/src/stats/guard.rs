//! What is asked before an update is made.

use std::sync::{Arc, Mutex, PoisonError};

use datastore_core::Key;
use tokio::time::Instant;

use super::Stat;
use crate::rate::{Rate, TokenBucket};
use crate::{Error, Result};

/// What an update changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A stat of a subject.
    Stat {
        /// The subject.
        subject: &'a str,
        /// The stat.
        stat: &'a Stat,
    },
    /// Any other counter.
    Key(&'a Key),
}

/// An update that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// What it changes.
    pub target: Target<'a>,
    /// What it adds.
    pub up: u64,
    /// What it subtracts.
    pub down: u64,
}

/// A hook that says why an update is not to be made.
pub type Validate = Arc<dyn Fn(&Update<'_>) -> Result<(), String> + Send + Sync>;

/// The guards of what this node's callers ask for. What peers send is merged as it is: refusing it
/// would make replicas differ.
pub(super) struct Guard {
    validate: Option<Validate>,
    bucket: Option<Mutex<TokenBucket>>,
    since: Instant,
}

impl Guard {
    pub(super) fn new(rate: Option<Rate>, validate: Option<Validate>) -> Result<Self> {
        if let Some(rate) = rate
            && !(rate.per_second > 0.0 && rate.burst >= 1)
        {
            return Err(Error::Option {
                option: "rate",
                value: format!("{rate:?}"),
                reason: "it must let something through",
            });
        }
        Ok(Self {
            validate,
            bucket: rate.map(|rate| Mutex::new(TokenBucket::new(rate))),
            since: Instant::now(),
        })
    }

    /// What is refused takes no token.
    pub(super) fn check(&self, update: &Update<'_>) -> Result<()> {
        if let Some(validate) = &self.validate {
            validate(update).map_err(|reason| Error::Refused { reason })?;
        }
        if let Some(bucket) = &self.bucket {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket
                .take(self.since.elapsed())
                .map_err(|retry_after| Error::RateLimited { retry_after })?;
        }
        Ok(())
    }
}
