//! What a replica knows, and how a block changes it.
//!
//! Nothing here runs tasks, reads clocks or knows of a network: time is passed in, and each change is
//! one [`Group`]: reads through a [`Stage`], then one atomic commit.
//!
//! The invariants, which comments name by number:
//!
//! 1. State is a function of the set of merged blocks, in whatever order they merged.
//! 2. A merge is one atomic commit that holds all of it.
//! 3. A block merges when its links are merged, or are gaps.
//! 4. Heads are the merged blocks to which no merged block of the same DAG name links.
//! 5. Digests are of one snapshot, and follow from the merged set.
//! 6. Well-formed is a question of a block's own bytes.

mod digest;
mod group;
mod layout;
mod local;
mod merge;
mod open;
mod pending;
mod stage;
mod state;
#[cfg(test)]
mod tests;
mod version;
mod versions;

pub use self::group::Receipt;
pub(crate) use self::group::{Arrival, Change, Committed, Outcome, Rules, Work, Write};
pub(crate) use self::layout::Layout;
pub(crate) use self::open::{Draws, Identity, Replica};
pub(crate) use self::state::{LogRow, State};
pub(crate) use self::version::Visible;
pub(crate) use self::versions::{live_versions, read_value};
