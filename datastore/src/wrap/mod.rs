//! Stores that are other stores, seen differently.

mod pointer;
