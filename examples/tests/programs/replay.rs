use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crdt_ds::block::{self, Block, Delta, Format, dag_pb};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::{run, workspace};

fn history(number: u32) -> PathBuf {
    workspace().join(format!("crdt-ds/testdata/go/replay-{number}.json"))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blocks(history: &Value) -> Vec<Block> {
    let blocks = history["blocks_hex"].as_object().unwrap().values();
    blocks
        .map(|hex| HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap())
        .map(|bytes| Block::new(Format::DagPb, bytes.into()).unwrap())
        .collect()
}

/// The blocks to which no other links.
fn tips(blocks: &[Block]) -> BTreeSet<String> {
    let mut tips: BTreeSet<String> = blocks.iter().map(|b| b.cid().to_string()).collect();
    for block in blocks {
        for link in block::decode(block, "").unwrap().links {
            tips.remove(&link.to_string());
        }
    }
    tips
}

fn replay(arguments: &[&str]) -> Value {
    let output = run("replay", arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_order_and_store_comes_to_the_state_that_go_came_to() {
    for number in [101, 102, 103, 104] {
        let path = history(number);
        let history = read(&path);
        let blocks = blocks(&history);
        let mut digests = BTreeSet::new();
        for order in ["given", "reverse", "shuffled:1", "shuffled:2"] {
            for newest_first in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let fjall = format!("fjall:{}", folder.path().join("store").display());
                for store in ["memory", &fjall] {
                    let mut arguments = vec![
                        path.to_str().unwrap(),
                        "--store",
                        store,
                        "--order",
                        order,
                        "--newest-first",
                    ];
                    if !newest_first {
                        arguments.pop();
                    }
                    let outcome = replay(&arguments);
                    assert_eq!(outcome["state_hex"], history["state_hex"], "{arguments:?}");
                    assert_eq!(outcome["heads"], json!(tips(&blocks)), "{arguments:?}");
                    assert_eq!(outcome["height"], history["height"], "{arguments:?}");
                    assert_eq!(outcome["blocks"], blocks.len(), "{arguments:?}");
                    assert_eq!(outcome["merged"], blocks.len(), "{arguments:?}");
                    digests.insert(outcome["digest"].to_string());
                }
            }
        }
        assert_eq!(digests.len(), 1, "replay-{number}: {digests:?}");
    }
}

#[test]
fn a_long_history_merges_whole_from_its_end() {
    const LENGTH: u64 = 20_000;
    let mut links = Vec::new();
    let mut blocks = Vec::new();
    for priority in 1..=LENGTH {
        let delta = Delta {
            priority,
            ..Delta::default()
        };
        let block = dag_pb::encode(&links, &delta).unwrap();
        let name = HEXLOWER.encode(&block.cid().hash().to_bytes());
        blocks.push(format!("{name:?}:{:?}", HEXLOWER.encode(block.bytes())));
        links = vec![*block.cid()];
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.json");
    let history = format!(r#"{{"blocks_hex":{{{}}}}}"#, blocks.join(","));
    fs::write(&path, history).unwrap();

    let outcome = replay(&[path.to_str().unwrap(), "--order", "reverse"]);
    assert_eq!(outcome["merged"], LENGTH);
    assert_eq!(outcome["height"], LENGTH);
    assert_eq!(outcome["heads"], json!([links[0].to_string()]));
}

#[test]
fn above_a_hole_blocks_merge_only_newest_first() {
    let mut history = read(&history(101));
    let blocks = blocks(&history);
    let root = blocks
        .iter()
        .find(|block| block::decode(block, "").unwrap().links.is_empty())
        .unwrap();
    let name = HEXLOWER.encode(&root.cid().hash().to_bytes());
    history["blocks_hex"].as_object_mut().unwrap().remove(&name);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.json");
    fs::write(&path, history.to_string()).unwrap();
    let path = path.to_str().unwrap();

    let waiting = replay(&[path]);
    assert_eq!(waiting["blocks"], blocks.len() - 1);
    assert!(waiting["merged"].as_u64() < waiting["blocks"].as_u64());

    let merged = replay(&[path, "--newest-first"]);
    assert_eq!(merged["merged"], blocks.len() - 1);
}

/// Exit 2, one line on stderr that says `reason`, nothing on stdout.
fn is_refused(arguments: &[&str], reason: &str) {
    let output = run("replay", arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    assert!(error.contains(reason), "{arguments:?}: {error}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn a_wrong_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.json");
    let refused = |content: &[u8], reason: &str| {
        fs::write(&path, content).unwrap();
        is_refused(&[path.to_str().unwrap()], reason);
    };
    let name = "122065f6d4186313464de10b670f70ce1c7380861e0accee81714491ab21dd67edef";
    let empty = "1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let whole = fs::read(history(101)).unwrap();

    is_refused(&["/no/such/file"], "cannot be read");
    is_refused(&[folder.path().to_str().unwrap()], "cannot be read");
    refused(b"", "is no history: EOF");
    refused(&whole[..whole.len() / 2], "is no history: EOF");
    refused(&whole[1..], "is no history");
    refused(b"\xff\xfe", "is no history");
    refused(b"[]", "is no history");
    refused(b"{}", "missing field `blocks_hex`");
    refused(br#"{"blocks_hex": 1}"#, "expected an object of blocks");
    refused(br#"{"blocks_hex": {"1220": 1}}"#, "expected a string");
    let one = |name: &str, hex: &str| json!({"blocks_hex": {name: hex}}).to_string();
    refused(one(name, "0x").as_bytes(), "is not in hex");
    refused(one(name, "121").as_bytes(), "is not in hex");
    refused(one(name, "").as_bytes(), "do not hash to its name");
    refused(one("", "").as_bytes(), "do not hash to its name");
    // A block of its name that is no DAG-PB: field 2 ends before its length.
    let cut = Block::new(Format::DagPb, vec![0x12, 0x7f].into()).unwrap();
    let cut = HEXLOWER.encode(&cut.cid().hash().to_bytes());
    refused(one(&cut, "127f").as_bytes(), "is malformed");

    // No bytes are a block, an empty one: the file above was wrong in its name only.
    fs::write(&path, one(empty, "")).unwrap();
    assert_eq!(replay(&[path.to_str().unwrap()])["merged"], 1);
}

#[test]
fn wrong_arguments_are_refused() {
    let path = history(101);
    let path = path.to_str().unwrap();
    is_refused(&[], "usage: replay FILE");
    is_refused(&[path, path], "one file at a time");
    is_refused(&[path, "--fast"], "no option --fast");
    is_refused(&[path, "--store"], "is not memory or fjall:DIR");
    is_refused(&[path, "--store", "fjall:"], "is not memory or fjall:DIR");
    is_refused(&[path, "--store", "memory:x"], "is not memory or fjall:DIR");
    is_refused(&[path, "--order", "sorted"], "is not given, reverse or");
    is_refused(&[path, "--order", "shuffled:x"], "is not given, reverse or");
}

#[test]
fn a_folder_that_holds_a_replica_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("fjall:{}", folder.path().display());
    let path = history(101);
    let arguments = [path.to_str().unwrap(), "--store", &store];
    replay(&arguments);
    is_refused(&arguments, "holds a replica already");
}
