//! Programs that show crdt-ds at work: see `examples/`.

/// The README's code runs as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
