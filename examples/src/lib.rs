//! Programs that show crdt-ds at work: see `examples/`.
