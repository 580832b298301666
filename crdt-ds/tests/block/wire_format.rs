//! The vectors in `docs/wire-format.md` are what the code makes.

use std::collections::BTreeMap;
use std::fs;

use bytes::Bytes;
use crdt_ds::block::{
    Block, DagName, Delta, Format, Origin, Signature, VersionId, WriterId, dag_cbor, dag_pb,
};
use crdt_ds::sync::{AnnouncedHead, Announcement, AnnouncementLimits};

use super::fixtures::{deletes, delta, put, unhex};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire-format.md");

/// The vectors of the page by name.
fn page() -> (String, BTreeMap<String, Bytes>) {
    let page = fs::read_to_string(PAGE).unwrap();
    let mut vectors = BTreeMap::new();
    for fence in page.split("```vector ").skip(1) {
        let (name, rest) = fence.split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        let hex: String = body
            .lines()
            .flat_map(|line| line.split('#').next().unwrap().chars())
            .filter(|c| !c.is_whitespace())
            .collect();
        assert!(
            vectors.insert(name.to_owned(), unhex(&hex)).is_none(),
            "{name} comes twice"
        );
    }
    (page, vectors)
}

fn made() -> BTreeMap<&'static str, Block> {
    let origin = |sequence| Origin {
        network: String::new(),
        writer: WriterId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        sequence,
    };
    let at = |priority, delta| Delta { priority, ..delta };
    const NEW_YEAR: u64 = 1_767_225_600_000_000;

    let first = delta(vec![put("/hello", "world")], Vec::new());
    let first = dag_cbor::encode(&origin(1), &[], &at(NEW_YEAR, first)).unwrap();
    let old = deletes("/hello", &[VersionId::of(first.cid()).unwrap()]);
    let second = delta(vec![put("/hello", "there")], vec![old]);
    let second = dag_cbor::encode(&origin(2), &[*first.cid()], &at(NEW_YEAR + 1, second)).unwrap();

    let signature = Signature {
        author: [&[8, 1, 0x12, 0x20][..], &[0x11; 32]].concat().into(),
        signature: vec![0x22; 64].into(),
    };
    let signed = delta(vec![put("/k", "v")], Vec::new());
    let signed = dag_cbor::encode_signed(&origin(1), &[], &signed, &signature).unwrap();

    let pb = |links: &[&Block], priority, delta| {
        let links: Vec<_> = links.iter().map(|block| *block.cid()).collect();
        dag_pb::encode(&links, &at(priority, delta)).unwrap()
    };
    let one = pb(&[], 1, delta(vec![put("/hello", "world")], Vec::new()));
    let two = pb(&[&one], 2, delta(vec![put("/hello", "there")], Vec::new()));
    let ids = [&one, &two].map(|block| VersionId::of(block.cid()).unwrap());
    let three = pb(&[&two], 3, delta(Vec::new(), vec![deletes("/hello", &ids)]));

    BTreeMap::from([
        ("dag-cbor put", first),
        ("dag-cbor overwrite", second),
        ("dag-cbor signed", signed),
        ("dag-pb overwrite", two),
        ("dag-pb delete", three),
    ])
}

#[test]
fn the_vectors_of_the_page_are_what_the_code_makes() {
    let (page, mut vectors) = page();
    for (name, block) in made() {
        assert_eq!(vectors.remove(name).as_ref(), Some(block.bytes()), "{name}");
        if ["dag-cbor put", "dag-cbor overwrite", "dag-pb overwrite"].contains(&name) {
            assert!(
                page.contains(&format!("`{}`", block.cid())),
                "the CID of {name}"
            );
        }
    }

    let likes = Delta {
        dag_name: DagName::new("likes"),
        ..delta(vec![put("/b", "2")], Vec::new())
    };
    let block = dag_pb::encode(&[], &likes).unwrap();
    let announced = |ride: Option<Bytes>| {
        let head = AnnouncedHead {
            cid: *block.cid(),
            dag_name: likes.dag_name.clone(),
            block: ride,
        };
        Announcement { heads: vec![head] }.encode(&AnnouncementLimits::default())
    };
    assert_eq!(announced(None), [vectors.remove("announcement").unwrap()]);
    let with_block = announced(Some(block.bytes().clone()));
    assert_eq!(
        with_block,
        [vectors.remove("announcement with a block").unwrap()]
    );
    assert!(
        vectors.is_empty(),
        "vectors that nothing checks: {vectors:?}"
    );
}

#[test]
fn the_limits_of_the_page_are_those_of_the_code() {
    let (page, _) = page();
    let limits = AnnouncementLimits::default();
    let says = |text: &str| assert!(page.contains(text), "{text}");
    assert_eq!(crdt_ds::block::MAX_BLOCK_BYTES, 4_194_304);
    says("(4,194,304 bytes)");
    assert_eq!(crdt_ds::block::MAX_PRIORITY, (1 << 62) - 1);
    says("2^62 - 1");
    says(&format!(
        "at most {} bytes; empty for the unnamed DAG",
        DagName::MAX_BYTES
    ));
    says(&format!(
        "| network id | text | at most {} bytes |",
        dag_cbor::MAX_NETWORK_BYTES
    ));
    says(&format!(
        "at most {} KiB by default",
        limits.max_payload_bytes / 1024
    ));
    says(&format!(
        "({} KiB by default)",
        limits.max_block_bytes / 1024
    ));
    says(&format!(
        "codec `{:#x}` (DAG-CBOR)",
        Format::DagCbor.codec()
    ));
}
