//! Which blocks to ask for now: what is wanted durably, and what was announced.
//!
//! Plain data with time passed in. Hints come from announcements: in memory, bounded, and they
//! expire; nothing follows from one until its block is here.

use std::collections::BTreeMap;
use std::time::Duration;

use cid::Cid;
use tokio::time::Instant;

use super::Peer;

/// How many blocks are asked for actively; further wants stay on disk until there is room.
const MAX_ACTIVE: usize = 16_384;
/// How many of them may be hints.
const MAX_HINTS: usize = 4096;
/// How long a hint lives that nobody serves.
const HINT_LIFE: Duration = Duration::from_secs(600);

/// A block that is to be fetched.
#[derive(Debug, Clone)]
struct Want {
    /// Wanted on disk, not only announced.
    durable: bool,
    /// Who announced it, or whose block links to it.
    peer: Option<Peer>,
    attempts: u32,
    due: Instant,
    in_flight: bool,
    /// Since when every connected peer, when asked, did not serve it.
    unserved_since: Option<Instant>,
    expires: Instant,
}

/// The pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The pause after so many attempts: it doubles.
    fn after(self, attempts: u32) -> Duration {
        self.min
            .saturating_mul(1 << attempts.saturating_sub(1).min(16))
            .min(self.max)
    }
}

/// The blocks to be fetched.
#[derive(Debug)]
pub(crate) struct Wants {
    wants: BTreeMap<Cid, Want>,
    hints: usize,
    backoff: Backoff,
    /// More are wanted on disk than are here.
    more_on_disk: bool,
    /// Up to where they were read from disk.
    read_up_to: Option<Cid>,
    /// Some were left to the disk since that reading began.
    left_some: bool,
}

impl Wants {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            wants: BTreeMap::new(),
            hints: 0,
            backoff,
            more_on_disk: true,
            read_up_to: None,
            left_some: false,
        }
    }

    /// Whether to read wants from disk.
    pub(crate) fn wants_refill(&self) -> bool {
        self.more_on_disk
    }

    /// Some changes on disk were not told: what was wanted there is read anew.
    pub(crate) fn lose_track(&mut self) {
        self.wants.retain(|_, want| !want.durable);
        self.more_on_disk = true;
        self.read_up_to = None;
    }

    /// What to read from disk: wants after this one, so many.
    pub(crate) fn refill(&mut self) -> (Option<Cid>, usize) {
        self.make_room();
        if self.read_up_to.is_none() {
            self.left_some = false;
        }
        (self.read_up_to, MAX_ACTIVE.saturating_sub(self.wants.len()))
    }

    /// Wants were read from disk, up to this one, or to the end.
    pub(crate) fn refilled(&mut self, up_to: Option<Cid>) {
        self.more_on_disk = up_to.is_some() || self.left_some;
        self.read_up_to = up_to;
    }

    /// INVARIANT 3: blocks that nobody serves hold up no others. Where a bound is reached, those asked
    /// for in vain most often go; durable ones come back in their turn.
    fn make_room(&mut self) {
        let crowded = self.wants.len() > MAX_ACTIVE / 4 * 3;
        let hints_crowded = self.hints > MAX_HINTS / 4 * 3;
        let mut vain: Vec<(u32, Cid)> = self
            .wants
            .iter()
            .filter(|(_, want)| match want.durable {
                _ if want.in_flight || want.attempts == 0 => false,
                true => crowded,
                false => hints_crowded,
            })
            .map(|(cid, want)| (want.attempts, *cid))
            .collect();
        vain.sort_unstable_by(|a, b| b.cmp(a));
        for (_, cid) in vain.into_iter().take(MAX_ACTIVE / 4) {
            self.leave(&cid);
        }
    }

    fn leave(&mut self, cid: &Cid) {
        self.remove(cid);
        self.more_on_disk = true;
        self.left_some = true;
    }

    /// A block is wanted on disk.
    pub(crate) fn want(&mut self, cid: Cid, peer: Option<Peer>, now: Instant) {
        if let Some(want) = self.wants.get_mut(&cid) {
            if !want.durable {
                want.durable = true;
                self.hints -= 1;
            }
            want.peer = want.peer.take().or(peer);
            return;
        }
        if self.wants.len() >= MAX_ACTIVE {
            self.make_room();
        }
        if self.wants.len() < MAX_ACTIVE {
            self.wants.insert(cid, Want::new(true, peer, now));
        } else {
            self.leave(&cid);
        }
    }

    /// A block was announced that is not here. Says whether there was room for the hint.
    pub(crate) fn hint(&mut self, cid: Cid, peer: Option<Peer>, now: Instant) -> bool {
        if let Some(want) = self.wants.get_mut(&cid) {
            // Its announcer surely has it.
            want.peer = peer.or(want.peer.take());
            want.expires = now + HINT_LIFE;
            want.due = want.due.min(now);
            return true;
        }
        let full = |wants: &Self| wants.hints >= MAX_HINTS || wants.wants.len() >= MAX_ACTIVE;
        if full(self) {
            self.make_room();
        }
        if full(self) {
            return false;
        }
        self.hints += 1;
        self.wants.insert(cid, Want::new(false, peer, now));
        true
    }

    /// The block is here, or is not to be fetched.
    pub(crate) fn remove(&mut self, cid: &Cid) {
        if self.wants.remove(cid).is_some_and(|want| !want.durable) {
            self.hints -= 1;
        }
    }

    /// Blocks to ask for now, at most `limit`, all with the same peer to ask first.
    pub(crate) fn take_due(&mut self, limit: usize, now: Instant) -> (Vec<Cid>, Option<Peer>) {
        self.expire(now);
        let mut peer: Option<Option<Peer>> = None;
        let mut cids = Vec::new();
        for (cid, want) in &mut self.wants {
            if want.in_flight || want.due > now {
                continue;
            }
            if *peer.get_or_insert_with(|| want.peer.clone()) == want.peer {
                want.in_flight = true;
                cids.push(*cid);
                if cids.len() == limit {
                    break;
                }
            }
        }
        (cids, peer.flatten())
    }

    fn expire(&mut self, now: Instant) {
        let hints = &mut self.hints;
        if *hints > 0 {
            self.wants.retain(|_, want| {
                let stays = want.durable || want.in_flight || want.expires > now;
                *hints -= usize::from(!stays);
                stays
            });
        }
    }

    /// A fetch ended without the block; `asked` if some peer was there to be asked.
    pub(crate) fn failed(&mut self, cid: &Cid, asked: bool, now: Instant) {
        let backoff = self.backoff;
        if let Some(want) = self.wants.get_mut(cid) {
            want.in_flight = false;
            want.attempts += 1;
            want.due = now + backoff.after(want.attempts);
            // Whoever was asked first did not have it; ask whoever comes next time.
            want.peer = None;
            want.unserved_since = match want.unserved_since {
                Some(since) if asked => Some(since),
                _ => asked.then_some(now),
            };
        }
    }

    /// The replica took the block, or refused it for good. A durable want ends when the replica says
    /// so, for it may have been wanted again meanwhile.
    pub(crate) fn settle(&mut self, cid: &Cid, now: Instant) {
        if self.wants.get(cid).is_some_and(|want| want.durable) {
            self.postpone(cid, now);
        } else {
            self.remove(cid);
        }
    }

    /// The replica did not store the block: try again later.
    pub(crate) fn postpone(&mut self, cid: &Cid, now: Instant) {
        let backoff = self.backoff;
        if let Some(want) = self.wants.get_mut(cid) {
            want.in_flight = false;
            want.attempts += 1;
            want.due = now + backoff.after(want.attempts);
        }
    }

    /// A peer joined: whatever waits may be had from it.
    pub(crate) fn retry_all(&mut self, now: Instant) {
        for want in self.wants.values_mut() {
            want.attempts = 0;
            want.due = now;
        }
    }

    /// No peer is left: time without peers does not count as time in which they were asked.
    pub(crate) fn forget_unserved(&mut self) {
        for want in self.wants.values_mut() {
            want.unserved_since = None;
        }
    }

    /// The DAG-PB blocks that nobody served for so long that those above them need not wait.
    pub(crate) fn given_up(&mut self, after: Duration, now: Instant) -> Vec<Cid> {
        let dag_pb = crate::block::Format::DagPb.codec();
        self.wants
            .iter()
            .filter(|(cid, want)| {
                want.durable
                    && cid.codec() == dag_pb
                    && want
                        .unserved_since
                        .is_some_and(|since| now >= since + after)
            })
            .map(|(cid, _)| *cid)
            .collect()
    }

    /// When to look again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.wants
            .values()
            .filter(|want| !want.in_flight)
            .map(|want| want.due)
            .min()
    }
}

impl Want {
    fn new(durable: bool, peer: Option<Peer>, now: Instant) -> Self {
        Self {
            durable,
            peer,
            attempts: 0,
            due: now,
            in_flight: false,
            unserved_since: None,
            expires: now + HINT_LIFE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Format, VersionId};

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    fn cid(n: u8) -> Cid {
        VersionId([n; 32]).cid(Format::DagPb)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(BACKOFF.after(1), Duration::from_secs(1));
        assert_eq!(BACKOFF.after(4), Duration::from_secs(8));
        assert_eq!(BACKOFF.after(40), Duration::from_secs(60));
    }

    #[test]
    fn a_block_that_nobody_serves_does_not_hold_up_others() {
        let now = Instant::now();
        let mut wants = Wants::new(BACKOFF);
        wants.want(cid(1), None, now);
        assert_eq!(wants.take_due(8, now).0, [cid(1)]);
        wants.failed(&cid(1), true, now);
        wants.want(cid(2), None, now);
        assert_eq!(wants.take_due(8, now).0, [cid(2)]);
        assert_eq!(wants.take_due(8, now + Duration::from_secs(1)).0, [cid(1)]);
    }

    #[test]
    fn hints_are_bounded_and_expire() {
        let now = Instant::now();
        let mut wants = Wants::new(BACKOFF);
        for n in 0..MAX_HINTS + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            assert_eq!(
                wants.hint(VersionId(id).cid(Format::DagCbor), None, now),
                n < MAX_HINTS
            );
        }
        assert_eq!(wants.hints, MAX_HINTS);
        wants.take_due(0, now + HINT_LIFE);
        assert_eq!(wants.hints, 0);
    }

    fn many(n: usize) -> Cid {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        VersionId(id).cid(Format::DagCbor)
    }

    #[test]
    fn what_nobody_serves_makes_room_at_a_bound() {
        let now = Instant::now();
        let mut wants = Wants::new(BACKOFF);
        for n in 0..MAX_ACTIVE {
            wants.want(many(n), None, now);
        }
        // Nothing was asked for yet: there is no reason to prefer another.
        assert!(!wants.hint(cid(255), None, now));
        let (asked, _) = wants.take_due(8, now);
        assert!(!wants.hint(cid(255), None, now), "they may come yet");
        asked.iter().for_each(|cid| wants.failed(cid, true, now));
        assert!(wants.hint(cid(255), None, now));
        wants.want(cid(254), None, now);
        assert!(asked.iter().all(|cid| !wants.wants.contains_key(cid)));
        assert_eq!(wants.wants.len(), MAX_ACTIVE - 6);

        wants.lose_track();
        assert_eq!(wants.wants.len(), 1, "the hint");
        for n in 0..MAX_ACTIVE - 7 {
            wants.want(many(n), None, now);
        }
        wants.leave(&many(0));

        // Those that went are read back, from the beginning and round again until all are here.
        assert!(wants.wants_refill());
        assert_eq!(wants.refill(), (None, 7));
        wants.refilled(Some(many(5)));
        assert!(wants.wants_refill());
        wants.leave(&many(1));
        assert_eq!(wants.refill(), (Some(many(5)), 8));
        wants.refilled(None);
        assert_eq!(wants.refill(), (None, 8));
        wants.refilled(None);
        assert!(!wants.wants_refill());
    }

    #[test]
    fn hints_that_nobody_serves_make_room_for_others() {
        let now = Instant::now();
        let mut wants = Wants::new(BACKOFF);
        for n in 0..MAX_HINTS {
            assert!(wants.hint(many(n), None, now));
        }
        assert!(!wants.hint(cid(255), None, now));
        let (asked, _) = wants.take_due(1, now);
        wants.failed(&asked[0], true, now);
        assert!(wants.hint(cid(255), None, now));
        assert_eq!(wants.hints, MAX_HINTS);
    }

    #[test]
    fn a_dag_pb_block_is_given_up_only_after_peers_were_asked() {
        let now = Instant::now();
        let after = Duration::from_secs(600);
        let mut wants = Wants::new(BACKOFF);
        wants.want(cid(1), None, now);
        wants.failed(&cid(1), false, now);
        assert!(wants.given_up(after, now + after).is_empty());
        wants.failed(&cid(1), true, now);
        assert!(wants.given_up(after, now + after / 2).is_empty());
        assert_eq!(wants.given_up(after, now + after), [cid(1)]);
    }
}
