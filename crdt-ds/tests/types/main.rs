//! The small replicated types against models, on the network in one process.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod lww_register;
#[path = "../on_the_hub/mod.rs"]
mod on_the_hub;
mod or_set;
mod pn_counter;
mod slots;

pub(crate) use self::on_the_hub::{FORMATS, replica, seed, slow, synced};
