//! Criterion benches (`benches/`) and load programs (`src/bin/`) of crdt-ds.
