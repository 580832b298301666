//! Reading the history: blocks, versions, the merge log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use datastore_core::Key;
use futures::Stream;
use futures::stream;

use super::{CrdtDatastore, Cursor, Shared};
use crate::block::{self, Block, BlockError, Node};
use crate::replica::{Arrival, LogRow, Outcome, Work, live_versions};
use crate::{Error, Result};

/// How many rows of the merge log are read at a time.
const LOG_ROWS_PER_READ: usize = 256;
/// How many imported blocks go into one commit.
const BLOCKS_PER_COMMIT: usize = 256;

/// A live version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The block that added it.
    pub cid: Cid,
    /// Its priority.
    pub priority: u64,
    /// Its value.
    pub value: Bytes,
}

/// What came of a block that was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It took effect; blocks that waited for it may have, too, or will in a moment.
    Merged,
    /// It is stored, and waits for a link.
    Pending,
    /// It was here already.
    Known,
    /// It is no block for this store. Nothing changed.
    Refused(BlockError),
    /// A bound of pending blocks is reached. Nothing changed: import it again after its links.
    NoRoom,
}

/// A merged block, in merge order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryBlock {
    /// Its place in the merge log.
    pub cursor: Cursor,
    /// The block.
    pub block: Block,
    /// What it says.
    pub node: Node,
}

impl CrdtDatastore {
    /// Whether a block is merged here.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn is_merged(&self, cid: &Cid) -> Result<bool> {
        self.check_open()?;
        block::Format::of(cid)?;
        self.shared().is_merged(cid).await
    }

    /// A stored block, merged or pending; `None` if it is not here. Bytes that no longer hash to the
    /// CID are not given out, but fetched again.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn block(&self, cid: &Cid) -> Result<Option<Block>> {
        self.check_open()?;
        self.shared().block(cid).await
    }

    /// Takes blocks from elsewhere, as from an export or a network that this replica is not part of,
    /// in any order. Those that are given together share commits, so give many.
    ///
    /// # Errors
    /// As [`write`](Self::write); blocks before the failure may have been taken.
    pub async fn import(&self, blocks: Vec<Block>) -> Result<Vec<Imported>> {
        self.check_open()?;
        let mut imported = Vec::with_capacity(blocks.len());
        for group in blocks.chunks(BLOCKS_PER_COMMIT) {
            let bytes = group.iter().map(|block| block.bytes().len()).sum();
            let arrive = |block: &Block| Work::Arrive {
                block: block.clone(),
                from: None,
            };
            let outcomes = self
                .request(group.iter().map(arrive).collect(), bytes)
                .await?;
            imported.extend(outcomes.into_iter().filter_map(|outcome| match outcome {
                Outcome::Arrived(Arrival::Merged) => Some(Imported::Merged),
                Outcome::Arrived(Arrival::Pending) => Some(Imported::Pending),
                Outcome::Arrived(Arrival::Known) => Some(Imported::Known),
                Outcome::Arrived(Arrival::Refused(error)) => Some(Imported::Refused(error)),
                Outcome::Arrived(Arrival::NoRoom) => Some(Imported::NoRoom),
                Outcome::Wrote(_) | Outcome::Done => None,
            }));
        }
        Ok(imported)
    }

    /// All live versions of a key, the visible one first: more than one where replicas wrote
    /// concurrently, or, in DAG-PB, where it was overwritten.
    ///
    /// # Errors
    /// What the datastore said.
    pub async fn versions(&self, key: &Key) -> Result<Vec<Version>> {
        self.check_open()?;
        let shared = self.shared();
        let mut versions = Vec::new();
        for (id, format, priority) in live_versions(&*shared.store, &shared.layout, key).await? {
            let cid = id.cid(format);
            let damaged = || Error::damaged(format!("the block {cid} of a version of {key}"));
            let block = shared.block(&cid).await?.ok_or_else(damaged)?;
            let node = block::decode(&block, &shared.rules.network)?;
            let put = node.delta.puts.into_iter().find(|put| put.key == *key);
            versions.push(Version {
                cid,
                priority,
                value: put.ok_or_else(damaged)?.value,
            });
        }
        if let Some(rest) = versions.get_mut(1..) {
            rest.sort_by(|a, b| {
                (b.priority, &b.value, b.cid.hash().digest()).cmp(&(
                    a.priority,
                    &a.value,
                    a.cid.hash().digest(),
                ))
            });
        }
        Ok(versions)
    }

    /// The merged blocks in merge order, which is links first but for gaps; after `after`, or from
    /// the beginning. Ends where the log ends when it gets there.
    ///
    /// The first element is an error if the log does not confirm the cursor.
    pub fn traverse(
        &self,
        after: Cursor,
    ) -> impl Stream<Item = Result<HistoryBlock>> + Send + 'static + use<> {
        let walk = Walk {
            shared: self.inner.shared.clone(),
            at: after,
            rows: VecDeque::new(),
            checked: false,
        };
        stream::unfold(Some(walk), |walk| async move {
            let mut walk = walk?;
            match walk.next().await {
                Ok(Some(block)) => Some((Ok(block), Some(walk))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

struct Walk {
    shared: Arc<Shared>,
    at: Cursor,
    rows: VecDeque<LogRow>,
    checked: bool,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<HistoryBlock>> {
        if !self.checked {
            if !self.shared.confirms(self.at).await? {
                return Err(Error::UnknownCursor {
                    sequence: self.at.sequence(),
                });
            }
            self.checked = true;
        }
        if self.rows.is_empty() {
            self.rows = self
                .shared
                .log_after(self.at.sequence, LOG_ROWS_PER_READ)
                .await?
                .into();
        }
        let Some(LogRow {
            sequence,
            cid,
            hash,
        }) = self.rows.pop_front()
        else {
            return Ok(None);
        };
        self.at = Cursor { sequence, hash };
        let damaged = || Error::damaged(format!("the merged block {cid}"));
        let block = self.shared.block(&cid).await?.ok_or_else(damaged)?;
        let node = block::decode(&block, &self.shared.rules.network)?;
        Ok(Some(HistoryBlock {
            cursor: self.at,
            block,
            node,
        }))
    }
}
