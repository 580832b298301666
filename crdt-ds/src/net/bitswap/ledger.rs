//! What one peer wants of us: the server's memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use cid::Cid;
use tokio::time::Instant;

use super::message::{WantEntry, WantKind};
use crate::block::Format;

/// The wants of one peer. Plain data: it neither reads blocks nor sends.
///
/// A want is *due* until its block has been looked up, and then, if it is not here, *waits* for the
/// block to be stored, until the peer cancels it or it expires. At most `max_wants` are kept. One
/// more takes the place of the one that has waited longest; if none waits it is refused.
#[derive(Debug)]
pub(super) struct Ledger {
    max_wants: usize,
    expiry: Duration,
    wants: HashMap<Cid, Want>,
    /// Entries whose stamp is not their want's any more are skipped.
    due: VecDeque<(u64, Cid)>,
    waiting: VecDeque<(u64, Instant, Cid)>,
    /// CIDs that are not remembered, but for which a DONT_HAVE is owed.
    refused: VecDeque<Cid>,
    last_stamp: u64,
}

#[derive(Debug, Clone)]
struct Want {
    kind: WantKind,
    /// Whether a DONT_HAVE is owed if the block is not here.
    owes_dont_have: bool,
    waits: bool,
    stamp: u64,
}

/// What is to be looked up next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// A block.
    LookUp(Cid, WantKind),
    /// Nothing: the want was refused, which its peer is to be told.
    Refuse(Cid),
}

impl Ledger {
    pub(super) fn new(max_wants: usize, expiry: Duration) -> Self {
        Self {
            max_wants,
            expiry,
            wants: HashMap::new(),
            due: VecDeque::new(),
            waiting: VecDeque::new(),
            refused: VecDeque::new(),
            last_stamp: 0,
        }
    }

    /// Forgets every want, as a full want-list asks for.
    pub(super) fn clear(&mut self) {
        self.wants.clear();
        self.due.clear();
        self.waiting.clear();
        self.refused.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether [`Self::next_due`] has something.
    pub(super) fn has_due(&self) -> bool {
        !self.refused.is_empty() || !self.due.is_empty()
    }

    /// Takes an entry of the peer's want-list.
    pub(super) fn receive(&mut self, entry: &WantEntry, now: Instant) {
        if entry.cancel {
            self.wants.remove(&entry.cid);
            return;
        }
        // Such a block can never turn up here.
        if Format::of(&entry.cid).is_err() {
            return self.refuse(entry);
        }
        if let Some(want) = self.wants.get_mut(&entry.cid) {
            want.kind = want.kind.max(entry.kind);
            want.owes_dont_have |= entry.send_dont_have;
            if want.waits {
                self.set_due(entry.cid);
            }
            return;
        }
        self.expire(now);
        if self.wants.len() >= self.max_wants && !self.evict_longest_waiting() {
            return self.refuse(entry);
        }
        let want = Want {
            kind: entry.kind,
            owes_dont_have: entry.send_dont_have,
            waits: false,
            stamp: 0,
        };
        self.wants.insert(entry.cid, want);
        self.set_due(entry.cid);
    }

    fn refuse(&mut self, entry: &WantEntry) {
        if entry.send_dont_have && self.refused.len() < self.max_wants {
            self.refused.push_back(entry.cid);
        }
    }

    fn set_due(&mut self, cid: Cid) {
        let Some(want) = self.wants.get_mut(&cid) else {
            return;
        };
        self.last_stamp += 1;
        want.stamp = self.last_stamp;
        want.waits = false;
        self.due.push_back((self.last_stamp, cid));
        if self.due.len() > 2 * self.max_wants {
            self.due
                .retain(|(stamp, cid)| self.wants.get(cid).is_some_and(|w| w.stamp == *stamp));
        }
    }

    fn evict_longest_waiting(&mut self) -> bool {
        while let Some((stamp, _, cid)) = self.waiting.pop_front() {
            if self.wants.get(&cid).is_some_and(|want| want.stamp == stamp) {
                self.wants.remove(&cid);
                return true;
            }
        }
        false
    }

    /// Forgets the wants that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((stamp, since, cid)) = self.waiting.front() {
            let current = self.wants.get(cid).is_some_and(|want| want.stamp == *stamp);
            if current && now.saturating_duration_since(*since) < self.expiry {
                break;
            }
            if current {
                self.wants.remove(cid);
            }
            self.waiting.pop_front();
        }
    }

    /// What to look up next. From now on it waits, so that a block stored while it is being looked
    /// up is not missed.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Due> {
        if let Some(cid) = self.refused.pop_front() {
            return Some(Due::Refuse(cid));
        }
        while let Some((stamp, cid)) = self.due.pop_front() {
            let Some(want) = self.wants.get_mut(&cid).filter(|want| want.stamp == stamp) else {
                continue;
            };
            self.last_stamp += 1;
            want.stamp = self.last_stamp;
            want.waits = true;
            let kind = want.kind;
            self.waiting.push_back((self.last_stamp, now, cid));
            if self.waiting.len() > 2 * self.max_wants {
                self.waiting.retain(|(stamp, _, cid)| {
                    self.wants.get(cid).is_some_and(|w| w.stamp == *stamp)
                });
            }
            return Some(Due::LookUp(cid, kind));
        }
        None
    }

    /// The want was answered with the block, or with HAVE where that was asked for.
    pub(super) fn answered(&mut self, cid: &Cid, with: WantKind) {
        if self.wants.get(cid).is_some_and(|want| want.kind <= with) {
            self.wants.remove(cid);
        }
    }

    /// The block is not here. Whether the peer is to be told so, once.
    pub(super) fn not_here(&mut self, cid: &Cid) -> bool {
        self.wants
            .get_mut(cid)
            .is_some_and(|want| std::mem::take(&mut want.owes_dont_have))
    }

    /// The block is stored from now on. Whether the peer waits for it.
    pub(super) fn stored(&mut self, cid: &Cid) -> bool {
        let waits = self.wants.get(cid).is_some_and(|want| want.waits);
        if waits {
            self.set_due(*cid);
        }
        waits
    }

    /// Looks everything up again: there are more blocks here than before.
    pub(super) fn look_up_all(&mut self) {
        let mut waiting: Vec<(u64, Cid)> = self
            .wants
            .iter()
            .filter(|(_, w)| w.waits)
            .map(|(c, w)| (w.stamp, *c))
            .collect();
        waiting.sort_unstable_by_key(|(stamp, _)| *stamp);
        for (_, cid) in waiting {
            self.set_due(cid);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::Block;

    fn cid(n: u32) -> Cid {
        *Block::new(Format::DagPb, Bytes::copy_from_slice(&n.to_be_bytes()))
            .unwrap()
            .cid()
    }

    fn want(n: u32) -> WantEntry {
        WantEntry {
            cid: cid(n),
            kind: WantKind::Block,
            cancel: false,
            send_dont_have: true,
        }
    }

    fn ledger(max: usize) -> (Ledger, Instant) {
        (Ledger::new(max, Duration::from_secs(60)), Instant::now())
    }

    #[test]
    fn wants_come_due_in_the_order_they_were_made() {
        let (mut ledger, now) = ledger(8);
        for n in 0..3 {
            ledger.receive(&want(n), now);
        }
        for n in 0..3 {
            assert_eq!(
                ledger.next_due(now),
                Some(Due::LookUp(cid(n), WantKind::Block))
            );
        }
        assert_eq!(ledger.next_due(now), None);
    }

    #[test]
    fn a_block_that_turns_up_later_is_due_and_its_absence_is_told_once() {
        let (mut ledger, now) = ledger(8);
        ledger.receive(&want(1), now);
        ledger.next_due(now).unwrap();
        assert!(ledger.not_here(&cid(1)));
        assert!(!ledger.not_here(&cid(1)));
        assert!(ledger.stored(&cid(1)));
        assert!(!ledger.stored(&cid(2)), "nobody wants it");
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(1), WantKind::Block))
        );
        ledger.answered(&cid(1), WantKind::Block);
        assert_eq!(ledger.len(), 0);
    }

    #[test]
    fn a_block_stored_while_it_is_looked_up_is_looked_up_again() {
        let (mut ledger, now) = ledger(8);
        ledger.receive(&want(1), now);
        ledger.next_due(now).unwrap();
        assert!(ledger.stored(&cid(1)));
        assert!(
            ledger.not_here(&cid(1)),
            "the look-up that was under way ends"
        );
        assert!(ledger.next_due(now).is_some());
    }

    #[test]
    fn a_cancelled_want_is_forgotten_and_a_full_list_replaces_all() {
        let (mut ledger, now) = ledger(8);
        ledger.receive(&want(1), now);
        ledger.receive(
            &WantEntry {
                cancel: true,
                ..want(1)
            },
            now,
        );
        assert_eq!(ledger.next_due(now), None);
        ledger.receive(&want(2), now);
        ledger.clear();
        ledger.receive(&want(3), now);
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(3), WantKind::Block))
        );
        assert_eq!(ledger.next_due(now), None);
    }

    #[test]
    fn have_is_not_an_answer_to_a_want_that_became_a_want_for_the_block() {
        let (mut ledger, now) = ledger(8);
        ledger.receive(
            &WantEntry {
                kind: WantKind::Have,
                ..want(1)
            },
            now,
        );
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(1), WantKind::Have))
        );
        ledger.receive(&want(1), now);
        ledger.answered(&cid(1), WantKind::Have);
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(1), WantKind::Block))
        );
    }

    #[test]
    fn beyond_the_bound_the_longest_waiting_want_gives_way_and_then_wants_are_refused() {
        let (mut ledger, now) = ledger(2);
        ledger.receive(&want(1), now);
        ledger.next_due(now).unwrap();
        ledger.receive(&want(2), now);
        ledger.receive(&want(3), now);
        assert!(!ledger.stored(&cid(1)), "it gave way to the third");
        ledger.receive(&want(4), now);
        assert_eq!(ledger.next_due(now), Some(Due::Refuse(cid(4))));
        assert_eq!(ledger.len(), 2);
    }

    #[test]
    fn wants_expire() {
        let (mut ledger, now) = ledger(8);
        ledger.receive(&want(1), now);
        ledger.next_due(now).unwrap();
        ledger.expire(now + Duration::from_secs(59));
        assert_eq!(ledger.len(), 1);
        ledger.expire(now + Duration::from_secs(60));
        assert_eq!(ledger.len(), 0);
    }

    #[test]
    fn asking_and_cancelling_for_ever_takes_no_more_memory() {
        let (mut ledger, now) = ledger(4);
        for n in 0..10_000 {
            ledger.receive(&want(n % 7), now);
            if n % 3 == 0 {
                ledger.next_due(now);
                ledger.stored(&cid(n % 7));
            }
            ledger.receive(
                &WantEntry {
                    cancel: true,
                    ..want(n % 5)
                },
                now,
            );
            assert!(ledger.len() <= 4);
            assert!(ledger.due.len() <= 9 && ledger.waiting.len() <= 9);
            assert!(ledger.refused.len() <= 4);
        }
    }

    #[test]
    fn a_cid_of_a_foreign_kind_is_refused() {
        let (mut ledger, now) = ledger(4);
        let raw = Cid::new_v1(0x55, *cid(1).hash());
        ledger.receive(
            &WantEntry {
                cid: raw,
                ..want(1)
            },
            now,
        );
        assert_eq!(ledger.next_due(now), Some(Due::Refuse(raw)));
        assert_eq!(ledger.len(), 0);
    }

    #[test]
    fn a_new_store_has_everything_looked_up_again() {
        let (mut ledger, now) = ledger(4);
        ledger.receive(&want(1), now);
        ledger.receive(&want(2), now);
        ledger.next_due(now).unwrap();
        ledger.look_up_all();
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(2), WantKind::Block))
        );
        assert_eq!(
            ledger.next_due(now),
            Some(Due::LookUp(cid(1), WantKind::Block))
        );
    }
}
