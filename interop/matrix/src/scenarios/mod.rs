//! What the nodes are put through.

mod counters;
mod exchange;
mod foreign_history;
mod joining;
mod partition;
mod private_network;
mod racing;

use crate::failure::Failure;
use crate::lab::Lab;
use crate::node::Kind;
use std::pin::Pin;

/// What there is to say beside "passed".
pub(crate) type Notes = Vec<String>;

/// A row of the matrix. It runs when its future is awaited.
pub(crate) struct Scenario<'lab> {
    pub(crate) name: String,
    pub(crate) run: Pin<Box<dyn Future<Output = Result<Notes, Failure>> + 'lab>>,
    /// It shows something that only our node has.
    pub(crate) needs_rust: bool,
}

fn both<'lab>(
    name: String,
    run: impl Future<Output = Result<Notes, Failure>> + 'lab,
) -> Scenario<'lab> {
    Scenario {
        name,
        run: Box::pin(run),
        needs_rust: false,
    }
}

fn rust_only<'lab>(
    name: &str,
    run: impl Future<Output = Result<Notes, Failure>> + 'lab,
) -> Scenario<'lab> {
    Scenario {
        name: name.to_owned(),
        run: Box::pin(run),
        needs_rust: true,
    }
}

/// All rows, in the order of the table.
pub(crate) fn all(lab: &Lab) -> Vec<Scenario<'_>> {
    let (go, ours) = (Kind::Go, lab.ours);
    vec![
        both(
            format!("{ours} → {go}: put, overwrite, delete, batch"),
            exchange::changes(lab, ours, go),
        ),
        both(
            format!("{go} → {ours}: put, overwrite, delete, batch"),
            exchange::changes(lab, go, ours),
        ),
        both(
            format!("{ours} → {go}: 500 keys, one delta each"),
            exchange::bulk(lab, ours, go),
        ),
        both(
            format!("{go} → {ours}: 500 keys, one delta each"),
            exchange::bulk(lab, go, ours),
        ),
        both(
            format!("{go} ↔ {ours}: the same keys at once"),
            exchange::same_keys(lab),
        ),
        both(
            format!("{go} | {ours}: both write while partitioned, then heal"),
            partition::heals(lab),
        ),
        both(
            format!("{go}, {ours}: on disk, ours killed, both restarted"),
            partition::restarts(lab),
        ),
        both(
            format!("{ours} joins {go}: 1,000 deltas, links first"),
            joining::links_first(lab),
        ),
        rust_only(
            "Rust joins Go: 1,000 deltas, newest first",
            joining::newest_first(lab),
        ),
        both(
            format!("{go} joins {ours}: 1,000 deltas"),
            joining::go_joins(lab),
        ),
        both(
            format!("{go} → {ours} → {go}: the writer is gone"),
            joining::through_ours(lab),
        ),
        both(
            format!(
                "{go} ↔ {ours}: puts race deletes, {} rounds",
                racing::ROUNDS
            ),
            racing::puts_and_deletes(lab),
        ),
        rust_only(
            "Go ↔ Rust: counters, Rust killed, both restarted",
            counters::agree(lab),
        ),
        rust_only("Rust → Go: blocks with a DAG name", exchange::dag_name(lab)),
        rust_only(
            "Go → Rust: a block that nobody can serve",
            foreign_history::hole(lab),
        ),
        rust_only(
            "Rust, Go: a DAG-CBOR head on the Go topic",
            foreign_history::stray_dag_cbor(lab),
        ),
        both(
            format!("{go}, {ours}: a pre-shared key"),
            private_network::pre_shared_key(lab),
        ),
    ]
}
