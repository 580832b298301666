//! What a repo is about to count, kept until its record says that it was.

use bytes::Bytes;
use datastore_core::Key;

use crate::types::Totals;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// An actor does it: adds one.
    Do,
    /// An actor takes it back: subtracts one.
    Undo,
    /// So many times, by nobody in particular.
    Tally(u64),
}

impl Action {
    pub(super) fn amount(self) -> Totals {
        match self {
            Self::Do => Totals { up: 1, down: 0 },
            Self::Undo => Totals { up: 0, down: 1 },
            Self::Tally(times) => Totals { up: times, down: 0 },
        }
    }
}

/// An intent: an action, whether its record is made, and once it may have been counted, the slot and
/// the totals that include it. The slot's key holds the generation, so it covers these totals exactly
/// if the action was counted.
///
/// As stored: a letter (`d`, `u`, `t`), 1 if it is recorded, how often (8 bytes, big-endian), then
/// nothing, or the length of the slot's key (2 bytes), that key, and the totals (16 bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intended {
    pub(super) action: Action,
    pub(super) recorded: bool,
    /// `None` if it was not counted for certain.
    pub(super) counted_in: Option<(Key, Totals)>,
}

impl Intended {
    /// An action that is still to be counted.
    pub(super) fn owed(action: Action, recorded: bool) -> Self {
        Self {
            action,
            recorded,
            counted_in: None,
        }
    }

    /// The row up to the totals, which come last and are not known yet.
    pub(super) fn head(action: Action, recorded: bool, slot: &Key) -> Vec<u8> {
        let mut row = Self::owed(action, recorded).fixed();
        // A key is at most 32 KiB.
        let length = u16::try_from(slot.len()).unwrap_or(u16::MAX);
        row.extend(length.to_be_bytes());
        row.extend(slot.as_bytes());
        row
    }

    fn fixed(&self) -> Vec<u8> {
        let (letter, times) = match self.action {
            Action::Do => (b'd', 1),
            Action::Undo => (b'u', 1),
            Action::Tally(times) => (b't', times),
        };
        let mut row = vec![letter, u8::from(self.recorded)];
        row.extend(times.to_be_bytes());
        row
    }

    pub(super) fn encode(&self) -> Bytes {
        match &self.counted_in {
            None => self.fixed().into(),
            Some((slot, totals)) => {
                let mut row = Self::head(self.action, self.recorded, slot);
                row.extend(totals.to_bytes());
                row.into()
            }
        }
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (letter, row) = row.split_first()?;
        let (recorded, row) = row.split_first()?;
        let (times, row) = row.split_first_chunk::<8>()?;
        let counted_in = match row.split_first_chunk::<2>() {
            None if row.is_empty() => None,
            None => return None,
            Some((length, row)) => {
                let (slot, totals) = row.split_at_checked(u16::from_be_bytes(*length).into())?;
                Some((Key::try_from(slot).ok()?, Totals::from_bytes(totals)?))
            }
        };
        let action = match letter {
            b'd' => Action::Do,
            b'u' => Action::Undo,
            b't' => Action::Tally(u64::from_be_bytes(*times)),
            _ => return None,
        };
        Some(Self {
            action,
            recorded: *recorded == 1,
            counted_in,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_comes_back_and_a_cut_one_is_none() {
        for action in [Action::Do, Action::Undo, Action::Tally(7)] {
            for recorded in [false, true] {
                let totals = Totals { up: 3, down: 4 };
                for counted_in in [None, Some((Key::new("/a/b:1"), totals))] {
                    let intent = Intended {
                        action,
                        recorded,
                        counted_in,
                    };
                    let row = intent.encode();
                    assert_eq!(Intended::decode(&row), Some(intent.clone()));
                    for end in (0..row.len()).filter(|end| *end != 10) {
                        assert_eq!(Intended::decode(&row[..end]), None, "{intent:?} {end}");
                    }
                }
            }
        }
    }
}
