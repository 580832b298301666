//! The replica driven directly: no tasks, no clock, no network, so that thousands of histories run in
//! seconds and each repeats.

#![allow(clippy::panic, clippy::indexing_slicing)]

mod audit;
mod blocks;
mod histories;
mod model;
mod regressions;
mod world;
