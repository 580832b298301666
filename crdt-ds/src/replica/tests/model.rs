//! What a set of merged blocks amounts to, computed the slow way: from the whole set at once, with no
//! notion of an order in which the blocks came.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cid::Cid;
use datastore_core::Key;

use crate::MAX_KEY_BYTES;
use crate::block::{DagName, Node, VersionId};

/// A version: what decides which of a key's is visible, in this order.
pub(super) type Rank = (u64, Bytes, VersionId);

#[derive(Default)]
pub(super) struct Model {
    /// Live versions, the visible one last. No key without one.
    pub(super) live: BTreeMap<Key, BTreeSet<Rank>>,
    /// Tombstones of versions whose block is not merged.
    pub(super) kept: BTreeSet<(VersionId, Key)>,
    pub(super) heads: BTreeMap<DagName, BTreeMap<Cid, u64>>,
    /// Links of merged blocks that are not merged, with the names of those blocks.
    pub(super) gaps: BTreeMap<Cid, BTreeSet<DagName>>,
    pub(super) blocks: BTreeMap<DagName, u64>,
}

impl Model {
    pub(super) fn of<'a>(merged: impl Iterator<Item = (Cid, &'a Node)> + Clone) -> Self {
        let cids: BTreeSet<Cid> = merged.clone().map(|(cid, _)| cid).collect();
        let ids: BTreeSet<VersionId> = cids.iter().filter_map(VersionId::of).collect();
        let mut model = Self::default();
        let mut dead = BTreeSet::new();
        let mut linked = BTreeSet::new();
        for (_, node) in merged.clone() {
            let name = &node.delta.dag_name;
            for deletes in &node.delta.deletes {
                if deletes.key.len() <= MAX_KEY_BYTES {
                    dead.extend(deletes.ids.iter().map(|id| (*id, deletes.key.clone())));
                }
            }
            for link in &node.links {
                linked.insert((name.clone(), *link));
                if !cids.contains(link) {
                    let names = model.gaps.entry(*link).or_default();
                    names.insert(name.clone());
                }
            }
        }
        for (cid, node) in merged {
            let delta = &node.delta;
            *model.blocks.entry(delta.dag_name.clone()).or_default() += 1;
            if !linked.contains(&(delta.dag_name.clone(), cid)) {
                let heads = model.heads.entry(delta.dag_name.clone()).or_default();
                heads.insert(cid, delta.priority);
            }
            let Some(id) = VersionId::of(&cid) else {
                continue;
            };
            for put in &delta.puts {
                if put.key.len() <= MAX_KEY_BYTES && !dead.contains(&(id, put.key.clone())) {
                    let versions = model.live.entry(put.key.clone()).or_default();
                    versions.insert((delta.priority, put.value.clone(), id));
                }
            }
        }
        model.kept = dead
            .into_iter()
            .filter(|(id, _)| !ids.contains(id))
            .collect();
        model
    }

    pub(super) fn visible(&self, key: &Key) -> Option<&Rank> {
        self.live.get(key)?.last()
    }
}
