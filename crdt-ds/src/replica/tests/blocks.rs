//! Blocks that no replica of ours would make, and blocks that none should take.

use bytes::Bytes;
use cid::Cid;
use datastore_core::Key;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::MAX_KEY_BYTES;
use crate::block::{
    Block, DagName, Deletes, Delta, Format, MAX_PRIORITY, Origin, Put, VersionId, WriterId,
    dag_cbor, dag_pb, protobuf,
};

pub(super) const NETWORK: &str = "net";

/// Few keys, so that they meet. The root is one, and some are above others.
pub(super) const KEYS: [&str; 6] = ["/", "/a", "/a/b", "/k", "/k/x", "/z"];
/// Few values, so that they tie: on both sides of what is inlined.
pub(super) const VALUES: [&str; 7] = ["", "a", "aa", "b", "12345678", "123456789", "123456780"];
pub(super) const NAMES: [&str; 3] = ["", "a", "b"];

pub(super) fn key(random: &mut StdRng) -> Key {
    Key::new(KEYS.choose(random).unwrap())
}

pub(super) fn value(random: &mut StdRng) -> Bytes {
    match random.random_range(0..12) {
        0 => Bytes::from(vec![b'v'; random.random_range(0..300)]),
        _ => Bytes::from_static(VALUES.choose(random).unwrap().as_bytes()),
    }
}

pub(super) fn name(random: &mut StdRng) -> DagName {
    DagName::new(*NAMES.choose(random).unwrap())
}

fn priority(random: &mut StdRng, now_us: u64, format: Format) -> u64 {
    let odd = [0, 1, 2, (1 << 61) + 1, MAX_PRIORITY - 1, MAX_PRIORITY];
    match random.random_range(0..10) {
        0..3 => *odd.choose(random).unwrap(),
        3..6 => random.random_range(0..8),
        6 if format == Format::DagPb => u64::MAX,
        _ => now_us.saturating_add_signed(random.random_range(-2000..2000)),
    }
}

fn nobodys(random: &mut StdRng, format: Format) -> Cid {
    VersionId(random.random()).cid(format)
}

/// Links to blocks of any name, now and then to one that nobody has.
fn links(random: &mut StdRng, pool: &[Block], format: Format) -> Vec<Cid> {
    let mut links = Vec::new();
    for _ in 0..random.random_range(0..4) {
        links.push(match pool.choose(random) {
            Some(block) if random.random_bool(0.9) => *block.cid(),
            _ => nobodys(random, format),
        });
    }
    links.retain(|link| format == Format::DagCbor || link.codec() == format.codec());
    links.sort();
    links.dedup();
    links
}

fn delta(random: &mut StdRng, pool: &[Block], now_us: u64, format: Format) -> Delta {
    let mut puts: Vec<Put> = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let put = Put {
            key: key(random),
            value: value(random),
        };
        if puts.iter().all(|other| other.key != put.key) {
            puts.push(put);
        }
    }
    let mut deletes = Vec::new();
    for _ in 0..random.random_range(0..3) {
        let ids = (0..random.random_range(1..4)).map(|_| match pool.choose(random) {
            Some(block) if random.random_bool(0.9) => VersionId::of(block.cid()).unwrap(),
            _ => VersionId(random.random()),
        });
        let ids = ids.collect();
        deletes.push(Deletes {
            key: key(random),
            ids,
        });
    }
    if random.random_bool(0.01) {
        let long = Key::new("x".repeat(MAX_KEY_BYTES));
        deletes.push(Deletes {
            key: long.clone(),
            ids: vec![VersionId(random.random())],
        });
        puts.push(Put {
            key: long,
            value: Bytes::new(),
        });
    }
    Delta {
        priority: priority(random, now_us, format),
        dag_name: name(random),
        puts,
        deletes,
    }
}

fn encode(random: &mut StdRng, format: Format, links: &[Cid], delta: &Delta) -> Block {
    match format {
        Format::DagCbor => {
            let origin = Origin {
                network: NETWORK.to_owned(),
                writer: WriterId(random.random()),
                sequence: 1,
            };
            dag_cbor::encode(&origin, links, delta).unwrap()
        }
        Format::DagPb => raw_dag_pb(random, links, delta),
    }
}

/// DAG-PB as nobody should write it: keys that are not clean, a key that comes twice, ids that name
/// nothing, links that nobody can follow, any priority.
fn raw_dag_pb(random: &mut StdRng, links: &[Cid], delta: &Delta) -> Block {
    let mut out = Vec::new();
    let mut link = |hash: &[u8]| {
        protobuf::write_bytes_head(&mut out, 2, 2 + hash.len());
        protobuf::write_bytes_field(&mut out, 1, hash);
    };
    for cid in links {
        link(&cid.to_bytes());
    }
    if random.random_bool(0.1) {
        link(&nobodys(random, Format::DagCbor).to_bytes());
    }
    let mut data = Vec::new();
    let mut element = |field: u8, key: &str, id: &str, value: &[u8]| {
        let mut body = Vec::new();
        protobuf::write_scalar_field(&mut body, 1, key.as_bytes());
        protobuf::write_scalar_field(&mut body, 2, id.as_bytes());
        protobuf::write_scalar_field(&mut body, 3, value);
        protobuf::write_bytes_field(&mut data, field, &body);
    };
    for put in &delta.puts {
        let key = put.key.as_str();
        match random.random_range(0..6) {
            0 => element(1, &format!("{key}//"), "", &put.value),
            1 => element(1, &format!("{key}/../{key}"), "", &put.value),
            2 => element(1, key, "", &value(random)),
            _ => {}
        }
        element(1, key, "", &put.value);
    }
    for deletes in &delta.deletes {
        for id in &deletes.ids {
            let hash = id.cid(Format::DagPb).hash().to_bytes();
            let text = format!("/{}", data_encoding::BASE32_NOPAD.encode(&hash));
            element(2, deletes.key.as_str(), &text, b"");
        }
        if random.random_bool(0.1) {
            element(2, deletes.key.as_str(), "/NOBODY", b"");
        }
    }
    if delta.priority > 0 {
        protobuf::write_number_field(&mut data, 3, delta.priority);
    }
    protobuf::write_scalar_field(&mut data, 4, delta.dag_name.as_str().as_bytes());
    if random.random_bool(0.05) {
        data.push(0xff);
    }
    protobuf::write_bytes_field(&mut out, 1, &data);
    Block::new(Format::DagPb, out.into()).unwrap()
}

/// A block of an unknown version of the format.
fn of_an_unknown_version(block: &Block) -> Block {
    let version = b"\x61v\x01";
    let mut bytes = block.bytes().to_vec();
    let at = bytes.windows(3).rposition(|window| window == version);
    bytes[at.unwrap() + 2] = 2;
    Block::new(Format::DagCbor, bytes.into()).unwrap()
}

/// Blocks from somebody who means no good: usually one, now and then many roots.
pub(super) fn hostile(
    random: &mut StdRng,
    pool: &[Block],
    now_us: u64,
    format: Format,
) -> Vec<Block> {
    match random.random_range(0..20) {
        0 => {
            let bytes: Vec<u8> = (0..random.random_range(1..40))
                .map(|_| random.random())
                .collect();
            vec![Block::new(format, bytes.into()).unwrap()]
        }
        1 | 2 => {
            let roots = if random.random_bool(0.1) { 70 } else { 20 };
            let (key, name) = (key(random), name(random));
            let mut root = || {
                let delta = Delta {
                    priority: random.random_range(0..4),
                    dag_name: name.clone(),
                    puts: vec![Put {
                        key: key.clone(),
                        value: random.random::<u32>().to_string().into(),
                    }],
                    deletes: Vec::new(),
                };
                match format {
                    Format::DagCbor => encode(random, format, &[], &delta),
                    Format::DagPb => dag_pb::encode(&[], &delta).unwrap(),
                }
            };
            (0..roots).map(|_| root()).collect()
        }
        kind => {
            let links = links(random, pool, format);
            let delta = delta(random, pool, now_us, format);
            let block = match format {
                // Only DAG-PB says more than the highest.
                Format::DagCbor => encode(random, format, &links, &delta),
                Format::DagPb => raw_dag_pb(random, &links, &delta),
            };
            if kind == 3 && format == Format::DagCbor {
                return vec![of_an_unknown_version(&block)];
            }
            if kind == 4 {
                let cut = block.bytes().len() - 1;
                return vec![Block::new(format, block.bytes().slice(..cut)).unwrap()];
            }
            vec![block]
        }
    }
}
