//! go-ds-crdt's `Delta`, a proto3 message:
//!
//! ```proto
//! message Delta {
//!   repeated Element elements = 1;
//!   repeated Element tombstones = 2;
//!   uint64 priority = 3;
//!   string dagName = 4;
//! }
//! message Element { string key = 1; string id = 2; bytes value = 3; }
//! ```
//!
//! An element's id is left out: it is the block itself. A tombstone's is the id of the version that
//! it kills, as text.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use datastore_core::Key;

use super::multiformats::{CIDV0_LEN, DIGEST_LEN};
use super::protobuf::{self, Fields, Value};
use super::{DagName, Deletes, Delta, Put, VersionId};
use crate::block::id::SHA2_256;

// Fields of a delta.
const ELEMENTS: u8 = 1;
const TOMBSTONES: u8 = 2;
const PRIORITY: u8 = 3;
const DAG_NAME: u8 = 4;
// Fields of an element.
const KEY: u8 = 1;
const ID: u8 = 2;
const VALUE: u8 = 3;

/// Length of the text of an id: a slash and 34 bytes in base 32.
const ID_TEXT_LEN: usize = 1 + (CIDV0_LEN * 8).div_ceil(5);

/// The text of a version's id in a tombstone: `/` and the multihash in base 32 without padding.
fn id_text(id: &VersionId) -> String {
    let mut multihash = [0; CIDV0_LEN];
    let (prefix, digest) = multihash.split_at_mut(2);
    prefix.copy_from_slice(&[SHA2_256 as u8, DIGEST_LEN]);
    digest.copy_from_slice(&id.0);
    let mut text = String::with_capacity(ID_TEXT_LEN);
    text.push('/');
    BASE32_NOPAD.encode_append(&multihash, &mut text);
    text
}

/// The version that a tombstone's id names. Go uses the text as a path, so it is cleaned first; an id
/// that no version of ours can have kills nothing.
fn version_id(text: Bytes) -> Option<VersionId> {
    let path = Key::from_utf8(text).ok()?;
    let multihash = BASE32_NOPAD
        .decode(path.as_bytes().strip_prefix(b"/")?)
        .ok()?;
    let digest = multihash.strip_prefix(&[SHA2_256 as u8, DIGEST_LEN])?;
    Some(VersionId(digest.try_into().ok()?))
}

fn put_body_len(key: &Key, value_len: usize) -> usize {
    protobuf::bytes_field_len(key.as_bytes().len()) + protobuf::scalar_field_len(value_len)
}

fn tombstone_body_len(key: &Key) -> usize {
    protobuf::bytes_field_len(key.as_bytes().len()) + protobuf::bytes_field_len(ID_TEXT_LEN)
}

/// Bytes that a put adds to a delta.
pub(super) fn put_len(key: &Key, value_len: usize) -> usize {
    protobuf::bytes_field_len(put_body_len(key, value_len))
}

/// Bytes that the delete of one version adds to a delta.
pub(super) fn tombstone_len(key: &Key) -> usize {
    protobuf::bytes_field_len(tombstone_body_len(key))
}

/// Bytes of a delta.
pub(super) fn encoded_len(delta: &Delta) -> usize {
    let puts: usize = delta
        .puts
        .iter()
        .map(|put| put_len(&put.key, put.value.len()))
        .sum();
    let tombstones: usize = delta
        .deletes
        .iter()
        .map(|deletes| deletes.ids.len() * tombstone_len(&deletes.key))
        .sum();
    let priority = match delta.priority {
        0 => 0,
        priority => 1 + protobuf::varint_len(priority),
    };
    puts + tombstones + priority + protobuf::scalar_field_len(delta.dag_name.as_str().len())
}

/// Writes a delta.
pub(super) fn write(out: &mut Vec<u8>, delta: &Delta) {
    for put in &delta.puts {
        protobuf::write_bytes_head(out, ELEMENTS, put_body_len(&put.key, put.value.len()));
        protobuf::write_bytes_field(out, KEY, put.key.as_bytes());
        protobuf::write_scalar_field(out, VALUE, &put.value);
    }
    for deletes in &delta.deletes {
        let mut ids: Vec<String> = deletes.ids.iter().map(id_text).collect();
        ids.sort_unstable();
        for id in ids {
            protobuf::write_bytes_head(out, TOMBSTONES, tombstone_body_len(&deletes.key));
            protobuf::write_bytes_field(out, KEY, deletes.key.as_bytes());
            protobuf::write_bytes_field(out, ID, id.as_bytes());
        }
    }
    if delta.priority > 0 {
        protobuf::write_number_field(out, PRIORITY, delta.priority);
    }
    protobuf::write_scalar_field(out, DAG_NAME, delta.dag_name.as_str().as_bytes());
}

/// Reads a delta, as Go does: unknown fields are skipped, a scalar that comes again replaces the
/// one before. Of a key that is put twice the greatest value counts.
///
/// # Errors
/// A reason, if the bytes are no delta.
pub(super) fn read(data: &Bytes) -> Result<Delta, &'static str> {
    let mut delta = Delta::default();
    for field in Fields::of(data) {
        let field = field?;
        match (u8::try_from(field.number), field.value) {
            (Ok(ELEMENTS), Value::Bytes(element)) => {
                let element = Element::read(element)?;
                let key = element.key(data)?;
                delta.puts.push(Put {
                    key,
                    value: data.slice_ref(element.value),
                });
            }
            (Ok(TOMBSTONES), Value::Bytes(element)) => {
                let element = Element::read(element)?;
                let key = element.key(data)?;
                if let Some(id) = version_id(data.slice_ref(element.id.as_bytes())) {
                    push_delete(&mut delta.deletes, key, id);
                }
            }
            (Ok(PRIORITY), Value::Varint(priority)) => delta.priority = priority,
            (Ok(DAG_NAME), Value::Bytes(name)) => delta.dag_name = DagName::new(text(name)?),
            _ => {}
        }
    }
    keep_greatest_values(&mut delta.puts);
    Ok(delta)
}

fn push_delete(deletes: &mut Vec<Deletes>, key: Key, id: VersionId) {
    match deletes.last_mut() {
        Some(last) if last.key == key => last.ids.push(id),
        _ => deletes.push(Deletes { key, ids: vec![id] }),
    }
}

/// Leaves one put a key, the one with the greatest value, where the key came first.
fn keep_greatest_values(puts: &mut Vec<Put>) {
    if puts.is_sorted_by(|a, b| a.key < b.key) {
        return;
    }
    let mut first: HashMap<Key, usize> = HashMap::with_capacity(puts.len());
    let mut kept: Vec<Put> = Vec::with_capacity(puts.len());
    for put in puts.drain(..) {
        match first.entry(put.key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.push(put);
            }
            Entry::Occupied(occupied) => {
                if let Some(kept) = kept.get_mut(*occupied.get()) {
                    kept.value = kept.value.clone().max(put.value);
                }
            }
        }
    }
    *puts = kept;
}

#[derive(Default)]
struct Element<'a> {
    key: &'a str,
    id: &'a str,
    value: &'a [u8],
}

impl<'a> Element<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut element = Self::default();
        for field in Fields::of(bytes) {
            let field = field?;
            match (u8::try_from(field.number), field.value) {
                (Ok(KEY), Value::Bytes(key)) => element.key = text(key)?,
                (Ok(ID), Value::Bytes(id)) => element.id = text(id)?,
                (Ok(VALUE), Value::Bytes(value)) => element.value = value,
                _ => {}
            }
        }
        Ok(element)
    }

    /// Its key, cleaned.
    fn key(&self, data: &Bytes) -> Result<Key, &'static str> {
        Key::from_utf8(data.slice_ref(self.key.as_bytes())).map_err(|_| NOT_UTF8)
    }
}

const NOT_UTF8: &str = "protobuf: a string is not UTF-8";

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    str::from_utf8(bytes).map_err(|_| NOT_UTF8)
}
