//! What a replica knows of its own sync.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cid::Cid;

use super::Peer;

/// "Am I in sync, and what is missing?"
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncStatus {
    /// Peers connected now.
    pub peers: usize,
    /// Blocks stored that wait for a link.
    pub pending: u64,
    /// Blocks that merged ones or pending ones link to and that are not here.
    pub wanted: u64,
    /// Heads that peers announced and that are not merged.
    pub announced: usize,
    /// Links of merged blocks that are not merged.
    pub gaps: usize,
    /// Wanted blocks that no connected peer served when it was last asked, at most 16 of them.
    pub unserved: Vec<Cid>,
    /// Wanted blocks that came and were malformed, at most 16 of them: nobody can serve better ones.
    /// [`declare_gap`](crate::CrdtDatastore::declare_gap) lets what is above them merge.
    pub malformed: Vec<Cid>,
    /// A bound was reached since the last block merged: blocks that came were not stored.
    pub stalled: bool,
}

impl SyncStatus {
    /// Whether nothing is known to be missing. Gaps do not count: they may never be filled.
    pub fn is_synced(&self) -> bool {
        self.pending == 0 && self.wanted <= self.gaps as u64 && self.announced == 0
    }
}

impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} peers, {} blocks pending, {} wanted, {} announced heads not merged, {} gaps",
            self.peers, self.pending, self.wanted, self.announced, self.gaps
        )?;
        if let Some(cid) = self.unserved.first() {
            write!(f, ", nobody served {cid}")?;
        }
        if let Some(cid) = self.malformed.first() {
            write!(f, ", {cid} is malformed")?;
        }
        if self.stalled {
            write!(f, ", stalled at a bound of pending blocks")?;
        }
        Ok(())
    }
}

/// Whom to be in sync with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// At least one peer.
    Any,
    /// Every peer that is connected, at least one.
    All,
    /// This peer.
    One(Peer),
}

/// What the sync task knows; read by those who wait.
#[derive(Debug, Default)]
pub(crate) struct SyncView {
    /// The heads that each peer announced and that were not merged when last looked at.
    pub(crate) announced: BTreeMap<Peer, BTreeSet<Cid>>,
    pub(crate) unserved: BTreeSet<Cid>,
    pub(crate) malformed: BTreeSet<Cid>,
    pub(crate) stalled: bool,
}

/// How many malformed blocks are remembered for the status.
const MAX_MALFORMED: usize = 16;
/// How many peers, and how many heads of each, are remembered for those who wait.
const MAX_ANNOUNCERS: usize = 1024;
const MAX_ANNOUNCED: usize = 1024;

impl SyncView {
    pub(crate) fn announce(&mut self, peer: &Peer, cid: Cid) {
        if !self.announced.contains_key(peer) && self.announced.len() >= MAX_ANNOUNCERS {
            return;
        }
        let heads = self.announced.entry(peer.clone()).or_default();
        if heads.len() < MAX_ANNOUNCED {
            heads.insert(cid);
        }
    }

    pub(crate) fn note_malformed(&mut self, cid: Cid) {
        if self.malformed.len() < MAX_MALFORMED {
            self.malformed.insert(cid);
        }
    }

    /// The block is merged, or never will be.
    pub(crate) fn settle(&mut self, cid: &Cid) {
        self.unserved.remove(cid);
        self.announced.retain(|_, heads| {
            heads.remove(cid);
            !heads.is_empty()
        });
    }

    pub(crate) fn forget_peer(&mut self, peer: &Peer) {
        self.announced.remove(peer);
    }
}
