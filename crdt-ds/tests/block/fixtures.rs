//! Vectors, and small blocks to build on.

use std::path::PathBuf;

use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{Block, DagName, Deletes, Delta, Format, Origin, Put, VersionId, WriterId};
use crdt_ds::datastore::Key;
use data_encoding::HEXLOWER;
use serde_json::Value;

pub(crate) fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path)
}

pub(crate) fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(testdata(path)).unwrap()).unwrap()
}

pub(crate) fn hex(value: &Value) -> Bytes {
    unhex(value.as_str().unwrap())
}

pub(crate) fn unhex(text: &str) -> Bytes {
    HEXLOWER.decode(text.as_bytes()).unwrap().into()
}

pub(crate) fn cid(text: &Value) -> Cid {
    Cid::try_from(text.as_str().unwrap()).unwrap()
}

pub(crate) fn block(format: Format, bytes: impl Into<Bytes>) -> Block {
    Block::new(format, bytes.into()).unwrap()
}

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Put {
    Put {
        key: Key::new(key),
        value: value.into(),
    }
}

pub(crate) fn deletes(key: &str, ids: &[VersionId]) -> Deletes {
    Deletes {
        key: Key::new(key),
        ids: ids.to_vec(),
    }
}

pub(crate) fn delta(puts: Vec<Put>, deletes: Vec<Deletes>) -> Delta {
    Delta {
        priority: 1,
        dag_name: DagName::default(),
        puts,
        deletes,
    }
}

pub(crate) fn origin() -> Origin {
    Origin {
        network: String::new(),
        writer: WriterId([7; 16]),
        sequence: 1,
    }
}
