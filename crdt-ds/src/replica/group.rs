//! A group: the merges and writes that share one commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use cid::Cid;
use datastore_core::{Batch, Datastore, Key, Op};

use super::layout::Layout;
use super::local::MAX_LINKS;
use super::stage::Stage;
use super::state::State;
use super::version::Visible;
use super::versions::read_value;
use crate::block::{self, Block, BlockError, DagName, Format, Node, WriterId};
use crate::sync::Peer;
use crate::{Error, MAX_KEY_BYTES, Result};

/// What of the options and the store's identity decides how blocks merge and are made.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) format: Format,
    pub(crate) network: String,
    pub(crate) writer: WriterId,
    /// A larger value stays in its block alone.
    pub(crate) max_inline_bytes: usize,
    pub(crate) max_delta_bytes: usize,
    /// How many pending blocks keep their bodies.
    pub(crate) max_pending_bodies: u64,
    /// How many pending blocks are known at all.
    pub(crate) max_pending: u64,
    /// How many wants the blocks of one peer may leave behind.
    pub(crate) max_wants_per_peer: u64,
    /// A missing DAG-PB link is a gap at once.
    pub(crate) newest_first: bool,
    /// How many pending blocks may merge in one commit, and how many may be released.
    pub(crate) max_merges: usize,
}

/// One thing to do in a group.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A block came.
    Arrive { block: Block, from: Option<Peer> },
    /// The caller writes: one batch, atomic, under one name.
    Write(Write),
    /// A missing block shall not be waited for; `declared` by the operator, and so durably.
    Gap { cid: Cid, declared: bool },
    /// A stored block no longer hashes: it is wanted again.
    Damaged { cid: Cid },
}

/// A caller's batch.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) name: DagName,
    pub(crate) batch: Batch,
}

/// What came of one [`Work`], in the order of the work.
#[derive(Debug)]
pub(crate) enum Outcome {
    Arrived(Arrival),
    Wrote(Receipt),
    Done,
}

/// What came of a block that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    Merged,
    Pending,
    /// It is here already.
    Known,
    /// It is no block for this store.
    Refused(BlockError),
    /// A bound is reached: it was not stored, and may come again later.
    NoRoom,
}

/// What a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The block that carries the write; `None` if there was nothing to say, as when a key was
    /// deleted that was not there.
    pub cid: Option<Cid>,
}

/// A change of the visible value of a key.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
    /// `None` for a local write.
    pub(crate) from: Option<Option<Peer>>,
}

/// What a group amounts to; true once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    pub(crate) outcomes: Vec<Outcome>,
    /// Blocks that merged.
    pub(crate) merged: Vec<Cid>,
    /// Blocks stored by this commit, merged or pending.
    pub(crate) stored: Vec<Cid>,
    pub(crate) wanted: Vec<(Cid, Option<Peer>)>,
    pub(crate) unwanted: Vec<(Cid, Option<Peer>)>,
    /// Wanted blocks that came and were malformed.
    pub(crate) malformed: Vec<Cid>,
    pub(crate) changes: Vec<Change>,
    /// The last block of ours under each name that was written.
    pub(crate) local_heads: Vec<(DagName, Block)>,
}

/// A group in the making.
pub(crate) struct Group<'a> {
    pub(super) stage: Stage<'a>,
    pub(super) layout: &'a Layout,
    pub(super) rules: &'a Rules,
    /// The state as it will be.
    pub(super) state: State,
    /// Microseconds since 1970.
    pub(super) now_us: u64,
    /// The sequence number of our next block.
    pub(super) next_sequence: u64,
    pub(super) names: BTreeSet<DagName>,
    /// Keys whose visible version may change: what it was, and who changes it.
    touched: BTreeMap<Key, Touched>,
    /// Pending blocks that wait for nothing any more, to be merged in this group or a later one.
    pub(super) ready: VecDeque<Cid>,
    /// How many pending blocks were told that a link of theirs is here, or a gap.
    pub(super) released: usize,
    pub(super) committed: Committed,
}

struct Touched {
    before: Option<Box<Visible>>,
    from: Option<Option<Peer>>,
}

/// A block that arrives: its place among the work, the block, who sent it, what it says.
type Arriving = (usize, Block, Option<Peer>, Result<Node, BlockError>);

impl<'a> Group<'a> {
    pub(crate) fn new(
        store: &'a dyn Datastore,
        layout: &'a Layout,
        rules: &'a Rules,
        state: State,
        now_us: u64,
        next_sequence: u64,
    ) -> Self {
        Self {
            stage: Stage::new(store),
            layout,
            rules,
            state,
            now_us,
            next_sequence,
            names: BTreeSet::new(),
            touched: BTreeMap::new(),
            ready: VecDeque::new(),
            released: 0,
            committed: Committed::default(),
        }
    }

    /// Does all of `work`; blocks that came before links that came with them wait for them here, not
    /// on disk.
    pub(crate) async fn run(
        &mut self,
        work: Vec<Work>,
        wants_of: &HashMap<Peer, u64>,
    ) -> Result<()> {
        let mut outcomes: Vec<Option<Outcome>> = work.iter().map(|_| None).collect();
        let mut arrivals: Vec<Arriving> = Vec::new();
        let mut writes: Vec<(usize, Write)> = Vec::new();
        let mut rows = Vec::new();
        for (position, work) in work.into_iter().enumerate() {
            match work {
                Work::Arrive { block, from } => {
                    let node = block::decode(&block, &self.rules.network);
                    if let Ok(node) = &node {
                        let puts = node.delta.puts.iter().map(|put| &put.key);
                        let deletes = node.delta.deletes.iter().map(|deletes| &deletes.key);
                        let keys = puts.chain(deletes).filter(|key| key.len() <= MAX_KEY_BYTES);
                        rows.extend(keys.map(|key| self.layout.visible(key)));
                    }
                    arrivals.push((position, block, from, node));
                }
                Work::Write(write) => {
                    rows.extend(
                        write
                            .batch
                            .ops()
                            .iter()
                            .map(|op| self.layout.visible(op.key())),
                    );
                    writes.push((position, write));
                }
                Work::Gap { cid, declared } => {
                    self.declare_gap(&cid, declared).await?;
                    set(&mut outcomes, position, Outcome::Done);
                }
                Work::Damaged { cid } => {
                    self.want_again(&cid).await?;
                    set(&mut outcomes, position, Outcome::Done);
                }
            }
        }
        self.stage.prefetch(rows).await?;

        // An honest block's priority is above its links': in this order most merge at once.
        arrivals.sort_by_key(|(_, block, _, node)| {
            (
                node.as_ref().map_or(u64::MAX, |node| node.delta.priority),
                *block.cid(),
            )
        });
        for (position, block, from, node) in arrivals {
            let arrival = self.arrive(block, node, from.as_ref(), wants_of).await?;
            set(&mut outcomes, position, Outcome::Arrived(arrival));
        }
        self.merge_ready().await?;

        let (positions, writes): (Vec<usize>, Vec<Write>) = writes.into_iter().unzip();
        for (position, receipt) in positions.into_iter().zip(self.write(writes).await?) {
            set(&mut outcomes, position, Outcome::Wrote(receipt));
        }
        self.committed.outcomes = outcomes.into_iter().flatten().collect();
        Ok(())
    }

    /// The visible version of a key as it will be.
    pub(super) async fn visible(&mut self, key: &Key) -> Result<Option<Visible>> {
        let row = self.stage.get(&self.layout.visible(key)).await?;
        row.map(|row| Visible::decode(key, &row)).transpose()
    }

    /// Says that the visible version of `key`, now `before`, may change.
    pub(super) fn touch(
        &mut self,
        key: &Key,
        before: Option<&Visible>,
        from: &Option<Option<Peer>>,
    ) {
        if !self.touched.contains_key(key) {
            let touched = Touched {
                before: before.cloned().map(Box::new),
                from: from.clone(),
            };
            self.touched.insert(key.clone(), touched);
        } else if let Some(touched) = self.touched.get_mut(key) {
            touched.from = from.clone();
        }
    }

    /// Ends the group: the batch to commit, the state after it, and what to tell once it is
    /// committed. Values of changes are read only if somebody listens.
    pub(crate) async fn finish(mut self, listened: bool) -> Result<(Batch, State, Committed)> {
        self.settle_ready();
        for (key, touched) in std::mem::take(&mut self.touched) {
            let after = self.visible(&key).await?;
            let old_term = touched.before.as_ref().map(|version| version.term(&key));
            let new_term = after.as_ref().map(|version| version.term(&key));
            if old_term == new_term {
                continue;
            }
            if let Some(term) = old_term {
                self.state.digest.subtract(term);
                self.state.sums.keys -= 1;
            }
            if let Some(term) = new_term {
                self.state.digest.add(term);
                self.state.sums.keys += 1;
            }
            if listened {
                let old = self.value_of(&key, touched.before.as_deref()).await?;
                let new = self.value_of(&key, after.as_ref()).await?;
                self.committed.changes.push(Change {
                    key,
                    old,
                    new,
                    from: touched.from,
                });
            }
        }
        let Self {
            stage,
            layout,
            mut state,
            names,
            committed,
            ..
        } = self;
        let mut batch = stage.into_batch();
        if !batch.is_empty() {
            state.write(layout, &names, &mut batch);
        }
        Ok((batch, state, committed))
    }

    async fn value_of(&self, key: &Key, version: Option<&Visible>) -> Result<Option<Bytes>> {
        let Some(version) = version else {
            return Ok(None);
        };
        let block = self.layout.block(&version.id.cid(version.format));
        Ok(Some(
            read_value(key, version, || self.stage.peek(&block)).await?,
        ))
    }
}

fn set(outcomes: &mut [Option<Outcome>], position: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(position) {
        *slot = Some(outcome);
    }
}

impl Write {
    /// Checks what would be refused anyway, before it is queued.
    pub(crate) fn check(&self, rules: &Rules) -> Result<usize> {
        let name = self.name.as_str().len();
        if rules.format == Format::DagCbor && name > DagName::MAX_BYTES {
            return Err(Error::NameTooLong {
                what: "DAG name",
                size: name,
                limit: DagName::MAX_BYTES,
            });
        }
        let mut size = block::base_len(rules.format, MAX_LINKS, &self.name);
        for op in self.batch.ops() {
            let key = op.key();
            if key.len() > MAX_KEY_BYTES {
                return Err(Error::KeyTooLong {
                    size: key.len(),
                    limit: MAX_KEY_BYTES,
                });
            }
            if let Op::Put { value, .. } = op {
                size += block::put_len(rules.format, key, value.len());
            }
        }
        if size > rules.max_delta_bytes {
            return Err(Error::DeltaTooLarge {
                size,
                limit: rules.max_delta_bytes,
            });
        }
        Ok(size)
    }
}
