//! The one task that changes a replica: what is queued goes out together, as one commit.

use std::sync::Arc;

use datastore_core::Key;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::changes::CommitEvent;
use super::shared::{Counters, Shared};
use crate::replica::{Committed, Outcome, Replica, Work};
use crate::sync::LocalHead;
use crate::{Error, Result};

/// How many bytes of blocks that arrived one commit takes, about.
const MAX_ARRIVED_BYTES: usize = 8 * 1024 * 1024;

/// Work for the committer, and where to say what came of it.
pub(crate) struct Request {
    pub(crate) work: Vec<Work>,
    /// Bytes of the delta that writes add, or of the blocks that arrived.
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Result<Vec<Outcome>>>,
}

impl Request {
    fn is_write(&self) -> bool {
        self.work.iter().any(|work| matches!(work, Work::Write(_)))
    }
}

enum Next {
    Request(Request),
    Ready,
    Closed,
}

/// The replica, its queue, and whom to tell.
pub(crate) struct Committer {
    pub(crate) replica: Replica,
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) changes: broadcast::Sender<Arc<CommitEvent>>,
    pub(crate) shared: Arc<Shared>,
}

impl Committer {
    /// Runs until every handle is dropped, then gives the replica back. INVARIANT 2: it owns the
    /// commits, so that a caller that is dropped cuts none.
    pub(crate) async fn run(mut self) -> Replica {
        let mut held = None;
        let mut failed = false;
        loop {
            let requests = match held.take() {
                Some(first) => self.group(first, &mut held).await,
                None => match self.next(failed).await {
                    Next::Request(first) => self.group(first, &mut held).await,
                    Next::Ready => Vec::new(),
                    Next::Closed => return self.replica,
                },
            };
            failed = !self.commit(requests).await;
        }
    }

    /// What to do next. Blocks that are ready to merge go on without being asked, after a pause if
    /// the last commit failed.
    async fn next(&mut self, failed: bool) -> Next {
        if self.replica.state().sums.ready == 0 {
            return self.queue.recv().await.map_or(Next::Closed, Next::Request);
        }
        if failed {
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

    /// Commits the requests as one; tells whether that worked.
    async fn commit(&mut self, requests: Vec<Request>) -> bool {
        let (work, replies): (Vec<Vec<Work>>, Vec<_>) = requests
            .into_iter()
            .map(|request| (request.work, request.reply))
            .unzip();
        // Kept to try each request by itself, should they fail together.
        let kept = if work.len() > 1 {
            work.clone()
        } else {
            Vec::new()
        };
        let counts: Vec<usize> = work.iter().map(Vec::len).collect();
        match self.commit_work(work.into_iter().flatten().collect()).await {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (reply, count) in replies.into_iter().zip(counts) {
                    // Who asked may be gone.
                    let _ = reply.send(Ok(outcomes.by_ref().take(count).collect()));
                }
                true
            }
            Err(_) if !kept.is_empty() => {
                for (work, reply) in kept.into_iter().zip(replies) {
                    let _ = reply.send(self.commit_work(work).await);
                }
                false
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                false
            }
        }
    }

    async fn commit_work(&mut self, work: Vec<Work>) -> Result<Vec<Outcome>> {
        let listened = self.is_listened();
        let before = self.replica.state().cursor();
        let committed = self
            .replica
            .commit(work, self.shared.now_us(), listened)
            .await;
        let committed = match committed {
            Ok(committed) if self.shared.options.durable && !committed.stored.is_empty() => {
                self.make_durable().await.map(|()| committed)
            }
            committed => committed,
        };
        match committed {
            Ok(committed) => Ok(self.tell(committed, before, listened)),
            Err(error) => {
                Counters::count(&self.shared.counters.failed_commits);
                tracing::warn!(%error, "a commit failed");
                Err(error)
            }
        }
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

    fn call_hooks(&self, changes: &[crate::replica::Change]) {
        for change in changes {
            match (
                &change.new,
                &self.shared.options.put_hook,
                &self.shared.options.delete_hook,
            ) {
                (Some(value), Some(put), _) => put(&change.key, value),
                (None, _, Some(delete)) => delete(&change.key),
                _ => {}
            }
        }
    }
}
