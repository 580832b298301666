//! The one place where a replica changes: what is queued goes out together, as one commit.
//!
//! A task of the replica's own takes the queue. It shares the [`Committer`] with callers: one that is
//! alone commits by itself, which saves it the way to the task and back.
//!
//! RULE: a caller is alone if nothing waits and the last [`PROBE`] groups had one request each. One commit
//! in so many goes through the queue all the same, so that writes which are polled together are found
//! to be so and share a block again, and so that a caller that never waits lets other tasks run.
//! INVARIANT 2: a commit that is begun is ended, whatever becomes of the caller: what its first poll
//! leaves goes on in a task.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datastore_core::Key;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast, mpsc, oneshot};

use super::changes::CommitEvent;
use super::shared::{Counters, Shared};
use crate::replica::{Committed, Outcome, Replica, Work};
use crate::sync::LocalHead;
use crate::{Error, Result};

/// How many bytes of blocks that arrived one commit takes, about.
const MAX_ARRIVED_BYTES: usize = 8 * 1024 * 1024;

/// See the rule above.
const PROBE: u32 = 16;

/// Work for the committer, and who waits for it.
pub(crate) struct Request {
    work: Vec<Work>,
    /// Bytes of the delta that writes add, or of the blocks that arrived.
    bytes: usize,
    caller: Caller,
}

/// Where to say what came of a request. Until then it counts as waiting, also when it is taken from
/// the queue, so that no lone caller overtakes it.
struct Caller {
    reply: Option<oneshot::Sender<Result<Vec<Outcome>>>>,
    shared: Arc<Shared>,
}

impl Caller {
    fn tell(mut self, outcomes: Result<Vec<Outcome>>) {
        let reply = self.reply.take();
        drop(self);
        // Who asked may be gone.
        let _ = reply.map(|reply| reply.send(outcomes));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Request {
    /// A request, and where its outcomes come.
    pub(crate) fn new(
        work: Vec<Work>,
        bytes: usize,
        shared: &Arc<Shared>,
    ) -> (Self, oneshot::Receiver<Result<Vec<Outcome>>>) {
        let (reply, outcomes) = oneshot::channel();
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let caller = Caller {
            reply: Some(reply),
            shared: shared.clone(),
        };
        let request = Self {
            work,
            bytes,
            caller,
        };
        (request, outcomes)
    }

    fn is_write(&self) -> bool {
        self.work.iter().any(|work| matches!(work, Work::Write(_)))
    }
}

enum Next {
    Request(Request),
    Ready,
    Closed,
}

/// The queue's end where requests are taken, and who does them.
pub(crate) struct Worker {
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) committer: Arc<Mutex<Committer>>,
    pub(crate) shared: Arc<Shared>,
}

/// What became of the last commit, as far as the next step depends on it.
#[derive(Clone, Copy)]
struct Last {
    failed: bool,
    /// Pending blocks can go on that it had no room for.
    more: bool,
}

impl Worker {
    /// Runs until every handle is dropped, then gives the committer back.
    pub(crate) async fn run(mut self) -> OwnedMutexGuard<Committer> {
        let mut held = None;
        let mut last = Last {
            failed: false,
            more: self.committer.lock().await.has_more(),
        };
        loop {
            let first = match held.take() {
                Some(first) => Some(first),
                None => match self.next(last).await {
                    Next::Request(first) => Some(first),
                    Next::Ready => None,
                    Next::Closed => return self.committer.lock_owned().await,
                },
            };
            let committer = self.committer.clone();
            let mut committer = committer.lock().await;
            let requests = match first {
                Some(first) => self.group(first, &mut held).await,
                None => Vec::new(),
            };
            last = committer.commit(requests).await;
        }
    }

    /// What to do next. Blocks that are ready to merge go on without being asked, after a pause if
    /// the last commit failed.
    async fn next(&mut self, last: Last) -> Next {
        if !last.more {
            return self.queue.recv().await.map_or(Next::Closed, Next::Request);
        }
        if last.failed {
            let pause = self.shared.options.retry_min;
            return match tokio::time::timeout(pause, self.queue.recv()).await {
                Ok(Some(request)) => Next::Request(request),
                Ok(None) => Next::Closed,
                Err(_) => Next::Ready,
            };
        }
        tokio::task::yield_now().await;
        match self.queue.try_recv() {
            Ok(request) => Next::Request(request),
            Err(TryRecvError::Empty) => Next::Ready,
            Err(TryRecvError::Disconnected) => Next::Closed,
        }
    }

    /// What is queued and fits into one commit; what does not is held for the next.
    async fn group(&mut self, first: Request, held: &mut Option<Request>) -> Vec<Request> {
        let delay = self.shared.options.batch_delay;
        let deadline =
            (first.is_write() && !delay.is_zero()).then(|| tokio::time::Instant::now() + delay);
        let max_writes = self.shared.rules.max_delta_bytes;
        let max_blocks = self.shared.rules.max_merges;
        let (mut written, mut arrived, mut blocks) = (0, 0, 0);
        let mut requests = Vec::new();
        let mut next = Some(first);
        loop {
            let request = match next.take() {
                Some(request) => request,
                None => match self.queue.try_recv() {
                    Ok(request) => request,
                    Err(_) => match deadline {
                        Some(deadline) => {
                            match tokio::time::timeout_at(deadline, self.queue.recv()).await {
                                Ok(Some(request)) => request,
                                _ => return requests,
                            }
                        }
                        None => return requests,
                    },
                },
            };
            if request.is_write() {
                written += request.bytes;
            } else {
                arrived += request.bytes;
                blocks += request.work.len();
            }
            let full = written > max_writes || arrived > MAX_ARRIVED_BYTES || blocks > max_blocks;
            if full && !requests.is_empty() {
                *held = Some(request);
                return requests;
            }
            requests.push(request);
        }
    }
}

/// The replica, and whom to tell of its commits.
pub(crate) struct Committer {
    replica: Replica,
    changes: broadcast::Sender<Arc<CommitEvent>>,
    shared: Arc<Shared>,
    /// How many groups in a row had one request.
    singles: u32,
}

impl Committer {
    pub(crate) fn new(
        replica: Replica,
        changes: broadcast::Sender<Arc<CommitEvent>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            replica,
            changes,
            shared,
            singles: 0,
        }
    }

    /// Whether a caller that finds nothing queued may commit by itself.
    pub(crate) fn can_be_lent(&self) -> bool {
        self.singles >= PROBE
            && !self.singles.is_multiple_of(PROBE)
            && !self.has_more()
            && self.shared.options.batch_delay.is_zero()
    }

    fn has_more(&self) -> bool {
        self.replica.state().has_more_to_merge()
    }

    /// Commits a caller's request in the caller's poll, as far as that goes.
    pub(crate) fn commit_here(
        mut committer: OwnedMutexGuard<Self>,
        request: Request,
        queue: mpsc::Sender<Request>,
        runtime: &Handle,
    ) {
        let mut commit = Box::pin(async move {
            if committer.commit(vec![request]).await.more {
                // The task looks after each request. If there is no room for this one, it is about to.
                let (look, _) = Request::new(Vec::new(), 0, &committer.shared);
                let _ = queue.try_send(look);
            }
        });
        let _entered = runtime.enter();
        if commit.as_mut().now_or_never().is_none() {
            runtime.spawn(commit);
        }
    }

    /// Closes the replica, once no more work comes.
    pub(crate) async fn close(&mut self) -> Result<()> {
        self.replica.close().await
    }

    /// Commits the requests as one; if they fail together, each by itself.
    async fn commit(&mut self, requests: Vec<Request>) -> Last {
        self.singles = match requests.len() {
            1 => self.singles.wrapping_add(1),
            _ => 0,
        };
        let (work, callers): (Vec<Vec<Work>>, Vec<Caller>) = requests
            .into_iter()
            .map(|request| (request.work, request.caller))
            .unzip();
        // Kept to try each request by itself, should they fail together.
        let kept = if work.len() > 1 {
            work.clone()
        } else {
            Vec::new()
        };
        let counts: Vec<usize> = work.iter().map(Vec::len).collect();
        let outcomes = self.commit_work(work.into_iter().flatten().collect()).await;
        let failed = outcomes.is_err();
        match outcomes {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (caller, count) in callers.into_iter().zip(counts) {
                    caller.tell(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(_) if !kept.is_empty() => {
                for (work, caller) in kept.into_iter().zip(callers) {
                    caller.tell(self.commit_work(work).await);
                }
            }
            Err(error) => {
                for caller in callers {
                    caller.tell(Err(error.clone()));
                }
            }
        }
        Last {
            failed,
            more: self.has_more(),
        }
    }

    async fn commit_work(&mut self, work: Vec<Work>) -> Result<Vec<Outcome>> {
        // A backend or a transport that panics does not take the task, or the caller, with it.
        let outcomes = AssertUnwindSafe(self.commit_and_tell(work)).catch_unwind();
        let outcomes = outcomes.await.unwrap_or_else(|_| {
            self.replica.set_unsure();
            Err(Error::OutcomeUnknown)
        });
        if let Err(error) = &outcomes {
            Counters::count(&self.shared.counters.failed_commits);
            tracing::warn!(%error, "a commit failed");
        }
        outcomes
    }

    async fn commit_and_tell(&mut self, work: Vec<Work>) -> Result<Vec<Outcome>> {
        let listened = self.is_listened();
        let before = self.replica.state().cursor();
        let now_us = self.shared.now_us();
        let committed = self.replica.commit(work, now_us, listened).await?;
        if self.shared.options.durable && !committed.stored.is_empty() {
            self.make_durable().await?;
        }
        Ok(self.tell(committed, before, listened))
    }

    /// Whether somebody wants to know what changes.
    fn is_listened(&self) -> bool {
        self.changes.receiver_count() > 0
            || self.shared.options.put_hook.is_some()
            || self.shared.options.delete_hook.is_some()
    }

    /// With this option nothing is announced or returned before it is durable.
    async fn make_durable(&mut self) -> Result<()> {
        match self.shared.store.sync(&Key::root()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // It is committed, and may be lost again: the state that others see stays the one
                // before, or its heads would be announced at the next rebroadcast.
                self.replica.set_unsure();
                tracing::error!(%error, "a commit could not be made durable");
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// Tells everybody of a commit, in this order: state, events, announcement.
    fn tell(
        &mut self,
        committed: Committed,
        before: super::Cursor,
        listened: bool,
    ) -> Vec<Outcome> {
        let Committed {
            outcomes,
            merged,
            stored,
            wanted,
            unwanted,
            malformed,
            changes,
            local_heads,
        } = committed;
        self.shared.state.send_replace(self.replica.state().clone());
        {
            let mut view = self.shared.sync_view();
            merged.iter().for_each(|cid| view.settle(cid));
            for cid in malformed {
                view.note_malformed(cid);
            }
        }
        self.call_hooks(&changes);
        let after = self.replica.state().cursor();
        // Who subscribed while nobody listened yet, but before the commit, reads it from the log.
        if !changes.is_empty() || (!listened && after != before) {
            let event = CommitEvent {
                before,
                after,
                changes: listened.then_some(changes),
            };
            // Nobody may be subscribed.
            let _ = self.changes.send(Arc::new(event));
        }
        if let Some(fetcher) = self.shared.fetcher() {
            if !stored.is_empty() {
                fetcher.stored(&stored);
            }
            let heads: Vec<LocalHead> = local_heads
                .into_iter()
                .map(|(dag_name, block)| LocalHead { dag_name, block })
                .collect();
            self.shared
                .outbox
                .committed(heads, &wanted, &unwanted, !merged.is_empty());
        }
        outcomes
    }

    /// A hook that panics harms neither the commit, which is made, nor who waits for it.
    fn call_hooks(&self, changes: &[crate::replica::Change]) {
        let options = &self.shared.options;
        for change in changes {
            let call = || match (&change.new, &options.put_hook, &options.delete_hook) {
                (Some(value), Some(put), _) => put(&change.key, value),
                (None, _, Some(delete)) => delete(&change.key),
                _ => {}
            };
            if catch_unwind(AssertUnwindSafe(call)).is_err() {
                tracing::error!(key = %change.key, "a hook panicked");
            }
        }
    }
}
