//! Small replicated types, each a few keys of a [`CrdtDatastore`](crate::CrdtDatastore).
//!
//! | type | holds | its keys |
//! |---|---|---|
//! | [`PnCounter`] | a number that many nodes add to and subtract from | `{key}/{node}:{generation}` → [`Totals`] |
//! | [`LwwRegister`] | the value written last | `{key}` → microseconds, then the value |
//! | [`OrSet`] | a set; an add survives a concurrent remove | `{key}/{member}` → a random tag |
//!
//! They use only the public face of the store, so they also show how to map other types. Ids that
//! callers give (nodes, members) become one namespace of a key each, see [`escape`].

mod escape;
mod lww_register;
mod or_set;
mod pn_counter;
mod slot_writer;
mod slots_open;
mod totals;

pub use self::escape::{MAX_ID_BYTES, escape, unescape};
pub use self::lww_register::LwwRegister;
#[cfg(feature = "stats")]
pub(crate) use self::or_set::members;
pub use self::or_set::{Members, OrSet};
pub use self::pn_counter::PnCounter;
pub(crate) use self::slot_writer::{Amount, Encoding, Slot, SlotWriter};
#[cfg(feature = "stats")]
pub(crate) use self::slot_writer::{Intent, Journal};
pub use self::totals::{Sum, Totals};
