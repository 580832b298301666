use std::sync::atomic::{AtomicU64, Ordering};

use datastore_core::Result;
use tokio::sync::{Mutex, MutexGuard};

/// Lets commits that wait for an fsync at the same time share one.
///
/// fjall has no such thing: it holds its journal through an fsync, so commits that come meanwhile
/// are written only after it. The next fsync therefore lets those that wait be written first.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    /// Locked, in the order of arrival, by the commit that is being written.
    turn: Mutex<()>,
    /// How many commits were written.
    written: AtomicU64,
    /// How many of them, in the same order, are durable. Locked by the one fsync that runs.
    durable: Mutex<u64>,
}

impl GroupSync {
    /// Waits until it is the caller's turn to write a commit, for as long as it keeps the guard.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Counts a commit that was written just now, and returns its number. Commits are counted in
    /// the order in which they are written.
    pub(super) fn count(&self) -> u64 {
        self.written.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Waits until the commit of that number is durable. `fsync` makes all durable that was written
    /// before it began; it runs only if none that began after the commit did it already.
    pub(super) async fn wait(
        &self,
        number: u64,
        fsync: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut durable = self.durable.lock().await;
        if *durable < number {
            // By then all that were waiting for their turn have had it.
            drop(self.turn().await);
            let written = self.written.load(Ordering::Acquire);
            fsync.await?;
            *durable = written;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use datastore_core::Error;
    use futures::FutureExt;
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn commits_written_before_an_fsync_begins_share_it() {
        let (group, fsyncs, disk) = (GroupSync::default(), AtomicUsize::new(0), Notify::new());
        let fsync = || async {
            fsyncs.fetch_add(1, Relaxed);
            disk.notified().await;
            Ok(())
        };
        let mut first = Box::pin(group.wait(group.count(), fsync()));
        assert!(first.as_mut().now_or_never().is_none(), "its fsync runs");
        let mut others = join_all((0..50).map(|_| group.wait(group.count(), fsync())));
        assert!(
            (&mut others).now_or_never().is_none(),
            "written after that fsync began"
        );
        disk.notify_one();
        first.await.unwrap();
        assert!(
            (&mut others).now_or_never().is_none(),
            "an fsync for all of them runs"
        );
        disk.notify_one();
        for result in others.await {
            result.unwrap();
        }
        assert_eq!(fsyncs.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn an_fsync_lets_commits_that_wait_be_written_first() {
        let (group, fsyncs) = (GroupSync::default(), AtomicUsize::new(0));
        let fsync = || async {
            fsyncs.fetch_add(1, Relaxed);
            Ok(())
        };
        let commit = async || {
            let turn = group.turn().await;
            let number = group.count();
            drop(turn);
            group.wait(number, fsync()).await.unwrap();
        };
        let turn = group.turn().await;
        let mut commits = join_all((0..50).map(|_| commit()));
        assert!(
            (&mut commits).now_or_never().is_none(),
            "they wait for their turn"
        );
        drop(turn);
        commits.await;
        assert_eq!(fsyncs.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_fsync_makes_nothing_durable() {
        let group = GroupSync::default();
        let number = group.count();
        let failed = group.wait(number, async { Err(Error::Closed) }).await;
        assert!(failed.is_err());
        let again = group.wait(number, async { Err(Error::Closed) }).await;
        assert!(
            again.is_err(),
            "a later success must not be taken for granted"
        );
    }
}
