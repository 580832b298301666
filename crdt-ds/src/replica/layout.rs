//! Where each row of a replica lies in the store, and in which order.
//!
//! All rows live under the replica's namespace. A letter says what a row is:
//!
//! | row | holds |
//! |---|---|
//! | `k{key}` | the visible version of a key |
//! | `v/{key hash}/{id}` | a hidden version |
//! | `b/{cid}` | a block's bytes, merged or pending |
//! | `i/{name}/{priority}{cid}` | the merged blocks of a DAG name, in the order of sync |
//! | `l/{sequence}` | the merge log |
//! | `n/{name}` | a DAG name: heads, count; out of date for the name that the state carries |
//! | `h/{name}/{cid}` | a head that does not fit into its name's row |
//! | `g/{cid}` | a gap, with the names of the merged blocks that link to it |
//! | `d/{cid}` | a gap that the operator declared |
//! | `t/{id}/{key hash}` | a tombstone kept for a block that is not merged |
//! | `p/{cid}` | a pending block |
//! | `q/{priority}{cid}` | a pending block whose body is stored |
//! | `e/{link}/{cid}` | a pending block waits for a link |
//! | `y/{cid}` | a pending block that waits for nothing any more |
//! | `r/{link}` | a block for which some still wait by their rows, and need not |
//! | `w/{cid}` | a block that is wanted |
//! | `s` | the state: digest, counts, the log's end, and the row of a name that was written last |
//! | `o` | what the store is: layout version, format, network, store id |
//! | `c` | it was closed cleanly |
//!
//! Hashes and numbers are written so that the order of the text is the order of the bytes.

use cid::Cid;
use data_encoding::BASE32_DNSSEC;
use datastore_core::Key;
use sha2::{Digest, Sha256};

use crate::block::{DagName, Format, VersionId};

/// The version of this layout. Version 1 was never released, so there is none to migrate from.
pub(crate) const LAYOUT_VERSION: u32 = 2;

/// Stands for a key, or a DAG name, where its text would be too long or ambiguous in a row's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ShortHash([u8; 20]);

impl ShortHash {
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut short = [0; 20];
        for (to, from) in short.iter_mut().zip(Sha256::digest(text)) {
            *to = from;
        }
        Self(short)
    }
}

/// Makes the keys of rows.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    namespace: String,
}

impl Layout {
    pub(crate) fn new(namespace: &Key) -> Self {
        let namespace = if namespace.is_root() {
            String::new()
        } else {
            namespace.as_str().to_owned()
        };
        Self { namespace }
    }

    fn row(&self, kind: char, rest: usize, write: impl FnOnce(&mut String)) -> Key {
        let mut text = String::with_capacity(self.namespace.len() + 3 + rest);
        text.push_str(&self.namespace);
        text.push('/');
        text.push(kind);
        write(&mut text);
        Key::from(text)
    }

    /// The parent of all visible versions.
    pub(crate) fn visible_root(&self) -> Key {
        self.row('k', 0, |_| ())
    }

    pub(crate) fn visible(&self, key: &Key) -> Key {
        self.row('k', key.len(), |text| {
            if !key.is_root() {
                text.push_str(key.as_str());
            }
        })
    }

    pub(crate) fn hidden_of(&self, key: ShortHash) -> Key {
        self.row('v', 33, |text| push_short(text, key))
    }

    pub(crate) fn hidden(&self, key: ShortHash, id: VersionId) -> Key {
        self.row('v', 86, |text| {
            push_short(text, key);
            push_id(text, id);
        })
    }

    pub(crate) fn block(&self, cid: &Cid) -> Key {
        self.row('b', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn index(&self, name: &DagName, priority: u64, cid: &Cid) -> Key {
        self.row('i', 100, |text| {
            push_name(text, name);
            text.push('/');
            push_number(text, priority);
            text.push_str(&cid_text(cid));
        })
    }

    pub(crate) fn log_root(&self) -> Key {
        self.row('l', 0, |_| ())
    }

    pub(crate) fn log(&self, sequence: u64) -> Key {
        self.row('l', 14, |text| {
            text.push('/');
            push_number(text, sequence);
        })
    }

    pub(crate) fn name_root(&self) -> Key {
        self.row('n', 0, |_| ())
    }

    pub(crate) fn name(&self, name: &DagName) -> Key {
        self.row('n', 33, |text| push_name(text, name))
    }

    pub(crate) fn heads_of(&self, name: &DagName) -> Key {
        self.row('h', 33, |text| push_name(text, name))
    }

    pub(crate) fn head(&self, name: &DagName, cid: &Cid) -> Key {
        self.row('h', 87, |text| {
            push_name(text, name);
            push_cid(text, cid);
        })
    }

    pub(crate) fn gap_root(&self) -> Key {
        self.row('g', 0, |_| ())
    }

    pub(crate) fn gap(&self, cid: &Cid) -> Key {
        self.row('g', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn declared_root(&self) -> Key {
        self.row('d', 0, |_| ())
    }

    pub(crate) fn declared(&self, cid: &Cid) -> Key {
        self.row('d', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn kept_of(&self, id: VersionId) -> Key {
        self.row('t', 53, |text| push_id(text, id))
    }

    pub(crate) fn kept(&self, id: VersionId, key: ShortHash) -> Key {
        self.row('t', 86, |text| {
            push_id(text, id);
            push_short(text, key);
        })
    }

    pub(crate) fn pending(&self, cid: &Cid) -> Key {
        self.row('p', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn pending_root(&self) -> Key {
        self.row('p', 0, |_| ())
    }

    pub(crate) fn bodies_root(&self) -> Key {
        self.row('q', 0, |_| ())
    }

    pub(crate) fn body(&self, priority: u64, cid: &Cid) -> Key {
        self.row('q', 67, |text| {
            text.push('/');
            push_number(text, priority);
            text.push_str(&cid_text(cid));
        })
    }

    pub(crate) fn waiters_of(&self, link: &Cid) -> Key {
        self.row('e', 54, |text| push_cid(text, link))
    }

    pub(crate) fn waiter(&self, link: &Cid, waiter: &Cid) -> Key {
        self.row('e', 108, |text| {
            push_cid(text, link);
            push_cid(text, waiter);
        })
    }

    pub(crate) fn ready_root(&self) -> Key {
        self.row('y', 0, |_| ())
    }

    pub(crate) fn ready(&self, cid: &Cid) -> Key {
        self.row('y', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn releasing_root(&self) -> Key {
        self.row('r', 0, |_| ())
    }

    pub(crate) fn releasing(&self, link: &Cid) -> Key {
        self.row('r', 54, |text| push_cid(text, link))
    }

    pub(crate) fn wanted_root(&self) -> Key {
        self.row('w', 0, |_| ())
    }

    pub(crate) fn wanted(&self, cid: &Cid) -> Key {
        self.row('w', 54, |text| push_cid(text, cid))
    }

    pub(crate) fn state(&self) -> Key {
        self.row('s', 0, |_| ())
    }

    pub(crate) fn identity(&self) -> Key {
        self.row('o', 0, |_| ())
    }

    pub(crate) fn clean_mark(&self) -> Key {
        self.row('c', 0, |_| ())
    }
}

/// The CID at the end of a row's key.
pub(crate) fn trailing_cid(row: &Key) -> Option<Cid> {
    let text = row.as_str();
    let text = text.get(text.len().checked_sub(53)?..)?;
    let format = match text.get(..1)? {
        "c" => Format::DagCbor,
        "p" => Format::DagPb,
        _ => return None,
    };
    Some(decode_id(text.get(1..)?)?.cid(format))
}

/// The version id at the end of a row's key.
pub(crate) fn trailing_id(row: &Key) -> Option<VersionId> {
    let text = row.as_str();
    decode_id(text.get(text.len().checked_sub(52)?..)?)
}

/// The number at the end of a row's key.
pub(crate) fn trailing_number(row: &Key) -> Option<u64> {
    let text = row.as_str();
    let bytes = BASE32_DNSSEC
        .decode(text.get(text.len().checked_sub(13)?..)?.as_bytes())
        .ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn decode_id(text: &str) -> Option<VersionId> {
    Some(VersionId(
        BASE32_DNSSEC
            .decode(text.as_bytes())
            .ok()?
            .try_into()
            .ok()?,
    ))
}

fn push_cid(text: &mut String, cid: &Cid) {
    text.push('/');
    text.push_str(&cid_text(cid));
}

/// Only CIDs that a block of ours can have get here; another would only make a row that nothing
/// else names.
fn cid_text(cid: &Cid) -> String {
    let mut text = String::with_capacity(53);
    text.push(if cid.codec() == Format::DagCbor.codec() {
        'c'
    } else {
        'p'
    });
    BASE32_DNSSEC.encode_append(cid.hash().digest(), &mut text);
    text
}

fn push_id(text: &mut String, id: VersionId) {
    text.push('/');
    BASE32_DNSSEC.encode_append(&id.0, text);
}

fn push_short(text: &mut String, hash: ShortHash) {
    text.push('/');
    BASE32_DNSSEC.encode_append(&hash.0, text);
}

fn push_name(text: &mut String, name: &DagName) {
    if name.as_str().is_empty() {
        text.push_str("/-");
    } else {
        push_short(text, ShortHash::of(name.as_str().as_bytes()));
    }
}

fn push_number(text: &mut String, number: u64) {
    BASE32_DNSSEC.encode_append(&number.to_be_bytes(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_is_the_order_of_numbers_and_hashes() {
        let layout = Layout::new(&Key::new("/ns"));
        let a = VersionId([1; 32]).cid(Format::DagPb);
        let b = VersionId([200; 32]).cid(Format::DagPb);
        let name = DagName::new("name");
        let mut rows = Vec::new();
        for priority in [0, 1, 31, 32, 255, 256, 1 << 40, u64::MAX] {
            rows.push(layout.index(&name, priority, &a));
            rows.push(layout.index(&name, priority, &b));
        }
        assert!(rows.is_sorted());
        assert_eq!(rows.first().and_then(trailing_cid), Some(a));
        assert_eq!(trailing_number(&layout.log(77)), Some(77));
        assert_eq!(
            trailing_id(&layout.hidden(ShortHash::of(b"k"), VersionId([9; 32]))),
            Some(VersionId([9; 32]))
        );
    }

    #[test]
    fn a_key_and_its_child_have_rows_of_their_own() {
        let layout = Layout::new(&Key::root());
        assert_eq!(layout.visible(&Key::root()).as_str(), "/k");
        assert_eq!(layout.visible(&Key::new("/a/b")).as_str(), "/k/a/b");
    }
}
