//! DAG-PB blocks: refused exactly where Go refuses them.

use crdt_ds::block::{
    self, BlockError, DagName, Delta, Format, MAX_PRIORITY, Node, VersionId, dag_pb,
};

use super::fixtures::{block, deletes, delta, hex, json, put};
use super::go_vectors::all_blocks;

fn decode(bytes: &[u8]) -> Result<Node, BlockError> {
    block::decode(&block(Format::DagPb, bytes.to_vec()), "any network")
}

fn is_malformed(bytes: &[u8]) -> bool {
    matches!(decode(bytes), Err(BlockError::Malformed { .. }))
}

/// A field of bytes, shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

fn cid_bytes(codec: u8, digest: u8) -> Vec<u8> {
    [&[1, codec, 0x12, 0x20][..], &[digest; 32]].concat()
}

fn link(digest: u8) -> Vec<u8> {
    field(2, &field(1, &cid_bytes(0x70, digest)))
}

fn id(digest: u8) -> VersionId {
    VersionId([digest; 32])
}

fn data(delta: &[u8]) -> Vec<u8> {
    field(1, delta)
}

/// A delta of priority 9 with this before it.
fn after(prefix: &[u8]) -> Delta {
    decode(&data(&[prefix, b"\x18\x09"].concat()))
        .unwrap()
        .delta
}

#[test]
fn no_bytes_and_no_data_are_an_empty_delta() {
    for node in [decode(b"").unwrap(), decode(&data(b"")).unwrap()] {
        assert_eq!(node.delta, Delta::default());
        assert!(node.links.is_empty());
    }
}

#[test]
fn links_may_come_before_or_after_the_data_but_not_around_it() {
    let delta = data(b"\x18\x09");
    for bytes in [
        [link(1), link(2), delta.clone()].concat(),
        [delta.clone(), link(1), link(2)].concat(),
    ] {
        let node = decode(&bytes).unwrap();
        assert_eq!(
            node.links,
            [id(1).cid(Format::DagPb), id(2).cid(Format::DagPb)]
        );
        assert_eq!(node.delta.priority, 9);
    }
    assert!(is_malformed(&[link(1), delta.clone(), link(2)].concat()));
    assert!(is_malformed(&[delta.clone(), delta].concat()));
}

#[test]
fn a_link_has_a_hash_and_perhaps_a_name_and_a_size_in_this_order() {
    let hash = field(1, &cid_bytes(0x70, 1));
    let (name, size) = (field(2, b"\xff"), b"\x18\x05".to_vec());
    let with = |parts: &[&Vec<u8>]| {
        let parts: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        field(2, &parts)
    };
    for good in [
        with(&[&hash]),
        with(&[&hash, &name]),
        with(&[&hash, &size]),
        with(&[&hash, &name, &size]),
    ] {
        assert_eq!(decode(&good).unwrap().links, [id(1).cid(Format::DagPb)]);
    }
    for bad in [
        with(&[]),
        with(&[&name, &size]),
        with(&[&name, &hash]),
        with(&[&size, &hash]),
        with(&[&hash, &size, &name]),
        with(&[&hash, &hash]),
        with(&[&hash, &name, &name]),
        with(&[&hash, &field(4, b"")]),
        with(&[&hash, &field(3, b"")]),
        with(&[&field(1, b"")]),
        with(&[&field(1, b"no cid")]),
        // A digest of 288 bytes that has 32.
        with(&[&field(
            1,
            &[&[1, 0x70, 0x12, 0xa0, 2][..], &[1; 32]].concat(),
        )]),
    ] {
        assert!(is_malformed(&bad), "{bad:02x?}");
    }
}

#[test]
fn an_unknown_field_or_type_in_a_node_is_malformed() {
    assert!(is_malformed(&field(3, b"")));
    assert!(is_malformed(b"\x08\x01"));
    assert!(is_malformed(b"\x0a\x05data"));
    assert!(is_malformed(b"\x0b\x0c"));
}

#[test]
fn links_that_no_block_of_ours_can_have_are_kept_apart() {
    let cidv0 = [&[0x12, 0x20][..], &[3; 32]].concat();
    let raw = cid_bytes(0x55, 3);
    let dag_cbor = cid_bytes(0x71, 3);
    let long_hash = [&[1, 0x70, 0x13, 0x40][..], &[3; 64]].concat();
    let foreign = [&cidv0, &raw, &dag_cbor, &long_hash];
    let mut bytes = link(1);
    for hash in foreign {
        bytes.extend(field(2, &field(1, hash)));
    }
    bytes.extend(field(2, &field(1, &cidv0)));
    bytes.extend(link(1));
    let node = decode(&bytes).unwrap();
    assert_eq!(node.links, [id(1).cid(Format::DagPb)]);
    assert_eq!(node.foreign_links, foreign.map(|hash| hash.clone()));
}

#[test]
fn bytes_after_the_cid_of_a_link_are_ignored() {
    let hash = [cid_bytes(0x70, 1), b"more".to_vec()].concat();
    let node = decode(&[field(2, &field(1, &hash)), link(1)].concat()).unwrap();
    assert_eq!(node.links, [id(1).cid(Format::DagPb)]);
}

#[test]
fn data_that_is_no_delta_says_nothing_but_its_links_count() {
    for no_delta in [
        &b"\xff"[..],
        b"\x0a\x05cut",
        b"\x00\x01",
        b"\x22\x01\xff",
        b"\x18\x09\x0a\x03\x0a\x01\xff",
    ] {
        let node = decode(&[link(1), data(no_delta)].concat()).unwrap();
        assert_eq!(node.delta, Delta::default(), "{no_delta:02x?}");
        assert_eq!(node.links.len(), 1);
    }
}

#[test]
fn unknown_fields_of_a_delta_are_skipped_and_the_last_scalar_wins() {
    // A varint, 64 bits, bytes, nested groups, 32 bits, all in fields that a delta has not.
    let unknown =
        b"\x78\x01\x79\0\0\0\0\0\0\0\0\x7a\x01x\x7b\x83\x01\x08\x01\x84\x01\x7c\x7d\0\0\0\0";
    assert_eq!(after(unknown).priority, 9);
    // Known fields of another type.
    assert_eq!(after(b"\x08\x01\x1a\x01x\x20\x01").puts, []);
    let delta = after(b"\x18\x05\x22\x01a\x22\x01b");
    assert_eq!((delta.priority, delta.dag_name), (9, DagName::new("b")));
    let element = field(1, b"\x0a\x02/a\x1a\x01x\x0a\x02/b\x1a\x01y\x12\x02id");
    assert_eq!(after(&element).puts, [put("/b", "y")]);
    // A group that is not closed, or that another number closes, is no delta.
    assert_eq!(after(b"\x7b"), Delta::default());
    assert_eq!(after(b"\x7b\x84\x01"), Delta::default());
}

#[test]
fn groups_are_skipped_as_deep_as_go_does() {
    let nested = |depth| [vec![0x7b; depth], vec![0x7c; depth], vec![0x18, 9]].concat();
    let priority = |depth: usize| {
        let delta = nested(depth);
        let mut data = vec![0x0a];
        data.extend([delta.len() as u8 | 0x80, (delta.len() >> 7) as u8 | 0x80, 1]);
        data.extend(delta);
        decode(&data).unwrap().delta.priority
    };
    assert_eq!(priority(10_001), 9);
    assert_eq!(priority(10_002), 0);
}

#[test]
fn keys_are_cleaned() {
    let element = |key: &[u8]| field(1, &field(1, key));
    for (written, key) in [
        ("a", "/a"),
        ("/a/", "/a"),
        ("//a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../b", "/b"),
        ("", "/"),
    ] {
        assert_eq!(after(&element(written.as_bytes())).puts, [put(key, "")]);
    }
    let twice = [
        field(1, b"\x0a\x02a/\x1a\x01b"),
        field(1, b"\x0a\x01b"),
        field(1, b"\x0a\x02/a\x1a\x02aa"),
    ];
    assert_eq!(after(&twice.concat()).puts, [put("/a", "b"), put("/b", "")]);
}

#[test]
fn a_tombstone_id_is_a_path_and_a_bad_one_kills_nothing() {
    let good = "CIQACAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAI";
    let tombstone = |id: &str| field(2, &[field(1, b"/k"), field(2, id.as_bytes())].concat());
    for id_text in [
        format!("/{good}"),
        good.to_owned(),
        format!("//x/../{good}/"),
    ] {
        assert_eq!(
            after(&tombstone(&id_text)).deletes,
            [deletes("/k", &[id(1)])],
            "{id_text}"
        );
    }
    let lower = good.to_lowercase();
    let no_version = [
        "",
        "/",
        "/CIQ",
        &lower,
        &format!("/x/{good}"),
        &format!("{good}A"),
        // Not the shortest base 32, another hash, another length.
        &good.replace("CAI", "CAJ"),
        "/CMQACAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAI",
        "/CIPQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQC",
    ];
    for id_text in no_version {
        assert_eq!(after(&tombstone(id_text)).deletes, [], "{id_text}");
        assert_eq!(after(&tombstone(id_text)).priority, 9);
    }
}

#[test]
fn a_priority_of_a_foreign_block_may_be_any_number() {
    let delta = decode(&data(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
        .unwrap()
        .delta;
    assert_eq!(delta.priority, u64::MAX);
    // Above 64 bits it is no number, and so no delta.
    let delta = decode(&data(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"))
        .unwrap()
        .delta;
    assert_eq!(delta.priority, 0);
}

#[test]
fn tombstones_of_a_key_are_written_in_the_order_of_their_text() {
    // In base 32 the digits stand for the highest values, but come before the letters.
    let (low, high) = (VersionId([0; 32]), VersionId([0x0f; 32]));
    let block = dag_pb::encode(&[], &delta(Vec::new(), vec![deletes("/k", &[low, high])])).unwrap();
    assert_eq!(
        block::decode(&block, "").unwrap().delta.deletes,
        [deletes("/k", &[high, low])]
    );
}

#[test]
fn a_link_to_dag_cbor_and_a_priority_above_the_highest_are_not_written() {
    let one = delta(vec![put("/k", "v")], Vec::new());
    let cbor = dag_pb::encode(&[id(1).cid(Format::DagCbor)], &one);
    assert!(matches!(cbor, Err(BlockError::Unwritable { .. })));
    let highest = dag_pb::encode(
        &[],
        &Delta {
            priority: MAX_PRIORITY,
            ..one.clone()
        },
    );
    assert!(highest.is_ok());
    let above = dag_pb::encode(
        &[],
        &Delta {
            priority: MAX_PRIORITY + 1,
            ..one
        },
    );
    assert!(matches!(above, Err(BlockError::Unwritable { .. })));
}

#[test]
fn no_bytes_are_a_block_of_both_formats() {
    // A node of dag-pb that is not empty begins with the tag of field 1 or 2, so the low seven bits
    // of its first byte are 0x0a or 0x12; those of a map's head in CBOR are 0x20 to 0x3f.
    for vector in json("cbor/blocks.json").as_array().unwrap() {
        assert!(
            is_malformed(&hex(&vector["block_hex"])),
            "{}",
            vector["name"]
        );
    }
    for go in all_blocks() {
        let as_cbor = block::decode(&block(Format::DagCbor, go.bytes().clone()), "");
        assert!(matches!(as_cbor, Err(BlockError::Malformed { .. })));
    }
}
