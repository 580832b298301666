use bytes::Bytes;

/// All that one writer ever added to and subtracted from a counter: a slot of a PN-counter (Shapiro et
/// al., "A comprehensive study of convergent and commutative replicated data types", 2011,
/// specification 7). Both only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Totals {
    /// All that was added.
    pub up: u64,
    /// All that was subtracted.
    pub down: u64,
}

impl Totals {
    /// As stored: two big-endian numbers of 8 bytes, up and down.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (up, down) = bytes.split_at_mut(8);
        up.copy_from_slice(&self.up.to_be_bytes());
        down.copy_from_slice(&self.down.to_be_bytes());
        bytes
    }

    /// The totals that [`to_bytes`](Self::to_bytes) stored; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (up, down) = bytes.split_at_checked(8)?;
        Some(Self {
            up: u64::from_be_bytes(up.try_into().ok()?),
            down: u64::from_be_bytes(down.try_into().ok()?),
        })
    }

    /// Whether totals that once were `earlier` can have become these.
    pub fn covers(self, earlier: Self) -> bool {
        self.up >= earlier.up && self.down >= earlier.down
    }

    /// Grows by `amount`, as far as the numbers go; what it grew by.
    pub(crate) fn grow(&mut self, amount: Self) -> Self {
        let before = *self;
        self.up = self.up.saturating_add(amount.up);
        self.down = self.down.saturating_add(amount.down);
        Self {
            up: self.up - before.up,
            down: self.down - before.down,
        }
    }

    /// Takes back what it grew by.
    pub(crate) fn shrink(&mut self, grown: Self) {
        self.up = self.up.saturating_sub(grown.up);
        self.down = self.down.saturating_sub(grown.down);
    }
}

impl From<Totals> for Bytes {
    fn from(totals: Totals) -> Self {
        Self::copy_from_slice(&totals.to_bytes())
    }
}

/// The sum of many [`Totals`]; too wide to overflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Sum {
    /// All that was added.
    pub up: u128,
    /// All that was subtracted.
    pub down: u128,
}

impl Sum {
    /// What the counter shows: up less down, never below zero, at most `u64::MAX`.
    pub fn count(self) -> u64 {
        u64::try_from(self.up.saturating_sub(self.down)).unwrap_or(u64::MAX)
    }

    /// Adds a slot.
    pub fn add(&mut self, totals: Totals) {
        self.up = self.up.saturating_add(totals.up.into());
        self.down = self.down.saturating_add(totals.down.into());
    }

    /// Takes a slot out that was added.
    #[cfg(feature = "stats")]
    pub(crate) fn remove(&mut self, totals: Totals) {
        self.up = self.up.saturating_sub(totals.up.into());
        self.down = self.down.saturating_sub(totals.down.into());
    }
}

impl Extend<Totals> for Sum {
    fn extend<T: IntoIterator<Item = Totals>>(&mut self, slots: T) {
        for totals in slots {
            self.add(totals);
        }
    }
}

impl FromIterator<Totals> for Sum {
    fn from_iter<T: IntoIterator<Item = Totals>>(slots: T) -> Self {
        let mut sum = Self::default();
        sum.extend(slots);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_two_big_endian_numbers() {
        let totals = Totals {
            up: 0x0102,
            down: 3,
        };
        let bytes = totals.to_bytes();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(Totals::from_bytes(&bytes), Some(totals));
        assert_eq!(Totals::from_bytes(&bytes[..15]), None);
        assert_eq!(Totals::from_bytes(&[0; 17]), None);
        assert_eq!(Totals::from_bytes(&[0; 8]), None);
    }

    #[test]
    fn totals_saturate_and_give_back_only_what_they_took() {
        let mut totals = Totals {
            up: u64::MAX - 1,
            down: 0,
        };
        let grown = totals.grow(Totals { up: 5, down: 2 });
        assert_eq!((totals.up, grown.up, grown.down), (u64::MAX, 1, 2));
        totals.shrink(grown);
        assert_eq!(
            totals,
            Totals {
                up: u64::MAX - 1,
                down: 0
            }
        );
    }

    #[test]
    fn a_count_is_never_below_zero_nor_above_a_u64() {
        let below: Sum = [Totals { up: 1, down: 5 }, Totals { up: 2, down: 0 }]
            .into_iter()
            .collect();
        assert_eq!(below.count(), 0);
        let above: Sum = std::iter::repeat_n(
            Totals {
                up: u64::MAX,
                down: 0,
            },
            3,
        )
        .collect();
        assert_eq!(above.count(), u64::MAX);
    }
}
