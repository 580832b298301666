//! What holds for any delta, and for any bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{
    self, BlockError, DagName, Deletes, Delta, Format, MAX_PRIORITY, Node, Origin, Put, Signature,
    VersionId, WriterId, dag_cbor, dag_pb,
};
use crdt_ds::datastore::Key;
use crdt_ds::sync::{Announcement, AnnouncementLimits};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::fixtures::{block, hex, json};
use super::go_vectors::steps;

fn key() -> impl Strategy<Value = Key> {
    prop_oneof!["(/[a-c]{1,2}){1,3}", "/\\PC{0,20}", "/k{300}"].prop_map(Key::new)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 200..300)].prop_map(Bytes::from)
}

fn ids() -> impl Strategy<Value = BTreeSet<VersionId>> {
    btree_set(any::<[u8; 32]>().prop_map(VersionId), 1..6)
}

pub(crate) fn links(format: Format) -> impl Strategy<Value = Vec<Cid>> {
    btree_set(any::<[u8; 32]>(), 0..5).prop_map(move |ids| {
        ids.into_iter()
            .map(|id| VersionId(id).cid(format))
            .collect()
    })
}

/// A delta with one put a key and one entry of deletes a key, in the order of bytes.
pub(crate) fn delta() -> impl Strategy<Value = Delta> {
    let priority = prop_oneof![0_u64..30, Just(MAX_PRIORITY), 0..=MAX_PRIORITY];
    let (puts, deletes) = (
        btree_map(key(), value(), 0..6),
        btree_map(key(), ids(), 0..12),
    );
    (priority, "\\PC{0,20}|g{256}", puts, deletes).prop_map(|(priority, name, puts, deletes)| {
        Delta {
            priority,
            dag_name: DagName::new(name),
            puts: puts
                .into_iter()
                .map(|(key, value)| Put { key, value })
                .collect(),
            deletes: deletes
                .into_iter()
                .map(|(key, ids)| Deletes {
                    key,
                    ids: ids.into_iter().collect(),
                })
                .collect(),
        }
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    ("n{0,64}", any::<[u8; 16]>(), 1_u64..).prop_map(|(network, writer, sequence)| Origin {
        network,
        writer: WriterId(writer),
        sequence,
    })
}

fn signature() -> impl Strategy<Value = Option<Signature>> {
    let part = || vec(any::<u8>(), 1..80).prop_map(Bytes::from);
    let signature =
        (part(), part()).prop_map(|(author, signature)| Signature { author, signature });
    proptest::option::of(signature)
}

/// Puts, deletes and ids in the order of bytes, as `delta()` has them.
fn in_order(mut node: Node) -> Node {
    node.delta.puts.sort_by(|a, b| a.key.cmp(&b.key));
    node.delta.deletes.sort_by(|a, b| a.key.cmp(&b.key));
    node.delta
        .deletes
        .iter_mut()
        .for_each(|deletes| deletes.ids.sort());
    node
}

/// Valid blocks and announcements, to spoil.
fn seeds() -> Vec<Bytes> {
    let mut seeds = Vec::new();
    for step in steps() {
        seeds.extend([hex(&step["block_hex"]), hex(&step["broadcast_hex"])]);
    }
    for file in ["cbor/blocks.json", "cbor/refused.json"] {
        seeds.extend(
            json(file)
                .as_array()
                .unwrap()
                .iter()
                .map(|v| hex(&v["block_hex"])),
        );
    }
    seeds
}

#[derive(Debug, Clone)]
enum Spoil {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    /// Doubles a range.
    Double(prop::sample::Index, prop::sample::Index),
}

impl Spoil {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (at(), 0_u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            at().prop_map(Self::Remove),
            at().prop_map(Self::Cut),
            (at(), at()).prop_map(|(from, to)| Self::Double(from, to)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Set(at, byte) => bytes[at.index(len)] = *byte,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Insert(at, byte) => bytes.insert(at.index(len), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(len))),
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Double(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                let range = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from.min(to)..from.min(to), range);
            }
        }
    }
}

fn spoiled() -> impl Strategy<Value = Bytes> {
    (prop::sample::select(seeds()), vec(Spoil::any(), 1..6)).prop_map(|(seed, spoils)| {
        let mut bytes = seed.to_vec();
        spoils.iter().for_each(|spoil| spoil.apply(&mut bytes));
        bytes.into()
    })
}

/// Reads `bytes` as a DAG-CBOR block and checks that they are the one form of what they say.
fn check_dag_cbor(bytes: &Bytes) -> bool {
    let block = block(Format::DagCbor, bytes.clone());
    let network = match block::decode(&block, "") {
        Err(BlockError::OtherNetwork { network, .. }) => network.into_string(),
        Err(BlockError::UnknownVersion { .. }) => {
            dag_cbor::links_of_unknown(&block).unwrap();
            return false;
        }
        Err(BlockError::Malformed { .. }) => return false,
        Err(error) => panic!("{error}"),
        Ok(_) => String::new(),
    };
    let node = block::decode(&block, &network).unwrap();
    let origin = node.origin.as_ref().unwrap();
    let again = match &node.signature {
        Some(signature) => dag_cbor::encode_signed(origin, &node.links, &node.delta, signature),
        None => dag_cbor::encode(origin, &node.links, &node.delta),
    };
    assert_eq!(again.unwrap(), block);
    true
}

/// Reads `bytes` as a DAG-PB block and checks that what it says can be written, and is read again.
fn check_dag_pb(bytes: &Bytes) -> bool {
    let Ok(mut node) = block::decode(&block(Format::DagPb, bytes.clone()), "") else {
        return false;
    };
    node.foreign_links.clear();
    node.delta.priority = node.delta.priority.min(MAX_PRIORITY);
    node.links.sort();
    let again = dag_pb::encode(&node.links, &node.delta).unwrap();
    assert_eq!(by_key(block::decode(&again, "").unwrap()), by_key(node));
    true
}

/// The deletes of one key together, their ids in order.
fn by_key(mut node: Node) -> Node {
    let mut of_key: BTreeMap<Key, Vec<VersionId>> = BTreeMap::new();
    for deletes in node.delta.deletes.drain(..) {
        of_key.entry(deletes.key).or_default().extend(deletes.ids);
    }
    node.delta.deletes = of_key
        .into_iter()
        .map(|(key, ids)| Deletes { key, ids })
        .collect();
    node.delta
        .deletes
        .iter_mut()
        .for_each(|deletes| deletes.ids.sort());
    node
}

fn check_announcement(bytes: &Bytes) {
    let limits = AnnouncementLimits {
        max_payload_bytes: usize::MAX,
        max_block_bytes: usize::MAX,
    };
    if let Ok(announcement) = Announcement::decode(bytes, &limits) {
        for payload in announcement.encode(&limits) {
            assert_eq!(
                Announcement::decode(&payload, &limits).unwrap(),
                announcement
            );
        }
    }
}

pub(crate) fn check_all(bytes: &Bytes) {
    let both = check_dag_cbor(bytes) && check_dag_pb(bytes);
    assert!(!both, "bytes that are a block of both formats");
    check_announcement(bytes);
}

proptest! {
    #[test]
    fn a_dag_cbor_block_says_what_was_written(
        origin in origin(), links in links(Format::DagCbor), delta in delta(), signature in signature(),
    ) {
        let block = match &signature {
            Some(signature) => dag_cbor::encode_signed(&origin, &links, &delta, signature).unwrap(),
            None => dag_cbor::encode(&origin, &links, &delta).unwrap(),
        };
        let node = block::decode(&block, &origin.network).unwrap();
        let origin = Some(origin);
        prop_assert_eq!(
            in_order(node),
            Node { links, foreign_links: Vec::new(), delta, origin, signature }
        );
        prop_assert!(check_dag_cbor(block.bytes()));
    }

    #[test]
    fn a_dag_pb_block_says_what_was_written(links in links(Format::DagPb), delta in delta()) {
        let block = dag_pb::encode(&links, &delta).unwrap();
        let node = in_order(block::decode(&block, "any network").unwrap());
        let (foreign_links, origin, signature) = (Vec::new(), None, None);
        prop_assert_eq!(node, Node { links, foreign_links, delta, origin, signature });
    }

    #[test]
    fn random_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..300)) {
        check_all(&bytes.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn spoiled_blocks_are_refused_or_are_the_one_form_of_another(bytes in spoiled()) {
        check_all(&bytes);
    }
}
