//! What stores of this kind got wrong, and this one must not: each test is named for what it shows, and
//! its comment names the case. Both formats are tried where the format matters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod deletes;
mod events;
mod fixtures;
mod foreign_blocks;
mod hostile_blocks;
mod local_writes;
mod lone_caller;
mod merge;
mod named_dags;
mod pending;
mod recovery;
mod sync;
