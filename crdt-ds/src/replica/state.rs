//! What a replica keeps in memory of its merged blocks: for each DAG name the heads, the gaps, and a
//! few sums. Cheap to clone, so that a commit works on a copy and readers see only committed ones.
//!
//! Memory follows the heads, the gaps and the names (some 150 bytes each); each stands for a stored
//! block or a link in one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};
use futures::TryStreamExt;
use imbl::{OrdMap, OrdSet};
use prost::Message;

use super::digest::{StateDigest, history_digest};
use super::layout::{Layout, trailing_cid, trailing_number};
use crate::block::{DagName, MAX_PRIORITY};
use crate::store::Cursor;
use crate::{Error, Result};

/// How many heads of a name its row holds; more have rows of their own.
const INLINE_HEADS: usize = 64;

/// What all merged blocks amount to, beside the versions of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// How many blocks are merged: the merge log's last sequence number.
    pub(crate) sequence: u64,
    /// The merge log's running hash.
    pub(crate) log_hash: [u8; 32],
    pub(crate) digest: StateDigest,
    /// The highest priority merged, foreign ones above 2^61 aside.
    pub(crate) clock: u64,
    pub(crate) sums: Sums,
    pub(crate) names: OrdMap<DagName, Arc<NameState>>,
    /// The name whose row lies in the state's: one of those that the last commit wrote, so that a
    /// commit under one name writes one row for both. What its own row says is out of date.
    carried: Option<DagName>,
    /// Each gap with the names of the merged blocks that link to it.
    pub(crate) gaps: OrdMap<Cid, OrdSet<DagName>>,
    /// Gaps that the operator declared.
    pub(crate) declared: OrdSet<Cid>,
}

/// Counts of rows, so that a commit looks only for what can be there.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Sums {
    #[prost(uint64, tag = "1")]
    pub(crate) keys: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) hidden: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) kept: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) pending: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) bodies: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) ready: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) wanted: u64,
    /// Pending blocks of an unknown version.
    #[prost(uint64, tag = "8")]
    pub(crate) unknown: u64,
    /// Blocks for which some still wait by their rows, and need not.
    #[prost(uint64, tag = "9")]
    pub(crate) releasing: u64,
}

/// One DAG name.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameState {
    /// How many of its blocks are merged.
    pub(crate) blocks: u64,
    /// The head that is, or is above, our own last block.
    pub(crate) own: Option<Cid>,
    /// Up to [`INLINE_HEADS`] heads, which its row holds.
    inline: Vec<Head>,
    /// More heads, with their priorities, which have rows of their own.
    spilled: OrdMap<Cid, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    pub(crate) cid: Cid,
    pub(crate) priority: u64,
}

impl NameState {
    pub(crate) fn heads(&self) -> impl Iterator<Item = Head> {
        let spilled = self.spilled.iter();
        let spilled = spilled.map(|(cid, priority)| Head {
            cid: *cid,
            priority: *priority,
        });
        self.inline.iter().copied().chain(spilled)
    }

    fn is_head(&self, cid: &Cid) -> bool {
        self.inline.iter().any(|head| head.cid == *cid) || self.spilled.contains_key(cid)
    }

    pub(crate) fn height(&self) -> u64 {
        self.heads().map(|head| head.priority).max().unwrap_or(0)
    }

    /// The heads to build on, at most `limit`: first the one above our own last block, then by
    /// priority.
    pub(crate) fn links(&self, limit: usize) -> Vec<Cid> {
        let mut heads: Vec<Head> = self.heads().collect();
        if heads.len() > limit {
            heads.sort_by_key(|head| {
                (
                    Some(head.cid) != self.own,
                    std::cmp::Reverse(head.priority),
                    head.cid,
                )
            });
            heads.truncate(limit);
        }
        heads.into_iter().map(|head| head.cid).collect()
    }
}

impl State {
    /// Where the merge log ends.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            sequence: self.sequence,
            hash: self.log_hash,
        }
    }

    pub(crate) fn history_digest(&self, name: &DagName) -> [u8; 32] {
        let mut heads: Vec<Cid> = self
            .names
            .get(name)
            .into_iter()
            .flat_map(|state| state.heads().map(|head| head.cid))
            .collect();
        heads.sort_unstable();
        let gaps: Vec<&Cid> = self
            .gaps
            .iter()
            .filter(|(_, names)| names.contains(name))
            .map(|(gap, _)| gap)
            .collect();
        history_digest(heads.iter(), gaps.into_iter())
    }

    /// Counts a merged block of this priority towards the hybrid clock.
    pub(crate) fn raise_clock(&mut self, priority: u64, foreign: bool) {
        const FOREIGN_LIMIT: u64 = 1 << 61;
        if !foreign || priority <= FOREIGN_LIMIT {
            self.clock = self.clock.max(priority.min(MAX_PRIORITY));
        }
    }

    /// Whether pending blocks can go on that the last commit had no room for.
    pub(crate) fn has_more_to_merge(&self) -> bool {
        self.sums.ready > 0 || self.sums.releasing > 0
    }

    pub(crate) fn is_head(&self, name: &DagName, cid: &Cid) -> bool {
        self.names.get(name).is_some_and(|state| state.is_head(cid))
    }

    pub(crate) fn name_mut(&mut self, name: &DagName) -> &mut NameState {
        Arc::make_mut(self.names.entry(name.clone()).or_default())
    }

    /// Adds a head, which is none yet, and tells whether it needs a row of its own.
    pub(crate) fn add_head(&mut self, name: &DagName, cid: Cid, priority: u64) -> bool {
        let state = self.name_mut(name);
        let spilled = state.inline.len() >= INLINE_HEADS;
        if spilled {
            state.spilled.insert(cid, priority);
        } else {
            state.inline.push(Head { cid, priority });
        }
        spilled
    }

    /// Removes a head if it is one; tells whether it was, and whether it had a row of its own.
    pub(crate) fn remove_head(&mut self, name: &DagName, cid: &Cid) -> Option<bool> {
        if !self.is_head(name, cid) {
            return None;
        }
        let state = self.name_mut(name);
        let spilled = state.spilled.remove(cid).is_some();
        if !spilled {
            state.inline.retain(|head| head.cid != *cid);
        }
        Some(spilled)
    }

    /// Writes the rows of the state and of `names` to `batch`.
    pub(crate) fn write(&mut self, layout: &Layout, names: &BTreeSet<DagName>, batch: &mut Batch) {
        let last = names.last().cloned().or_else(|| self.carried.clone());
        let before = std::mem::replace(&mut self.carried, last);
        let before = before.iter().filter(|name| !names.contains(name));
        for name in names.iter().chain(before) {
            if Some(name) != self.carried.as_ref()
                && let Some(state) = self.names.get(name)
            {
                batch.put(layout.name(name), state.row(name).encode_to_vec());
            }
        }
        batch.put(layout.state(), self.encode());
    }

    fn encode(&self) -> Bytes {
        StateRow {
            sequence: self.sequence,
            log_hash: self.log_hash.to_vec(),
            digest: self.digest.to_bytes().to_vec(),
            clock: self.clock,
            sums: Some(self.sums),
            carried: self.carried.as_ref().and_then(|name| {
                let state = self.names.get(name)?;
                Some(state.row(name))
            }),
        }
        .encode_to_vec()
        .into()
    }

    /// The merge log's last sequence number in a stored row of the state.
    pub(crate) fn sequence_of(row: Option<Bytes>) -> Result<u64> {
        let Some(row) = row else { return Ok(0) };
        let row = StateRow::decode(row).map_err(|_| Error::damaged("the state row"))?;
        Ok(row.sequence)
    }

    /// Reads the state of a store; the default one where there is none yet.
    pub(crate) async fn load(store: &dyn Datastore, layout: &Layout) -> Result<Self> {
        let Some(row) = store.get(&layout.state()).await? else {
            return Ok(Self::default());
        };
        let damaged = || Error::damaged("the state row");
        let row = StateRow::decode(row).map_err(|_| damaged())?;
        let mut state = Self {
            sequence: row.sequence,
            log_hash: row.log_hash.try_into().map_err(|_| damaged())?,
            digest: StateDigest::from_bytes(row.digest.try_into().map_err(|_| damaged())?),
            clock: row.clock,
            sums: row.sums.unwrap_or_default(),
            ..Self::default()
        };
        let mut rows = store.query(Query::new().prefix(layout.name_root())).await?;
        let mut names = BTreeMap::new();
        while let Some(entry) = rows.try_next().await? {
            let row = NameRow::decode(entry.value.unwrap_or_default());
            let damaged = |_| Error::damaged(format!("the DAG name row {}", entry.key));
            let row = row.map_err(damaged)?;
            names.insert(DagName::new(row.name.as_str()), row);
        }
        if let Some(row) = row.carried {
            let name = DagName::new(row.name.as_str());
            state.carried = Some(name.clone());
            names.insert(name, row);
        }
        for (name, row) in names {
            let damaged = || Error::damaged(format!("the row of the DAG name {name:?}"));
            let (mut name_state, spilled) = NameState::from_row(row).ok_or_else(damaged)?;
            if spilled > 0 {
                name_state.load_spilled(store, layout, &name).await?;
            }
            state.names.insert(name, Arc::new(name_state));
        }
        for (key, row) in read_rows(store, layout.gap_root()).await? {
            let names = GapRow::decode(row)
                .map_err(|_| Error::damaged("a gap row"))?
                .names;
            let cid = trailing_cid(&key).ok_or_else(|| Error::damaged("a gap row's key"))?;
            state
                .gaps
                .insert(cid, names.into_iter().map(DagName::new).collect());
        }
        for (key, _) in read_rows(store, layout.declared_root()).await? {
            state.declared.extend(trailing_cid(&key));
        }
        Ok(state)
    }
}

async fn read_rows(store: &dyn Datastore, parent: Key) -> Result<Vec<(Key, Bytes)>> {
    let entries = store.query_all(Query::new().prefix(parent)).await?;
    Ok(entries
        .into_iter()
        .map(|entry| (entry.key, entry.value.unwrap_or_default()))
        .collect())
}

impl NameState {
    fn row(&self, name: &DagName) -> NameRow {
        NameRow {
            name: name.as_str().to_owned(),
            blocks: self.blocks,
            own: self.own.map(|cid| cid.to_bytes()).unwrap_or_default(),
            heads: self
                .inline
                .iter()
                .map(|head| HeadRow {
                    cid: head.cid.to_bytes(),
                    priority: head.priority,
                })
                .collect(),
            spilled: self.spilled.len() as u64,
        }
    }

    /// The state, and how many heads have rows of their own.
    fn from_row(row: NameRow) -> Option<(Self, u64)> {
        let mut state = Self {
            blocks: row.blocks,
            ..Self::default()
        };
        for head in row.heads {
            state.inline.push(Head {
                cid: Cid::try_from(head.cid.as_slice()).ok()?,
                priority: head.priority,
            });
        }
        if !row.own.is_empty() {
            state.own = Some(Cid::try_from(row.own.as_slice()).ok()?);
        }
        Some((state, row.spilled))
    }

    async fn load_spilled(
        &mut self,
        store: &dyn Datastore,
        layout: &Layout,
        name: &DagName,
    ) -> Result<()> {
        let mut rows = store
            .query(Query::new().prefix(layout.heads_of(name)))
            .await?;
        while let Some(entry) = rows.try_next().await? {
            let damaged = || Error::damaged(format!("the head row {}", entry.key));
            let cid = trailing_cid(&entry.key).ok_or_else(damaged)?;
            let priority = entry.value.as_deref().and_then(|row| row.try_into().ok());
            let priority = u64::from_be_bytes(priority.ok_or_else(damaged)?);
            self.spilled.insert(cid, priority);
        }
        Ok(())
    }
}

/// The row of a head that has one of its own: its priority, big-endian.
pub(crate) fn encode_head(priority: u64) -> Bytes {
    Bytes::copy_from_slice(&priority.to_be_bytes())
}

/// A row of the merge log: a block, and the running hash up to it.
pub(crate) struct LogRow {
    pub(crate) sequence: u64,
    pub(crate) cid: Cid,
    pub(crate) hash: [u8; 32],
}

impl LogRow {
    pub(crate) fn encode(cid: &Cid, hash: &[u8; 32]) -> Bytes {
        let mut row = cid.to_bytes();
        row.extend_from_slice(hash);
        row.into()
    }

    pub(crate) fn decode(key: &Key, row: &[u8]) -> Result<Self> {
        let damaged = || Error::damaged(format!("the log row {key}"));
        let (cid, hash) = row.split_last_chunk().ok_or_else(damaged)?;
        Ok(Self {
            sequence: trailing_number(key).ok_or_else(damaged)?,
            cid: Cid::try_from(cid).map_err(|_| damaged())?,
            hash: *hash,
        })
    }
}

/// A gap: the names of the merged blocks that link to it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GapRow {
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct StateRow {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(bytes = "vec", tag = "2")]
    log_hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    digest: Vec<u8>,
    #[prost(uint64, tag = "4")]
    clock: u64,
    #[prost(message, optional, tag = "5")]
    sums: Option<Sums>,
    #[prost(message, optional, tag = "6")]
    carried: Option<NameRow>,
}

#[derive(Clone, PartialEq, Message)]
struct NameRow {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    blocks: u64,
    #[prost(bytes = "vec", tag = "3")]
    own: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    heads: Vec<HeadRow>,
    #[prost(uint64, tag = "5")]
    spilled: u64,
}

#[derive(Clone, PartialEq, Message)]
struct HeadRow {
    #[prost(bytes = "vec", tag = "1")]
    cid: Vec<u8>,
    #[prost(uint64, tag = "2")]
    priority: u64,
}
