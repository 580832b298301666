//! What the tasks of a replica and its callers share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use datastore_core::{Datastore, Key};
use tokio::sync::{broadcast, watch};

use super::changes::CommitEvent;
use crate::block::Block;
use crate::replica::{Identity, Layout, Rules, State};
use crate::sync::{BlockFetcher, Outbox, PeerDigests, ServeBlocks, SyncView};
use crate::{Options, Result};

/// Everything but the replica itself, which the committer owns.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Datastore>,
    pub(crate) layout: Layout,
    pub(crate) rules: Rules,
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    /// The state as of the last commit.
    pub(crate) state: watch::Sender<State>,
    /// The committer holds the sender, so that streams end with it.
    pub(crate) changes: broadcast::WeakSender<Arc<CommitEvent>>,
    pub(crate) outbox: Outbox,
    /// Requests that are made and not committed.
    pub(crate) waiting: AtomicUsize,
    fetcher: Mutex<Option<Arc<dyn BlockFetcher>>>,
    sync_view: Mutex<SyncView>,
    /// Rises whenever the sync view changes.
    pub(crate) progress: watch::Sender<u64>,
    pub(crate) counters: Counters,
}

/// What was refused or went wrong since the replica was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) refused_blocks: AtomicU64,
    pub(crate) refused_announcements: AtomicU64,
    pub(crate) failed_commits: AtomicU64,
    pub(crate) damaged_blocks: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a part that somebody else made"
    )]
    pub(crate) fn new(
        store: Arc<dyn Datastore>,
        layout: Layout,
        rules: Rules,
        options: Options,
        identity: Identity,
        state: State,
        changes: broadcast::WeakSender<Arc<CommitEvent>>,
        fetcher: Option<Arc<dyn BlockFetcher>>,
    ) -> Self {
        Self {
            store,
            layout,
            rules,
            options,
            identity,
            state: watch::Sender::new(state),
            changes,
            outbox: Outbox::default(),
            waiting: AtomicUsize::new(0),
            fetcher: Mutex::new(fetcher),
            sync_view: Mutex::default(),
            progress: watch::Sender::new(0),
            counters: Counters::default(),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        (self.options.clock)()
    }

    /// The way to other replicas, if there is one and the replica is open.
    pub(crate) fn fetcher(&self) -> Option<Arc<dyn BlockFetcher>> {
        self.fetcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Leaves the network.
    pub(crate) fn leave(&self) {
        self.fetcher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub(crate) fn sync_view(&self) -> MutexGuard<'_, SyncView> {
        self.sync_view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the block is merged, as the store has it now.
    pub(crate) async fn is_merged(&self, cid: &Cid) -> Result<bool> {
        Ok(self.is_stored(cid).await? && !self.store.has(&self.layout.pending(cid)).await?)
    }

    /// Whether the block's bytes are here, merged or pending.
    pub(crate) async fn is_stored(&self, cid: &Cid) -> Result<bool> {
        Ok(self.store.has(&self.layout.block(cid)).await?)
    }

    /// The stored bytes of a block. Bytes that no longer hash are not given out but wanted again.
    pub(crate) async fn block(&self, cid: &Cid) -> Result<Option<Block>> {
        if crate::block::Format::of(cid).is_err() {
            return Ok(None);
        }
        let Some(bytes) = self.store.get(&self.layout.block(cid)).await? else {
            return Ok(None);
        };
        match Block::verify(cid, bytes) {
            Ok(block) => Ok(Some(block)),
            Err(_) => {
                Counters::count(&self.counters.damaged_blocks);
                self.outbox.damaged(*cid);
                Ok(None)
            }
        }
    }

    /// The digests of one committed state.
    pub(crate) fn digests(&self) -> PeerDigests {
        let state = self.state.borrow().clone();
        let histories = state
            .names
            .keys()
            .map(|name| (name.clone(), state.history_digest(name)))
            .collect();
        PeerDigests {
            histories,
            state: state.digest.to_bytes(),
        }
    }

    pub(crate) fn visible_root(&self) -> Key {
        self.layout.visible_root()
    }
}

#[async_trait]
impl ServeBlocks for Shared {
    async fn block(&self, cid: &Cid) -> Option<Bytes> {
        match self.block(cid).await {
            Ok(block) => block.map(|block| block.bytes().clone()),
            Err(error) => {
                tracing::warn!(%cid, %error, "a block could not be read to be served");
                None
            }
        }
    }

    async fn digests(&self) -> Option<PeerDigests> {
        Some(self.digests())
    }
}
