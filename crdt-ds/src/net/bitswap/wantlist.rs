//! The want-list that one peer should have of us, and what of it the peer has not been told.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use tokio::sync::Notify;

use super::message::{WantEntry, WantKind};

/// What we want of one peer. Its sender is told by `work` that there is something to send.
#[derive(Debug)]
pub(super) struct PeerWantlist {
    listed: HashMap<Cid, Listed>,
    /// CIDs to be told, in order; one that has been told, or is not listed any more, is skipped.
    untold: Vec<Cid>,
    cancels: Vec<Cid>,
    /// Whether the peer is to be told everything: the stream is new.
    full: bool,
    work: Arc<Notify>,
}

#[derive(Debug)]
struct Listed {
    kind: WantKind,
    told: Option<WantKind>,
}

impl PeerWantlist {
    pub(super) fn new(work: Arc<Notify>) -> Self {
        Self {
            listed: HashMap::new(),
            untold: Vec::new(),
            cancels: Vec::new(),
            full: true,
            work,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    pub(super) fn cids(&self) -> impl Iterator<Item = Cid> + '_ {
        self.listed.keys().copied()
    }

    pub(super) fn want(&mut self, cid: Cid, kind: WantKind) {
        let listed = self
            .listed
            .entry(cid)
            .or_insert(Listed { kind, told: None });
        listed.kind = kind;
        self.untold.push(cid);
        if self.untold.len() > 2 * self.listed.len() + 64 {
            self.untold
                .retain(|cid| self.listed.get(cid).is_some_and(|l| l.told != Some(l.kind)));
        }
        self.work.notify_one();
    }

    /// Ends a want, and tells the peer so.
    pub(super) fn cancel(&mut self, cid: &Cid) {
        if self
            .listed
            .remove(cid)
            .is_some_and(|listed| listed.told.is_some())
        {
            self.cancels.push(*cid);
            self.work.notify_one();
        }
    }

    /// Ends a want that the peer has ended by sending the block.
    pub(super) fn arrived(&mut self, cid: &Cid) {
        self.listed.remove(cid);
    }

    /// The stream is new: the peer has to be told everything.
    pub(super) fn start_over(&mut self) {
        self.cancels.clear();
        self.untold.clear();
        for (cid, listed) in &mut self.listed {
            listed.told = None;
            self.untold.push(*cid);
        }
        self.full = true;
    }

    /// At most `max` entries of what the peer has not been told, and whether they replace what it
    /// has been told before.
    pub(super) fn take_untold(&mut self, max: usize) -> (bool, Vec<WantEntry>) {
        let mut entries = Vec::new();
        let cancels = self.cancels.len().min(max);
        for cid in self.cancels.drain(..cancels) {
            // Wanted again: the peer still has the want, and the entry below asks once more.
            if !self.listed.contains_key(&cid) {
                let kind = WantKind::Block;
                entries.push(WantEntry {
                    cid,
                    kind,
                    cancel: true,
                    send_dont_have: false,
                });
            }
        }
        let mut taken = 0;
        for cid in &self.untold {
            if entries.len() >= max {
                break;
            }
            taken += 1;
            if let Some(listed) = self.listed.get_mut(cid)
                && listed.told != Some(listed.kind)
            {
                listed.told = Some(listed.kind);
                let (cid, kind) = (*cid, listed.kind);
                entries.push(WantEntry {
                    cid,
                    kind,
                    cancel: false,
                    send_dont_have: true,
                });
            }
        }
        self.untold.drain(..taken);
        let full = std::mem::take(&mut self.full) && !entries.is_empty();
        (full, entries)
    }
}
