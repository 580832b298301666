//! What local writes become: one delta for each DAG name of a group.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cid::Cid;
use datastore_core::{Key, Op};

use super::group::{Group, Receipt, Write};
use super::layout::ShortHash;
use super::version::{Hidden, Visible};
use crate::Result;
use crate::block::{
    self, Block, DagName, Deletes, Delta, Format, MAX_PRIORITY, Origin, Put, VersionId,
};

/// The most heads that a block of ours links to.
pub(crate) const MAX_LINKS: usize = 64;

/// How many hidden versions that it beats anyway a put also deletes, so that a key that is written
/// often stays small.
const SWEPT_PER_PUT: usize = 64;

/// What the writes of a group come to for one key: of several writes the last wins.
#[derive(Default)]
struct Plan {
    /// The name under which the key was first deleted: its block carries the tombstones.
    deleted_under: Option<DagName>,
    put: Option<(DagName, Bytes)>,
}

/// A live version of a key that is written.
#[derive(Clone, Copy)]
struct Live {
    id: VersionId,
    version: Hidden,
}

/// A delta in the making.
#[derive(Default)]
struct Draft {
    puts: Vec<Put>,
    /// Tombstones in the order in which they may take effect: of each key the worst version first,
    /// the visible one last, so that no step shows an older value.
    hidden: Vec<Tombstone>,
    visible: Vec<Tombstone>,
}

/// The end of a version, in the making.
#[derive(Clone)]
struct Tombstone {
    /// The how-manieth key of the group it is: a delta has its keys in the callers' order.
    turn: usize,
    key: Key,
    id: VersionId,
}

impl Group<'_> {
    /// Makes blocks of local writes and merges them.
    pub(super) async fn write(&mut self, writes: Vec<Write>) -> Result<Vec<Receipt>> {
        let names: Vec<DagName> = writes.iter().map(|write| write.name.clone()).collect();
        let mut drafts: BTreeMap<DagName, Draft> = BTreeMap::new();
        for (turn, (key, plan)) in plan(writes).into_iter().enumerate() {
            self.draft(turn, key, plan, &mut drafts).await?;
        }
        for (name, draft) in drafts {
            if let Some(block) = self.write_draft(&name, draft).await? {
                self.committed.local_heads.push((name, block));
            }
        }
        // In the order of names.
        let heads = &self.committed.local_heads;
        let receipt = |name| {
            let own = heads.binary_search_by(|(head, _)| head.cmp(name)).ok();
            // A write that was overtaken under another name is carried by the group's block.
            let block = heads.get(own.unwrap_or(0));
            Receipt {
                cid: block.map(|(_, block)| *block.cid()),
            }
        };
        Ok(names.iter().map(receipt).collect())
    }

    async fn draft(
        &mut self,
        turn: usize,
        key: Key,
        plan: Plan,
        drafts: &mut BTreeMap<DagName, Draft>,
    ) -> Result<()> {
        let Some(visible) = self.visible(&key).await? else {
            if let Some((name, value)) = plan.put {
                drafts
                    .entry(name)
                    .or_default()
                    .puts
                    .push(Put { key, value });
            }
            return Ok(());
        };
        let tombstone = |id| Tombstone {
            turn,
            key: key.clone(),
            id,
        };
        if let Some(name) = plan.deleted_under {
            let draft = drafts.entry(name).or_default();
            let hidden = self.live_hidden(&key, &visible).await?;
            draft
                .hidden
                .extend(hidden.iter().map(|live| tombstone(live.id)));
            draft.visible.push(tombstone(visible.id));
            if let Some((name, value)) = plan.put {
                drafts
                    .entry(name)
                    .or_default()
                    .puts
                    .push(Put { key, value });
            }
        } else if let Some((name, value)) = plan.put {
            let (hidden, visible) = self.overwritten(&key, &visible, &name, &value).await?;
            let draft = drafts.entry(name).or_default();
            draft.hidden.extend(hidden.into_iter().map(tombstone));
            draft.visible.extend(visible.map(tombstone));
            draft.puts.push(Put { key, value });
        }
        Ok(())
    }

    /// The hidden versions of a key, the worst first.
    async fn live_hidden(&self, key: &Key, visible: &Visible) -> Result<Vec<Live>> {
        if visible.hidden == 0 {
            return Ok(Vec::new());
        }
        let short = ShortHash::of(key.as_bytes());
        let mut live: Vec<Live> = self
            .hidden_versions(short, visible.hidden)
            .await?
            .into_iter()
            .map(|(id, version)| Live { id, version })
            .collect();
        live.sort_by_key(|live| live.version.priority);
        // Versions of one priority show in the order of their values.
        let mut values: BTreeMap<VersionId, Bytes> = BTreeMap::new();
        for pair in live.windows(2) {
            if let [a, b] = pair
                && a.version.priority == b.version.priority
            {
                for live in [a, b] {
                    if let Entry::Vacant(entry) = values.entry(live.id) {
                        let format = live.version.format;
                        entry.insert(self.value_in_block(key, live.id, format).await?.1);
                    }
                }
            }
        }
        live.sort_by(|a, b| {
            (a.version.priority, values.get(&a.id), a.id).cmp(&(
                b.version.priority,
                values.get(&b.id),
                b.id,
            ))
        });
        Ok(live)
    }

    /// Which versions a put of `value` deletes: (hidden ones, the visible one).
    async fn overwritten(
        &mut self,
        key: &Key,
        visible: &Visible,
        name: &DagName,
        value: &Bytes,
    ) -> Result<(Vec<VersionId>, Option<VersionId>)> {
        let priority = self.next_priority(name);
        let visible_live = Live {
            id: visible.id,
            version: Hidden {
                format: visible.format,
                priority: visible.priority,
            },
        };
        let might_win = visible.priority >= priority;
        match self.rules.format {
            // A put wins where it is made: it deletes all that would not lose to it, and sweeps.
            Format::DagCbor => {
                let hidden = if visible.hidden == 0 {
                    Vec::new()
                } else if might_win {
                    self.live_hidden(key, visible).await?
                } else {
                    let limit = (visible.hidden as usize).min(SWEPT_PER_PUT) as u32;
                    let short = ShortHash::of(key.as_bytes());
                    let rows = self.hidden_versions(short, limit).await?;
                    rows.into_iter()
                        .map(|(id, version)| Live { id, version })
                        .collect()
                };
                let beaten = hidden
                    .iter()
                    .filter(|live| live.version.priority < priority)
                    .count()
                    .saturating_sub(SWEPT_PER_PUT);
                // The worst come first, and may stay.
                let swept = hidden.iter().skip(beaten).map(|live| live.id).collect();
                Ok((swept, Some(visible.id)))
            }
            // As in Go older versions stay, hidden. A version of the same name that would still win,
            // for its priority is as high as a height can get or the height fell, is deleted.
            Format::DagPb if might_win => {
                let mut winning = Vec::new();
                let mut all = self.live_hidden(key, visible).await?;
                all.push(visible_live);
                for live in all {
                    if live.version.priority >= priority
                        && self.would_win(key, live, name, priority, value).await?
                    {
                        winning.push(live.id);
                    }
                }
                let visible_wins = winning.last() == Some(&visible.id);
                let hidden = winning.into_iter().filter(|id| *id != visible.id).collect();
                Ok((hidden, visible_wins.then_some(visible.id)))
            }
            Format::DagPb => Ok((Vec::new(), None)),
        }
    }

    async fn would_win(
        &self,
        key: &Key,
        live: Live,
        name: &DagName,
        priority: u64,
        value: &Bytes,
    ) -> Result<bool> {
        let (block, live_value) = self
            .value_in_block(key, live.id, live.version.format)
            .await?;
        let same_name = block::decode(&block, &self.rules.network)?.delta.dag_name == *name;
        // Our id is not known yet: on equal values too the other version goes.
        Ok(same_name && (live.version.priority, &live_value) >= (priority, value))
    }

    /// The priority of our next block of a name.
    fn next_priority(&self, name: &DagName) -> u64 {
        let highest = match self.rules.format {
            Format::DagPb => self.state.names.get(name).map_or(0, |state| state.height()),
            Format::DagCbor => {
                // The hybrid clock: wall clock in microseconds, or above what was merged.
                self.state.clock.max(self.now_us.saturating_sub(1))
            }
        };
        highest.saturating_add(1).min(MAX_PRIORITY)
    }

    /// Cuts a draft into blocks, the tombstones that do not fit in blocks before the last, and merges
    /// them; returns the last.
    async fn write_draft(&mut self, name: &DagName, draft: Draft) -> Result<Option<Block>> {
        let Draft {
            puts,
            hidden,
            visible,
        } = draft;
        let format = self.rules.format;
        let limit = self.rules.max_delta_bytes;
        let base = block::base_len(format, MAX_LINKS, name);
        let mut room = limit.saturating_sub(base);
        for put in &puts {
            room = room.saturating_sub(block::put_len(format, &put.key, put.value.len()));
        }
        let mut tombstones = hidden;
        tombstones.extend(visible);

        // From the end: what takes effect last stays with the puts.
        let mut chunks: Vec<Vec<Tombstone>> = vec![Vec::new()];
        while let Some(tombstone) = tombstones.pop() {
            let key = &tombstone.key;
            let same_key = chunks
                .last()
                .and_then(|chunk| chunk.last())
                .is_some_and(|last| last.key == *key);
            let needed = if same_key {
                block::another_id_len(format, key)
            } else {
                block::delete_len(format, key)
            };
            let begun = !puts.is_empty() || chunks.iter().any(|chunk| !chunk.is_empty());
            if needed > room && begun {
                chunks.push(Vec::new());
                room = limit.saturating_sub(base);
            }
            room = room.saturating_sub(needed);
            if let Some(chunk) = chunks.last_mut() {
                chunk.push(tombstone);
            }
        }
        let mut last = None;
        let mut puts = Some(puts);
        while let Some(chunk) = chunks.pop() {
            let puts = if chunks.is_empty() {
                puts.take().unwrap_or_default()
            } else {
                Vec::new()
            };
            if !puts.is_empty() || !chunk.is_empty() {
                last = Some(self.write_block(name, puts, chunk).await?);
            }
        }
        Ok(last)
    }

    /// Makes one block on top of the name's heads, and merges it.
    async fn write_block(
        &mut self,
        name: &DagName,
        puts: Vec<Put>,
        mut tombstones: Vec<Tombstone>,
    ) -> Result<Block> {
        let links = self
            .state
            .names
            .get(name)
            .map(|state| state.links(MAX_LINKS))
            .unwrap_or_default();
        tombstones.sort_by_key(|tombstone| tombstone.turn);
        let mut deletes: Vec<Deletes> = Vec::new();
        for Tombstone { key, id, .. } in tombstones {
            match deletes.last_mut() {
                Some(deletes) if deletes.key == key => deletes.ids.push(id),
                _ => deletes.push(Deletes { key, ids: vec![id] }),
            }
        }
        let priority = self.next_priority(name);
        let mut delta = Delta {
            priority,
            dag_name: name.clone(),
            puts,
            deletes,
        };
        let mut attempt = 0;
        let block = loop {
            let block = self.encode(&links, &delta)?;
            let id = VersionId(block.cid().hash().digest().try_into().unwrap_or_default());
            if !self
                .is_doomed(id, delta.puts.iter().map(|put| &put.key))
                .await?
            {
                break block;
            }
            // Somebody deleted this very block in advance: make another, above it if one can be.
            attempt += 1;
            delta.priority = match priority + attempt {
                higher if higher <= MAX_PRIORITY => higher,
                _ => priority - attempt,
            };
        };
        // A value that is not stored inline is looked up in the block.
        let inline = |put: &Put| put.value.len() <= self.rules.max_inline_bytes;
        if !delta.puts.iter().all(inline) {
            delta = block::decode(&block, &self.rules.network)?.delta;
        }
        let cid = *block.cid();
        let known = self.pending_row(&cid).await?;
        self.unwant(&cid).await?;
        self.forget_pending(&cid, known);
        self.store_block(&block);
        self.merge(&block, &links, &delta, None).await?;
        self.release(&cid).await?;
        self.next_sequence += 1;
        Ok(block)
    }

    fn encode(&self, links: &[Cid], delta: &Delta) -> Result<Block> {
        Ok(match self.rules.format {
            Format::DagPb => block::dag_pb::encode(links, delta)?,
            Format::DagCbor => {
                let origin = Origin {
                    network: self.rules.network.clone(),
                    writer: self.rules.writer,
                    sequence: self.next_sequence,
                };
                block::dag_cbor::encode(&origin, links, delta)?
            }
        })
    }
}

/// What the writes come to, key by key, in the order in which the keys came.
fn plan(writes: Vec<Write>) -> Vec<(Key, Plan)> {
    let mut plans: Vec<(Key, Plan)> = Vec::new();
    let mut positions: HashMap<Key, usize> = HashMap::new();
    for Write { name, batch } in writes {
        for op in batch {
            let position = *positions.entry(op.key().clone()).or_insert_with(|| {
                plans.push((op.key().clone(), Plan::default()));
                plans.len() - 1
            });
            let Some((_, plan)) = plans.get_mut(position) else {
                continue;
            };
            match op {
                Op::Put { value, .. } => plan.put = Some((name.clone(), value)),
                Op::Delete { .. } => {
                    plan.put = None;
                    plan.deleted_under.get_or_insert_with(|| name.clone());
                }
            }
        }
    }
    plans
}
