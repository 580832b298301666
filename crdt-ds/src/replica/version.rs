//! A version of a key as its row keeps it, and which of two wins.

use std::cmp::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use datastore_core::Key;

use super::digest::StateDigest;
use crate::block::{Format, VersionId};
use crate::{Error, Result};

/// Where the value of a visible version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// In the row.
    Inline(Bytes),
    /// In its block: large values are stored once.
    InBlock {
        offset: u32,
        length: u32,
        term: [u8; 32],
    },
}

/// The visible version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    pub(crate) id: VersionId,
    pub(crate) format: Format,
    pub(crate) priority: u64,
    /// How many hidden versions the key has beside it.
    pub(crate) hidden: u32,
    pub(crate) value: Value,
}

const IN_BLOCK: u8 = 1;
const DAG_PB: u8 = 2;
const HEADER: usize = 1 + 32 + 8 + 4;

impl Visible {
    pub(crate) fn encode(&self) -> Bytes {
        let extra = match &self.value {
            Value::Inline(value) => value.len(),
            Value::InBlock { .. } => 40,
        };
        let mut row = BytesMut::with_capacity(HEADER + extra);
        let in_block = matches!(self.value, Value::InBlock { .. });
        row.put_u8((u8::from(in_block) * IN_BLOCK) | format_flag(self.format));
        row.put_slice(&self.id.0);
        row.put_u64(self.priority);
        row.put_u32(self.hidden);
        match &self.value {
            Value::Inline(value) => row.put_slice(value),
            Value::InBlock {
                offset,
                length,
                term,
            } => {
                row.put_u32(*offset);
                row.put_u32(*length);
                row.put_slice(term);
            }
        }
        row.freeze()
    }

    pub(crate) fn decode(key: &Key, row: &Bytes) -> Result<Self> {
        let damaged = || Error::damaged(format!("the version row of {key}"));
        let (header, rest) = row.split_at_checked(HEADER).ok_or_else(damaged)?;
        let mut fields = Fields(header);
        let flags: [u8; 1] = fields.take().ok_or_else(damaged)?;
        let [flags] = flags;
        let id = VersionId(fields.take().ok_or_else(damaged)?);
        let priority = u64::from_be_bytes(fields.take().ok_or_else(damaged)?);
        let hidden = u32::from_be_bytes(fields.take().ok_or_else(damaged)?);
        let value = if flags & IN_BLOCK == 0 {
            Value::Inline(row.slice(HEADER..))
        } else {
            let mut fields = Fields(rest);
            Value::InBlock {
                offset: u32::from_be_bytes(fields.take().ok_or_else(damaged)?),
                length: u32::from_be_bytes(fields.take().ok_or_else(damaged)?),
                term: fields.take().ok_or_else(damaged)?,
            }
        };
        Ok(Self {
            id,
            format: flag_format(flags),
            priority,
            hidden,
            value,
        })
    }

    /// The term of the key and this value in the state digest.
    pub(crate) fn term(&self, key: &Key) -> [u8; 32] {
        match &self.value {
            Value::Inline(value) => StateDigest::term(key, value),
            Value::InBlock { term, .. } => *term,
        }
    }

    pub(crate) fn value_len(&self) -> u64 {
        match &self.value {
            Value::Inline(value) => value.len() as u64,
            Value::InBlock { length, .. } => u64::from(*length),
        }
    }
}

/// A hidden version, as its row keeps it: the id is in the row's key, the value in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) format: Format,
    pub(crate) priority: u64,
}

impl Hidden {
    pub(crate) fn encode(self) -> Bytes {
        let mut row = BytesMut::with_capacity(9);
        row.put_u8(format_flag(self.format));
        row.put_u64(self.priority);
        row.freeze()
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut fields = Fields(row);
        let [flags]: [u8; 1] = fields.take()?;
        Some(Self {
            format: flag_format(flags),
            priority: u64::from_be_bytes(fields.take()?),
        })
    }
}

/// Which of two versions of a key wins: the higher priority, then the greater value by bytes, then
/// the greater id (go-ds-crdt's rule). Never equal for different versions, so every replica agrees.
pub(crate) fn rank(a: (u64, &[u8], VersionId), b: (u64, &[u8], VersionId)) -> Ordering {
    a.cmp(&b)
}

fn format_flag(format: Format) -> u8 {
    match format {
        Format::DagCbor => 0,
        Format::DagPb => DAG_PB,
    }
}

fn flag_format(flags: u8) -> Format {
    if flags & DAG_PB == 0 {
        Format::DagCbor
    } else {
        Format::DagPb
    }
}

/// Takes fields of fixed length off the front of a row.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_they_were_given() {
        let key = Key::new("/k");
        let inline = Visible {
            id: VersionId([7; 32]),
            format: Format::DagPb,
            priority: u64::MAX,
            hidden: 3,
            value: Value::Inline(Bytes::new()),
        };
        let in_block = Visible {
            format: Format::DagCbor,
            value: Value::InBlock {
                offset: 9,
                length: 70_000,
                term: [5; 32],
            },
            ..inline.clone()
        };
        for version in [inline, in_block] {
            let row = version.encode();
            assert_eq!(Visible::decode(&key, &row).unwrap(), version);
            assert!(Visible::decode(&key, &row.slice(..40)).is_err());
        }
        let hidden = Hidden {
            format: Format::DagPb,
            priority: 8,
        };
        assert_eq!(Hidden::decode(&hidden.encode()), Some(hidden));
    }

    #[test]
    fn bytes_decide_between_equal_priorities_not_lengths() {
        let id = VersionId([0; 32]);
        assert_eq!(rank((1, b"b", id), (1, b"aa", id)), Ordering::Greater);
        assert_eq!(rank((2, b"", id), (1, b"z", id)), Ordering::Greater);
    }
}
