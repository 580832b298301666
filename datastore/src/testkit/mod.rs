//! The conformance test-kit: every case of the [`Datastore`] contract, for any
//! store.
//!
//! A store describes itself with a [`Factory`], and
//! [`datastore_testkit!`](crate::datastore_testkit) makes one `#[test]` for each case:
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use datastore_core::{Datastore, testkit};
//!
//! struct Stores;
//! # async fn open() -> Arc<dyn Datastore> {
//! #     unimplemented!()
//! # }
//!
//! #[async_trait]
//! impl testkit::Factory for Stores {
//!     async fn fresh(&self) -> Arc<dyn Datastore> {
//!         open().await
//!     }
//! }
//!
//! mod conformance {
//!     datastore_core::datastore_testkit!(super::Stores);
//! }
//! ```
//!
//! Randomised cases print their seed, and take it from `DATASTORE_TESTKIT_SEED`.

// A test-kit fails by panicking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[doc(hidden)]
pub mod cases;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Batch, Datastore, DatastoreExt, Key, Query};

/// Makes the stores that the cases test. Each case makes a factory of its own.
#[async_trait]
pub trait Factory: Send + Sync {
    /// A new, empty store.
    async fn fresh(&self) -> Arc<dyn Datastore>;

    /// Opens again, as another process would, the store that [`fresh`](Self::fresh) made last and that
    /// was closed since; `None` if a closed store is gone, and the cases of persistence have nothing
    /// to test.
    async fn reopen(&self) -> Option<Arc<dyn Datastore>> {
        None
    }

    /// The size in bytes of the largest value that the store takes; `None` if only memory limits it.
    /// A larger one must be refused with [`TooLarge`](crate::Error::TooLarge).
    fn largest_value(&self) -> Option<u64> {
        None
    }

    /// After how many bytes written the store reorganises itself behind its readers, as an LSM tree
    /// does when it flushes a memtable. The case of readers that race writers writes twice that.
    fn flushes_after(&self) -> u64 {
        4 << 20
    }

    /// Which extras the store must have, and no others.
    fn extras(&self) -> ExtraSet {
        ExtraSet::default()
    }
}

/// Which [`Extras`](crate::Extras) a store has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtraSet {
    /// Transactions.
    pub transactions: bool,
    /// TTL.
    pub ttl: bool,
    /// Disk usage.
    pub disk_usage: bool,
    /// Garbage collection.
    pub garbage_collection: bool,
    /// Integrity check.
    pub check: bool,
    /// Instance.
    pub instance: bool,
}

/// Makes one `#[test]` for each case of the [`testkit`](crate::testkit), each with a
/// [`Factory`](crate::testkit::Factory) of its own from the expression. Use it in a module of its own.
#[macro_export]
macro_rules! datastore_testkit {
    ($factory:expr $(,)?) => {
        $crate::datastore_testkit! { @on 0 threads, $factory;
            a_value_is_read_back
            a_put_overwrites_and_a_delete_removes
            deleting_what_is_not_there_succeeds
            an_empty_value_is_a_value
            a_key_and_its_prefix_are_independent
            odd_keys_are_kept_apart
            long_keys_work
            the_root_is_a_key_like_any_other
            a_prefix_selects_strict_children
            entries_come_in_byte_order
            every_query_option_agrees_with_the_model
            pages_by_start_after_hold_every_entry_once
            a_query_keeps_its_snapshot
            a_query_may_be_dropped_part_way
            a_dropped_batch_leaves_nothing
            the_last_operation_on_a_key_wins
            an_empty_commit_does_nothing
            a_batch_with_a_refused_operation_leaves_nothing
            a_dropped_commit_leaves_all_or_nothing
            values_of_every_size_are_read_back
            a_hundred_thousand_keys_are_kept
            a_closed_store_refuses_everything
            what_was_committed_is_there_after_reopening
            extras_are_those_announced
            a_transaction_is_all_or_nothing
            a_transaction_conflicts_with_a_change_of_what_it_read
            values_expire_when_their_time_is_over
            marks_are_there_until_cleared
            maintenance_keeps_the_data
        }
        $crate::datastore_testkit! { @on 4 threads, $factory;
            readers_never_see_half_a_batch
            writers_at_once_lose_nothing
            a_dropped_commit_leaves_all_or_nothing_on_threads
        }
    };
    (@on $threads:literal threads, $factory:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::testkit::run($threads, async {
                    $crate::testkit::cases::$case(&$factory).await;
                });
            }
        )*
    };
}

/// Runs a case to its end: on a runtime with so many threads, or with 0 on one of the caller's thread.
#[doc(hidden)]
pub fn run(threads: usize, case: impl Future<Output = ()>) {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(case);
}

fn batch_of<V: Into<bytes::Bytes>>(puts: impl IntoIterator<Item = (Key, V)>) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in puts {
        batch.put(key, value);
    }
    batch
}

/// The keys that a query returns.
async fn keys_of(store: &dyn Datastore, query: Query) -> Vec<Key> {
    let entries = store.query_all(query.keys_only()).await.unwrap();
    entries.into_iter().map(|entry| entry.key).collect()
}

/// Closes a store and opens it again, if it is still there.
async fn reopened(factory: &dyn Factory, store: Arc<dyn Datastore>) -> Option<Arc<dyn Datastore>> {
    store.close().await.unwrap();
    drop(store);
    factory.reopen().await
}
