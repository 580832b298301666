//! What the committer leaves for the sync task.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cid::Cid;
use tokio::sync::Notify;

use super::Peer;
use crate::block::{Block, DagName};

/// How many commits' announcements may wait. Beyond that the oldest go: a later head is above them.
const MAX_COMMITS: usize = 256;
/// How many changes of wants may wait. Beyond that the sync task reads them from the store.
const MAX_WANTS: usize = 16_384;
/// How many damaged blocks may wait to be wanted; more are found when they are read again.
const MAX_DAMAGED: usize = 256;

/// A head that we made, with its block.
#[derive(Debug, Clone)]
pub(crate) struct LocalHead {
    pub(crate) dag_name: DagName,
    pub(crate) block: Block,
}

/// A change of what is wanted.
#[derive(Debug, Clone)]
pub(crate) enum WantChange {
    Wanted(Cid, Option<Peer>),
    Unwanted(Cid),
}

/// A bounded mailbox that never makes the committer wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    mail: Mutex<Mail>,
    notify: Notify,
}

/// What has come since the mailbox was last emptied.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// The heads of each commit of ours, to be announced.
    pub(crate) commits: VecDeque<Vec<LocalHead>>,
    pub(crate) wants: VecDeque<WantChange>,
    /// Some changes of wants did not fit.
    pub(crate) wants_lost: bool,
    pub(crate) damaged: VecDeque<Cid>,
    /// Something merged.
    pub(crate) merged: bool,
}

impl Outbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn committed(
        &self,
        heads: Vec<LocalHead>,
        wanted: &[(Cid, Option<Peer>)],
        unwanted: &[(Cid, Option<Peer>)],
        merged: bool,
    ) {
        let mut mail = self.mail();
        mail.merged |= merged;
        if !heads.is_empty() {
            if mail.commits.len() == MAX_COMMITS {
                mail.commits.pop_front();
            }
            mail.commits.push_back(heads);
        }
        // A block may be wanted and stored in one commit: what ends comes last.
        let wanted = wanted
            .iter()
            .map(|(cid, peer)| WantChange::Wanted(*cid, peer.clone()));
        let unwanted = unwanted.iter().map(|(cid, _)| WantChange::Unwanted(*cid));
        for change in wanted.chain(unwanted) {
            if mail.wants.len() == MAX_WANTS {
                mail.wants.clear();
                mail.wants_lost = true;
            }
            if !mail.wants_lost {
                mail.wants.push_back(change);
            }
        }
        drop(mail);
        self.notify.notify_one();
    }

    pub(crate) fn damaged(&self, cid: Cid) {
        let mut mail = self.mail();
        if mail.damaged.len() < MAX_DAMAGED && !mail.damaged.contains(&cid) {
            mail.damaged.push_back(cid);
        }
        drop(mail);
        self.notify.notify_one();
    }

    /// Waits until there is mail. Loses none when its future is dropped.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    pub(crate) fn take(&self) -> Mail {
        std::mem::take(&mut *self.mail())
    }
}
