//! Blocks and announcements: what is written, what is read, what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod announcement;
mod crashers;

mod dag_cbor;
mod dag_pb;
mod fixtures;
mod go_vectors;
mod go_verdicts;
mod properties;
mod size;
mod wire_format;
