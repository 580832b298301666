//! Checks every row of a replica against the others, and all of them against the model.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use cid::Cid;
use datastore_core::{Datastore, DatastoreExt, Key, Query};
use prost::Message;
use sha2::{Digest, Sha256};

use super::model::Model;
use crate::block::{self, Block, DagName, Node, VersionId};
use crate::replica::digest::StateDigest;
use crate::replica::layout::{Layout, ShortHash, trailing_cid, trailing_id, trailing_number};
use crate::replica::pending::{PendingRow, WantReason, WantRow};
use crate::replica::state::{LogRow, State};
use crate::replica::version::{Hidden, Visible};
use crate::replica::{Replica, read_value};
use crate::sync::Peer;

/// Fails a check of a history, with what was expected.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(super) use ensure;

/// Blocks by CID, decoded once.
pub(super) type Nodes = BTreeMap<Cid, Rc<Node>>;

/// What an audit saw.
pub(super) struct Audited {
    pub(super) merged: BTreeSet<Cid>,
    pub(super) model: Model,
}

/// All rows, by the letter that says what they are, by what follows it in their keys.
struct Rows(BTreeMap<char, BTreeMap<Key, Bytes>>);

impl Rows {
    async fn read(store: &dyn Datastore, namespace: &Key) -> Self {
        let mut rows: BTreeMap<char, BTreeMap<Key, Bytes>> = BTreeMap::new();
        let query = Query::new().prefix(namespace.clone());
        for entry in store.query_all(query).await.unwrap() {
            let row = entry.key.strip_prefix(namespace).unwrap();
            let kind = rows
                .entry(row.as_str().chars().nth(1).unwrap())
                .or_default();
            kind.insert(entry.key, entry.value.unwrap());
        }
        Self(rows)
    }

    fn of(&self, letter: char) -> impl Iterator<Item = (&Key, &Bytes)> + Clone {
        self.0.get(&letter).into_iter().flatten()
    }

    fn count(&self, letter: char) -> u64 {
        self.of(letter).count() as u64
    }

    fn cids(&self, letter: char) -> BTreeSet<Cid> {
        self.of(letter)
            .map(|(key, _)| trailing_cid(key).unwrap())
            .collect()
    }
}

/// Checks a replica's rows, its state in memory, and the model of its merged blocks.
pub(super) async fn audit(
    replica: &Replica,
    store: &dyn Datastore,
    namespace: &Key,
    network: &str,
    nodes: &mut Nodes,
) -> Result<Audited, String> {
    let layout = Layout::new(namespace);
    let rows = Rows::read(store, namespace).await;
    let state = replica.state();

    let stored = State::load(store, &layout).await.unwrap();
    ensure!(
        format!("{state:?}") == format!("{stored:?}"),
        "the state in memory is {state:?}, on disk {stored:?}"
    );

    let merged = check_log(state, &rows)?;
    for cid in &merged {
        if !nodes.contains_key(cid) {
            let bytes = store.get(&layout.block(cid)).await.unwrap();
            let bytes = bytes.ok_or(format!("the block of {cid} is not stored"))?;
            let block = Block::verify(cid, bytes).map_err(|error| error.to_string())?;
            let node = block::decode(&block, network).map_err(|error| error.to_string())?;
            nodes.insert(*cid, Rc::new(node));
        }
    }
    let merged_nodes = merged.iter().map(|cid| (*cid, &*nodes[cid]));
    let model = Model::of(merged_nodes.clone());

    check_versions(state, &rows, &model, store, &layout, namespace).await?;
    check_dag(state, &rows, &model, merged_nodes, &layout)?;
    check_pending(replica, &rows, &merged, &layout)?;
    Ok(Audited { merged, model })
}

/// The merge log lists each merged block once, and its hashes are a chain.
fn check_log(state: &State, rows: &Rows) -> Result<BTreeSet<Cid>, String> {
    let mut merged = BTreeSet::new();
    let mut hash = [0; 32];
    for (position, (key, row)) in rows.of('l').enumerate() {
        let row = LogRow::decode(key, row).unwrap();
        hash = Sha256::new()
            .chain_update(hash)
            .chain_update(row.cid.to_bytes())
            .finalize()
            .into();
        ensure!(
            trailing_number(key) == Some(position as u64 + 1),
            "the log has {key} at {position}"
        );
        ensure!(
            hash == row.hash,
            "the log's hash at {key} is not the chain's"
        );
        ensure!(merged.insert(row.cid), "{} merged twice", row.cid);
    }
    ensure!(
        (merged.len() as u64, hash) == (state.sequence, state.log_hash),
        "the state does not end the log"
    );
    Ok(merged)
}

async fn check_versions(
    state: &State,
    rows: &Rows,
    model: &Model,
    store: &dyn Datastore,
    layout: &Layout,
    namespace: &Key,
) -> Result<(), String> {
    let root = namespace.child_str("k");
    let mut digest = StateDigest::default();
    let mut keys = BTreeSet::new();
    for (row_key, row) in rows.of('k') {
        let key = row_key.strip_prefix(&root).unwrap();
        let visible = Visible::decode(&key, row).unwrap();
        let block = layout.block(&visible.id.cid(visible.format));
        let value = read_value(&key, &visible, || async { Ok(store.get(&block).await?) })
            .await
            .map_err(|error| error.to_string())?;
        ensure!(
            StateDigest::term(&key, &value) == visible.term(&key)
                && value.len() as u64 == visible.value_len(),
            "the row of {key} tells of another value"
        );
        digest.add(visible.term(&key));

        let expected = model.visible(&key);
        let found = (visible.priority, value, visible.id);
        ensure!(
            expected == Some(&found),
            "{key} shows {found:?}, not {expected:?}"
        );
        let versions = &model.live[&key];
        let short = ShortHash::of(key.as_bytes());
        let hidden = layout.hidden_of(short);
        let hidden: BTreeMap<VersionId, u64> = rows
            .of('v')
            .filter(|(row, _)| hidden.is_ancestor_of(row))
            .map(|(row, value)| {
                let priority = Hidden::decode(value).unwrap().priority;
                (trailing_id(row).unwrap(), priority)
            })
            .collect();
        let expected: BTreeMap<VersionId, u64> = versions
            .iter()
            .filter(|(_, _, id)| *id != found.2)
            .map(|(priority, _, id)| (*id, *priority))
            .collect();
        ensure!(
            hidden == expected && hidden.len() == visible.hidden as usize,
            "{key} hides {hidden:?}, not {expected:?}, and counts {}",
            visible.hidden
        );
        keys.insert(key);
    }
    let expected: BTreeSet<Key> = model.live.keys().cloned().collect();
    ensure!(keys == expected, "the keys are {keys:?}, not {expected:?}");
    ensure!(
        digest == state.digest,
        "the state digest is not that of the rows"
    );
    ensure!(
        (rows.count('k'), rows.count('v')) == (state.sums.keys, state.sums.hidden),
        "keys and hidden versions are miscounted: {:?}",
        state.sums
    );

    let kept: BTreeSet<Key> = model
        .kept
        .iter()
        .map(|(id, key)| layout.kept(*id, ShortHash::of(key.as_bytes())))
        .collect();
    let found: BTreeSet<Key> = rows.of('t').map(|(row, _)| row.clone()).collect();
    ensure!(
        found == kept,
        "the kept tombstones are {found:?}, not {kept:?}"
    );
    ensure!(
        state.sums.kept == kept.len() as u64,
        "kept tombstones are miscounted"
    );
    Ok(())
}

fn check_dag<'a>(
    state: &State,
    rows: &Rows,
    model: &Model,
    merged: impl Iterator<Item = (Cid, &'a Node)>,
    layout: &Layout,
) -> Result<(), String> {
    let heads: BTreeMap<DagName, BTreeMap<Cid, u64>> = state
        .names
        .iter()
        .map(|(name, state)| {
            let heads = state.heads().map(|head| (head.cid, head.priority));
            (name.clone(), heads.collect())
        })
        .collect();
    ensure!(
        heads == model.heads,
        "the heads are {heads:?}, not {:?}",
        model.heads
    );
    let blocks: BTreeMap<DagName, u64> = state
        .names
        .iter()
        .map(|(name, state)| (name.clone(), state.blocks))
        .collect();
    ensure!(
        blocks == model.blocks,
        "the names have {blocks:?} blocks, not {:?}",
        model.blocks
    );
    let gaps: BTreeMap<Cid, BTreeSet<DagName>> = state
        .gaps
        .iter()
        .map(|(cid, names)| (*cid, names.iter().cloned().collect()))
        .collect();
    ensure!(
        gaps == model.gaps,
        "the gaps are {gaps:?}, not {:?}",
        model.gaps
    );
    let index: BTreeSet<Key> = merged
        .map(|(cid, node)| layout.index(&node.delta.dag_name, node.delta.priority, &cid))
        .collect();
    let found: BTreeSet<Key> = rows.of('i').map(|(row, _)| row.clone()).collect();
    ensure!(found == index, "the index is {found:?}, not {index:?}");
    Ok(())
}

/// INVARIANT 3, and that nothing is forgotten: whatever waits, waits for something that is wanted, or
/// that waits itself.
fn check_pending(
    replica: &Replica,
    rows: &Rows,
    merged: &BTreeSet<Cid>,
    layout: &Layout,
) -> Result<(), String> {
    let state = replica.state();
    let pending: BTreeMap<Cid, PendingRow> = rows
        .of('p')
        .map(|(key, row)| {
            let row = PendingRow::decode(row.clone()).unwrap();
            (trailing_cid(key).unwrap(), row)
        })
        .collect();
    let wanted: BTreeMap<Cid, WantRow> = rows
        .of('w')
        .map(|(key, row)| {
            let row = WantRow::decode(row.clone()).unwrap();
            (trailing_cid(key).unwrap(), row)
        })
        .collect();
    let stored = rows.cids('b');
    let ready = rows.cids('y');
    let releasing = rows.cids('r');

    let mut waits: BTreeMap<Cid, u32> = BTreeMap::new();
    for (row, _) in rows.of('e') {
        let waiter = trailing_cid(row).unwrap();
        let link = trailing_cid(&row.parent()).unwrap();
        ensure!(
            *row == layout.waiter(&link, &waiter),
            "an odd row of a waiting block: {row}"
        );
        if pending.contains_key(&waiter) {
            *waits.entry(waiter).or_default() += 1;
            let released = releasing.contains(&link);
            ensure!(
                released || !merged.contains(&link),
                "{waiter} waits for {link}, which is merged"
            );
            ensure!(
                released || !state.declared.contains(&link),
                "{waiter} waits for {link}, a declared gap"
            );
            ensure!(
                released || wanted.contains_key(&link) || pending.contains_key(&link),
                "{waiter} waits for {link}, which nobody fetches"
            );
        }
    }
    let mut bodies = BTreeSet::new();
    for (cid, row) in &pending {
        ensure!(!merged.contains(cid), "{cid} is merged and pending");
        ensure!(
            row.body == stored.contains(cid),
            "{cid} is pending: {row:?}, and its bytes are not as that says"
        );
        if row.body {
            bodies.insert(layout.body(row.priority, cid));
        }
        if !row.unknown_version {
            let waits = waits.get(cid).copied().unwrap_or(0);
            ensure!(
                row.missing == waits,
                "{cid} waits for {waits} links, and counts {}",
                row.missing
            );
        }
        if row.missing == 0 {
            let goes_on = if row.body {
                ready.contains(cid)
            } else {
                wanted.contains_key(cid)
            };
            ensure!(
                goes_on,
                "{cid} waits for nothing, and nothing goes on: {row:?}"
            );
        }
    }
    let found: BTreeSet<Key> = rows.of('q').map(|(row, _)| row.clone()).collect();
    ensure!(
        found == bodies,
        "the pending bodies are {found:?}, not {bodies:?}"
    );
    for cid in stored.difference(merged) {
        ensure!(
            pending.contains_key(cid),
            "{cid} is stored, and neither merged nor pending"
        );
    }
    for gap in state.gaps.keys() {
        ensure!(
            wanted.contains_key(gap) || pending.contains_key(gap),
            "nobody fetches the gap {gap}"
        );
    }
    for declared in &state.declared {
        ensure!(
            !merged.contains(declared),
            "{declared} is merged, and a declared gap"
        );
    }
    let mut wants_by_peer: BTreeMap<Peer, u64> = BTreeMap::new();
    for (cid, row) in &wanted {
        ensure!(
            !merged.contains(cid) || row.reason() == WantReason::Damaged,
            "{cid} is merged, and wanted: {row:?}"
        );
        if let Some(peer) = row.asker() {
            *wants_by_peer.entry(peer).or_default() += 1;
        }
    }
    let counted = replica.wants_by_peer();
    ensure!(
        wants_by_peer == counted,
        "the wants are {wants_by_peer:?}, and counted {counted:?}"
    );
    let sums = state.sums;
    let unknown = pending.values().filter(|row| row.unknown_version).count();
    let counts = [
        ("pending", sums.pending, pending.len()),
        ("bodies", sums.bodies, bodies.len()),
        ("ready", sums.ready, ready.len()),
        ("releasing", sums.releasing, releasing.len()),
        ("wanted", sums.wanted, wanted.len()),
        ("unknown", sums.unknown, unknown),
    ];
    for (what, counted, found) in counts {
        ensure!(
            counted == found as u64,
            "{what}: {found} rows, counted {counted}"
        );
    }
    Ok(())
}
