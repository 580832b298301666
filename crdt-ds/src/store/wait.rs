//! "Am I in sync?", and waiting until it is so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::sync::{Peer, Peers, SyncStatus};
use crate::{Error, Result};

/// How often digests are compared while nothing is known to change: a peer's state is not ours to
/// watch.
const COMPARE_EVERY: Duration = Duration::from_millis(20);
/// How many unserved blocks a status names.
const MAX_UNSERVED: usize = 16;

impl Shared {
    pub(crate) fn sync_status(&self) -> SyncStatus {
        let state = self.state.borrow().clone();
        let view = self.sync_view();
        SyncStatus {
            peers: self.fetcher().map_or(0, |fetcher| fetcher.peers().len()),
            pending: state.sums.pending,
            wanted: state.sums.wanted,
            announced: view.announced.values().map(|heads| heads.len()).sum(),
            gaps: state.gaps.len(),
            unserved: view.unserved.iter().take(MAX_UNSERVED).copied().collect(),
            malformed: view.malformed.iter().copied().collect(),
            stalled: view.stalled,
        }
    }
}

pub(crate) async fn wait_for_sync(
    shared: &Arc<Shared>,
    peers: Peers,
    timeout: Duration,
) -> Result<()> {
    let begun = Instant::now();
    let deadline = begun + timeout;
    let mut progress = shared.progress.subscribe();
    let mut state = shared.state.subscribe();
    loop {
        progress.mark_unchanged();
        state.mark_unchanged();
        if in_sync(shared, &peers).await {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let status = shared.sync_status().to_string();
            return Err(Error::NotInSync {
                waited: begun.elapsed(),
                status,
            });
        }
        let again = deadline.min(Instant::now() + COMPARE_EVERY);
        tokio::select! {
            _ = progress.changed() => {}
            _ = state.changed() => {}
            () = tokio::time::sleep_until(again) => {}
        }
    }
}

async fn in_sync(shared: &Shared, peers: &Peers) -> bool {
    let Some(fetcher) = shared.fetcher() else {
        return false;
    };
    let connected = fetcher.peers();
    let status = shared.sync_status();
    if status.pending > 0 || status.wanted > status.gaps as u64 {
        return false;
    }
    let ours = shared.digests();
    let synced = async |peer: &Peer| -> bool {
        let announced = shared
            .sync_view()
            .announced
            .get(peer)
            .is_some_and(|heads| !heads.is_empty());
        !announced
            && fetcher
                .digests(peer)
                .await
                .is_none_or(|theirs| theirs == ours)
    };
    match peers {
        Peers::One(peer) => connected.contains(peer) && synced(peer).await,
        Peers::Any => {
            for peer in &connected {
                if synced(peer).await {
                    return true;
                }
            }
            false
        }
        Peers::All => {
            for peer in &connected {
                if !synced(peer).await {
                    return false;
                }
            }
            !connected.is_empty()
        }
    }
}
