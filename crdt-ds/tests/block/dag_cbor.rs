//! DAG-CBOR blocks: one form, and nothing else.

use std::collections::BTreeMap;

use cid::Cid;
use crdt_ds::block::{
    self, Block, BlockError, DagName, Deletes, Delta, Format, MAX_PRIORITY, Node, Origin, Put,
    Signature, VersionId, WriterId, dag_cbor,
};
use crdt_ds::datastore::Key;
use ipld_core::ipld::Ipld;
use serde_json::Value;

use super::fixtures::{block, cid, deletes, delta, hex, json, origin, put};

/// The node that a vector describes, its puts and deletes in the order of their text.
fn described(vector: &Value) -> Node {
    let puts = vector["puts_hex"].as_object().unwrap();
    let deletes = vector["deletes_hex"].as_object().unwrap();
    let id = |id: &Value| VersionId(hex(id).as_ref().try_into().unwrap());
    let ids = |ids: &Value| ids.as_array().unwrap().iter().map(id).collect();
    Node {
        links: vector["links"]
            .as_array()
            .unwrap()
            .iter()
            .map(cid)
            .collect(),
        foreign_links: Vec::new(),
        delta: Delta {
            priority: vector["priority"].as_u64().unwrap(),
            dag_name: DagName::new(vector["dag_name"].as_str().unwrap()),
            puts: puts
                .iter()
                .map(|(key, value)| put(key, hex(value)))
                .collect(),
            deletes: deletes
                .iter()
                .map(|(key, of_key)| Deletes {
                    key: Key::new(key),
                    ids: ids(of_key),
                })
                .collect(),
        },
        origin: Some(Origin {
            network: vector["network"].as_str().unwrap().to_owned(),
            writer: WriterId(hex(&vector["writer_hex"]).as_ref().try_into().unwrap()),
            sequence: vector["sequence"].as_u64().unwrap(),
        }),
        signature: vector["author_hex"].is_string().then(|| Signature {
            author: hex(&vector["author_hex"]),
            signature: hex(&vector["signature_hex"]),
        }),
    }
}

fn encode(node: &Node) -> Result<Block, BlockError> {
    let origin = node.origin.as_ref().unwrap();
    match &node.signature {
        Some(signature) => dag_cbor::encode_signed(origin, &node.links, &node.delta, signature),
        None => dag_cbor::encode(origin, &node.links, &node.delta),
    }
}

/// As `described` has them.
fn by_text(mut node: Node) -> Node {
    node.delta.puts.sort_by(|a, b| a.key.cmp(&b.key));
    node.delta.deletes.sort_by(|a, b| a.key.cmp(&b.key));
    node
}

#[test]
fn blocks_are_written_and_read_as_the_vectors_say() {
    for vector in json("cbor/blocks.json").as_array().unwrap() {
        let node = described(vector);
        let block = encode(&node).unwrap();
        assert_eq!(
            block.bytes(),
            &hex(&vector["block_hex"]),
            "{}",
            vector["name"]
        );
        assert_eq!(*block.cid(), cid(&vector["cid"]), "{}", vector["name"]);
        let network = &node.origin.as_ref().unwrap().network;
        assert_eq!(
            by_text(block::decode(&block, network).unwrap()),
            node,
            "{}",
            vector["name"]
        );
        if let Some(signature) = &node.signature {
            let origin = node.origin.as_ref().unwrap();
            let signed =
                dag_cbor::signed_bytes(origin, &node.links, &node.delta, &signature.author);
            assert_eq!(signed.unwrap(), hex(&vector["signed_hex"]));
        }
    }
}

#[test]
fn whatever_is_not_the_one_form_is_refused() {
    for vector in json("cbor/refused.json").as_array().unwrap() {
        let block = block(Format::DagCbor, hex(&vector["block_hex"]));
        let error = match block::decode(&block, "").unwrap_err() {
            BlockError::Malformed { .. } => "malformed".to_owned(),
            BlockError::OtherNetwork { network, .. } => {
                assert_eq!(&*network, "other");
                "other network".to_owned()
            }
            BlockError::UnknownVersion { version, .. } => format!("unknown version {version}"),
            error => panic!("{}: {error}", vector["name"]),
        };
        assert_eq!(
            error,
            vector["error"].as_str().unwrap(),
            "{}",
            vector["name"]
        );
    }
}

#[test]
fn a_general_reader_of_dag_cbor_agrees_on_every_block() {
    for vector in json("cbor/blocks.json").as_array().unwrap() {
        let bytes = hex(&vector["block_hex"]);
        let ipld: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
        assert_eq!(
            serde_ipld_dagcbor::to_vec(&ipld).unwrap(),
            bytes,
            "{}",
            vector["name"]
        );
        let Ipld::Map(fields) = ipld else {
            panic!("no map")
        };
        let links: Vec<Ipld> = vector["links"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| Ipld::Link(cid(link)))
            .collect();
        assert_eq!(fields["l"], Ipld::List(links));
        let puts: BTreeMap<String, Ipld> = vector["puts_hex"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.clone(), Ipld::Bytes(hex(value).to_vec())))
            .collect();
        assert_eq!(fields["p"], Ipld::Map(puts));
    }
}

#[test]
fn the_links_of_an_unknown_version_are_read() {
    let mut read = 0;
    for vector in json("cbor/refused.json").as_array().unwrap() {
        let block = block(Format::DagCbor, hex(&vector["block_hex"]));
        match vector["error"].as_str().unwrap() {
            error if error.starts_with("unknown version") => {
                let links = dag_cbor::links_of_unknown(&block).unwrap();
                read += links.len();
            }
            _ => {}
        }
    }
    assert_eq!(read, 2);
}

#[test]
fn a_version_to_come_may_nest_64_deep() {
    let mut bytes = b"\xa3al\x80av\x02ax".to_vec();
    bytes.resize(bytes.len() + 64, 0x81);
    bytes.push(0xf6);
    let block = block(Format::DagCbor, bytes);
    let unknown = BlockError::UnknownVersion {
        cid: *block.cid(),
        version: 2,
    };
    assert_eq!(block::decode(&block, "").unwrap_err(), unknown);
}

#[test]
fn a_header_nested_without_end_is_malformed() {
    let mut bytes = b"\xa3al\x80av\x02ax".to_vec();
    bytes.resize(1 << 20, 0x81);
    let block = block(Format::DagCbor, bytes);
    assert!(matches!(
        block::decode(&block, ""),
        Err(BlockError::Malformed { .. })
    ));
}

#[test]
fn the_order_in_which_a_delta_is_given_does_not_matter() {
    let (a, b) = (VersionId([1; 32]), VersionId([2; 32]));
    let links = [
        a.cid(Format::DagPb),
        b.cid(Format::DagCbor),
        a.cid(Format::DagCbor),
    ];
    let sorted = dag_cbor::encode(
        &origin(),
        &links,
        &delta(
            vec![put("/k", "1"), put("/aa", "2")],
            vec![deletes("/k", &[a, b])],
        ),
    );
    let shuffled = dag_cbor::encode(
        &origin(),
        &[links[2], links[1], links[0], links[1]],
        &delta(
            vec![put("/aa", "2"), put("/k", "1")],
            vec![
                deletes("/k", &[b]),
                deletes("/none", &[]),
                deletes("/k", &[b, a]),
            ],
        ),
    );
    assert_eq!(sorted.unwrap(), shuffled.unwrap());
}

#[test]
fn what_has_no_place_in_the_format_is_not_written() {
    let unwritable = |origin: Origin, delta: Delta| {
        matches!(
            dag_cbor::encode(&origin, &[], &delta),
            Err(BlockError::Unwritable { .. })
        )
    };
    let one = || delta(vec![put("/k", "v")], Vec::new());
    assert!(!unwritable(origin(), one()));
    assert!(unwritable(
        origin(),
        delta(vec![put("/k", "1"), put("/k", "2")], Vec::new())
    ));
    assert!(unwritable(
        origin(),
        Delta {
            priority: MAX_PRIORITY + 1,
            ..one()
        }
    ));
    assert!(unwritable(
        origin(),
        Delta {
            dag_name: DagName::new("g".repeat(257)),
            ..one()
        }
    ));
    assert!(unwritable(
        Origin {
            network: "n".repeat(65),
            ..origin()
        },
        one()
    ));
    assert!(unwritable(
        Origin {
            sequence: 0,
            ..origin()
        },
        one()
    ));

    let raw = Cid::new_v1(0x55, *VersionId([1; 32]).cid(Format::DagCbor).hash());
    let foreign = dag_cbor::encode(&origin(), &[raw], &one());
    assert_eq!(foreign.unwrap_err(), BlockError::ForeignCid { cid: raw });

    let half = Signature {
        author: "author".into(),
        signature: "".into(),
    };
    let half = dag_cbor::encode_signed(&origin(), &[], &one(), &half);
    assert!(matches!(half, Err(BlockError::Unwritable { .. })));
}

#[test]
fn a_block_above_the_limit_is_not_written() {
    let value = vec![0; block::MAX_BLOCK_BYTES];
    let delta = delta(
        vec![Put {
            key: Key::new("/k"),
            value: value.into(),
        }],
        Vec::new(),
    );
    let error = dag_cbor::encode(&origin(), &[], &delta).unwrap_err();
    assert!(matches!(error, BlockError::TooLarge { .. }));
}
