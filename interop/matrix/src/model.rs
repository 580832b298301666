//! The naive model: all blocks of a history at once, and what they add up to.
//!
//! It shares no code with the stores under test, so that both being wrong in one way is unlikely.

use crate::failure::Failure;
use crate::node::{Node, State};
use cid::Cid;
use data_encoding::BASE32_NOPAD;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A DAG-PB node, as far as a block of the history has one.
#[derive(Clone, PartialEq, Message)]
struct PbNode {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    links: Vec<PbLink>,
}

#[derive(Clone, PartialEq, Message)]
struct PbLink {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
}

/// What a block says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Delta {
    #[prost(message, repeated, tag = "1")]
    pub(crate) elements: Vec<Element>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) tombstones: Vec<Element>,
    #[prost(uint64, tag = "3")]
    pub(crate) priority: u64,
    #[prost(string, tag = "4")]
    pub(crate) dag_name: String,
}

/// A put (no id) or the removal of a version (no value).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Element {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) value: Vec<u8>,
}

struct Block {
    links: BTreeSet<Cid>,
    delta: Delta,
}

/// The history below some blocks, as far as one node holds it.
pub(crate) struct History {
    blocks: BTreeMap<Cid, Block>,
    /// Linked to, or asked for, and not held.
    pub(crate) missing: BTreeSet<Cid>,
}

impl History {
    /// Reads everything below `roots` that `node` holds.
    pub(crate) async fn read(node: &mut Node, roots: &BTreeSet<Cid>) -> Result<History, Failure> {
        let mut history = History {
            blocks: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let mut seen = roots.clone();
        let mut next: Vec<Cid> = roots.iter().copied().collect();
        while let Some(cid) = next.pop() {
            let Some(bytes) = node.block(&cid).await? else {
                history.missing.insert(cid);
                continue;
            };
            let block = Block::decode(&cid, &bytes)?;
            next.extend(block.links.iter().filter(|link| seen.insert(**link)));
            history.blocks.insert(cid, block);
        }
        Ok(history)
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks to which no block of the same DAG name links.
    pub(crate) fn tips(&self) -> BTreeSet<Cid> {
        let names: BTreeSet<(&str, &Cid)> = self
            .blocks
            .values()
            .flat_map(|block| {
                block
                    .links
                    .iter()
                    .map(|link| (block.delta.dag_name.as_str(), link))
            })
            .collect();
        let is_tip = |(cid, block): &(&Cid, &Block)| !names.contains(&(&block.delta.dag_name, cid));
        self.blocks
            .iter()
            .filter(is_tip)
            .map(|(cid, _)| *cid)
            .collect()
    }

    /// The visible value of each key: of the versions that no block deletes, the one with the
    /// highest priority, then the greatest value.
    pub(crate) fn state(&self) -> State {
        let deleted: BTreeSet<(&str, Vec<u8>)> = self
            .blocks
            .values()
            .flat_map(|block| &block.delta.tombstones)
            .filter_map(|tombstone| Some((tombstone.key.as_str(), version_id(&tombstone.id)?)))
            .collect();
        let mut visible: BTreeMap<&str, (u64, &[u8])> = BTreeMap::new();
        for (cid, block) in &self.blocks {
            for put in &block.delta.elements {
                if deleted.contains(&(put.key.as_str(), cid.hash().to_bytes())) {
                    continue;
                }
                let version = (block.delta.priority, put.value.as_slice());
                let best = visible.entry(&put.key).or_insert(version);
                *best = version.max(*best);
            }
        }
        let own = |(key, (_, value)): (&str, (u64, &[u8]))| (key.to_owned(), value.to_owned());
        visible.into_iter().map(own).collect()
    }
}

impl Block {
    fn decode(cid: &Cid, bytes: &[u8]) -> Result<Block, Failure> {
        let unreadable = |reason: String| Failure::Block {
            cid: cid.to_string(),
            reason,
        };
        let node = PbNode::decode(bytes).map_err(|error| unreadable(error.to_string()))?;
        let delta =
            Delta::decode(node.data.as_slice()).map_err(|error| unreadable(error.to_string()))?;
        let links = node
            .links
            .iter()
            .map(|link| Cid::try_from(link.hash.as_slice()));
        let links = links
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(Block { links, delta })
    }
}

/// The multihash that a tombstone names.
fn version_id(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD.decode(text.strip_prefix('/')?.as_bytes()).ok()
}

/// A delta of one put.
pub(crate) fn put_delta(key: &str, value: &str, priority: u64) -> Vec<u8> {
    let put = Element {
        key: key.to_owned(),
        value: value.into(),
        ..Element::default()
    };
    Delta {
        elements: vec![put],
        priority,
        ..Delta::default()
    }
    .encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    fn hex(value: &Value) -> Vec<u8> {
        HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn the_model_reads_recorded_histories_as_go_ds_crdt_did() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crdt-ds/testdata/go");
        for seed in 101..=104 {
            let text = std::fs::read_to_string(format!("{dir}/replay-{seed}.json")).unwrap();
            let recorded: Value = serde_json::from_str(&text).unwrap();
            let mut blocks = BTreeMap::new();
            for (hash, bytes) in recorded["blocks_hex"].as_object().unwrap() {
                let hash = HEXLOWER.decode(hash.as_bytes()).unwrap();
                let cid = Cid::new_v1(0x70, cid::multihash::Multihash::from_bytes(&hash).unwrap());
                blocks.insert(cid, Block::decode(&cid, &hex(bytes)).unwrap());
            }
            let history = History {
                blocks,
                missing: BTreeSet::new(),
            };

            let entries = recorded["state_hex"].as_object().unwrap();
            let state: State = entries.iter().map(|(k, v)| (k.clone(), hex(v))).collect();
            assert_eq!(history.state(), state, "replay {seed}");

            // Go may keep ancestors as heads, but never misses a tip.
            let heads = recorded["heads"].as_array().unwrap().iter();
            let heads: BTreeSet<Cid> = heads
                .map(|head| Cid::try_from(head.as_str().unwrap()).unwrap())
                .collect();
            assert!(!history.tips().is_empty(), "replay {seed}");
            assert!(history.tips().is_subset(&heads), "replay {seed}");
        }
    }
}
