//! A few replicas, a pool of all blocks that anybody made, and what can happen to them. Nothing here
//! waits for anything: who gets which block, and when, is drawn from a seed.

mod faults;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use datastore_backends::MemoryDatastore;
use datastore_core::{
    Batch, CrashDatastore, Datastore, DatastoreExt, FailDatastore, Key, Op, Query,
};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::audit::{Audited, Nodes, audit, ensure};
use super::blocks::{self, NETWORK};
use crate::Error;
use crate::block::{self, Block, BlockError, DagName, Format, WriterId};
use crate::replica::group::Receipt;
use crate::replica::layout::{Layout, trailing_cid};
use crate::replica::{Arrival, Committed, Draws, Outcome, Replica, Rules, Work, Write};
use crate::sync::Peer;

/// How a world is.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) format: Format,
    pub(super) newest_first: bool,
    /// DAG-PB blocks in a DAG-CBOR world, as from a history that was imported.
    pub(super) mixed: bool,
    pub(super) replicas: usize,
    pub(super) max_wants_per_peer: u64,
}

/// Something that happens to a replica. What exactly follows from the seed and from what is there, so
/// that steps can be left out and the rest still makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Write,
    Deliver,
    DeliverWanted,
    Hostile,
    Gap,
    Damaged,
    /// It is closed, or only dropped, and opened again.
    Reopen,
    /// The process or the power is cut while it does something, at one commit, before or after.
    Crash,
    /// The disk is full, or cannot be read, while it does something.
    Fail,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) replica: usize,
    pub(super) seed: u64,
}

type Disk = FailDatastore<CrashDatastore<MemoryDatastore>>;

struct Member {
    store: Arc<Disk>,
    replica: Option<Replica>,
    rules: Rules,
    /// How far its clock is ahead.
    skew_us: i64,
}

pub(super) struct World {
    config: Config,
    namespace: Key,
    layout: Layout,
    members: Vec<Member>,
    /// Every block that anybody made.
    pool: Vec<Block>,
    nodes: Nodes,
    now_us: u64,
    opens: u8,
    /// Why the last commit failed, if it did.
    failure: Option<Error>,
}

/// What the last write of a group says about a key.
type Expected = Vec<(Key, Option<(DagName, Bytes)>)>;

impl World {
    pub(super) async fn new(config: Config) -> Self {
        let namespace = Key::new("/r");
        let mut world = Self {
            layout: Layout::new(&namespace),
            namespace,
            members: Vec::new(),
            pool: Vec::new(),
            nodes: Nodes::new(),
            now_us: 1_700_000_000_000_000,
            opens: 0,
            failure: None,
            config,
        };
        for number in 0..world.config.replicas {
            let rules = Rules {
                format: world.config.format,
                network: NETWORK.to_owned(),
                writer: WriterId([0; 16]),
                max_inline_bytes: 8,
                max_delta_bytes: 4096,
                max_pending_bodies: 4,
                max_pending: 1000,
                max_wants_per_peer: world.config.max_wants_per_peer,
                newest_first: world.config.newest_first,
                max_merges: 3,
            };
            world.members.push(Member {
                store: Arc::new(FailDatastore::new(CrashDatastore::new(
                    MemoryDatastore::new(),
                ))),
                replica: None,
                rules,
                skew_us: [0, 5_000_000, -3_000][number % 3],
            });
            world.open(number).await.unwrap();
        }
        world
    }

    /// Opens a replica. What it has is known to everybody from then on, also what it made just before
    /// a crash and told nobody.
    async fn open(&mut self, number: usize) -> crate::Result<()> {
        self.opens += 1;
        let member = &mut self.members[number];
        member.replica = None;
        member.rules.writer = WriterId([self.opens; 16]);
        let draws = Draws {
            store_id: [self.opens; 16],
            generation: [self.opens; 8],
        };
        let (store, rules) = (member.store.clone(), member.rules.clone());
        let replica = Replica::open(store, self.namespace.clone(), rules, draws).await?;
        member.replica = Some(replica);
        let rows = Query::new().prefix(self.namespace.child_str("b"));
        for row in member.store.query_all(rows).await? {
            let cid = trailing_cid(&row.key).unwrap();
            let block = Block::verify(&cid, row.value.unwrap())?;
            self.publish(block);
        }
        Ok(())
    }

    fn publish(&mut self, block: Block) {
        if self.pool.iter().all(|other| other.cid() != block.cid()) {
            self.pool.push(block);
        }
    }

    fn replica(&self, number: usize) -> &Replica {
        self.members[number].replica.as_ref().unwrap()
    }

    pub(super) async fn step(&mut self, step: Step) -> Result<(), String> {
        let random = &mut StdRng::seed_from_u64(step.seed);
        self.now_us += random.random_range(0..1000);
        let number = step.replica % self.members.len();
        match step.action {
            Action::Crash => self.crash(number, random).await?,
            Action::Fail => self.fail(number, random).await?,
            action => self.act(number, action, random).await?,
        }
        self.audit(number).await.map(|_| ())
    }

    async fn act(
        &mut self,
        number: usize,
        action: Action,
        random: &mut StdRng,
    ) -> Result<(), String> {
        match action {
            Action::Write => self.write(number, random).await?,
            Action::Deliver => {
                let recent = self.pool.len().min(random.random_range(1..30));
                let recent = &self.pool[self.pool.len() - recent..];
                let some = random.random_range(1..8);
                let blocks: Vec<Block> = (0..some)
                    .filter_map(|_| recent.choose(random).cloned())
                    .collect();
                let from = [None, Some("p"), Some("q")].choose(random).unwrap();
                self.deliver(number, blocks, *from).await?;
            }
            Action::DeliverWanted => {
                self.deliver_wanted(number, random.random_range(1..6), random)
                    .await?;
            }
            Action::Hostile => {
                let foreign = self.config.mixed && random.random_bool(0.4);
                let format = if foreign {
                    Format::DagPb
                } else {
                    self.config.format
                };
                let blocks = blocks::hostile(random, &self.pool, self.now_us, format);
                self.pool.extend(blocks);
            }
            Action::Gap => {
                if let Some(cid) = self.some_link(random) {
                    let declared = self.config.format == Format::DagCbor
                        && (cid.codec() != Format::DagPb.codec() || random.random_bool(0.5));
                    self.commit(number, vec![Work::Gap { cid, declared }])
                        .await?;
                }
            }
            Action::Damaged => {
                if let Some(block) = self.pool.choose(random) {
                    let cid = *block.cid();
                    self.commit(number, vec![Work::Damaged { cid }]).await?;
                }
            }
            Action::Reopen => self.reopen(number, random).await?,
            Action::Crash | Action::Fail => {}
        }
        Ok(())
    }

    /// A block, or a link of one that may not exist.
    fn some_link(&self, random: &mut StdRng) -> Option<Cid> {
        let block = self.pool.choose(random)?;
        let node = block::decode(block, NETWORK);
        let links = node.map(|node| node.links).unwrap_or_default();
        Some(*links.choose(random).unwrap_or(block.cid()))
    }

    pub(super) async fn audit(&mut self, number: usize) -> Result<Audited, String> {
        let member = &self.members[number];
        let replica = member.replica.as_ref().unwrap();
        let nodes = &mut self.nodes;
        audit(
            replica,
            member.store.inner(),
            &self.namespace,
            NETWORK,
            nodes,
        )
        .await
        .map_err(|error| format!("replica {number}: {error}"))
    }

    async fn commit(&mut self, number: usize, work: Vec<Work>) -> Result<Committed, String> {
        let member = &mut self.members[number];
        let now_us = self.now_us.saturating_add_signed(member.skew_us);
        let pieces = work.len();
        let replica = member.replica.as_mut().unwrap();
        let committed = replica.commit(work, now_us, now_us.is_multiple_of(2)).await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                let message = format!("replica {number}: {error}");
                self.failure = Some(error);
                return Err(message);
            }
        };
        ensure!(
            committed.outcomes.len() == pieces,
            "{pieces} pieces of work, {} outcomes",
            committed.outcomes.len()
        );
        for cid in &committed.stored {
            let store = self.members[number].store.inner();
            let row = store.get(&self.layout.block(cid)).await.unwrap();
            self.publish(Block::verify(cid, row.unwrap()).unwrap());
        }
        Ok(committed)
    }

    async fn write(&mut self, number: usize, random: &mut StdRng) -> Result<(), String> {
        let mut room = self.members[number].rules.max_delta_bytes;
        let mut writes = Vec::new();
        let mut expected = Expected::new();
        for _ in 0..random.random_range(1..4) {
            let name = blocks::name(random);
            let mut batch = Batch::new();
            for _ in 0..random.random_range(1..4) {
                let key = blocks::key(random);
                match random.random_bool(0.7) {
                    true => batch.put(key, blocks::value(random)),
                    false => batch.delete(key),
                }
            }
            let write = Write { name, batch };
            let size = write.check(&self.members[number].rules);
            let size = size.map_err(|error| error.to_string())?;
            if size > room {
                break;
            }
            room -= size;
            for op in write.batch.ops() {
                let now = match op {
                    Op::Put { value, .. } => Some((write.name.clone(), value.clone())),
                    Op::Delete { .. } => None,
                };
                expected.retain(|(key, _)| key != op.key());
                expected.push((op.key().clone(), now));
            }
            writes.push(Work::Write(write));
        }
        let committed = self.commit(number, writes).await?;
        let limit = self.members[number].rules.max_delta_bytes;
        for cid in &committed.stored {
            let block = self.pool.iter().find(|block| block.cid() == cid).unwrap();
            ensure!(
                block.bytes().len() <= limit,
                "a block of {} bytes",
                block.bytes().len()
            );
        }
        for outcome in &committed.outcomes {
            if let Outcome::Wrote(Receipt { cid: Some(cid) }) = outcome {
                ensure!(
                    committed.stored.contains(cid),
                    "the receipt's {cid} is not stored"
                );
            }
        }
        self.check_written(number, &expected).await
    }

    /// A write takes effect where it is made: a deleted key is gone, and a put one has its value; in
    /// DAG-PB another DAG name may have a better one.
    async fn check_written(&mut self, number: usize, expected: &Expected) -> Result<(), String> {
        let Audited { model, .. } = self.audit(number).await?;
        for (key, expected) in expected {
            let visible = model.visible(key);
            let holds = match (expected, visible) {
                (None, visible) => visible.is_none(),
                (Some(_), None) => false,
                (Some((name, value)), Some((_, visible, id))) => {
                    let node = Format::from_codec(self.config.format.codec())
                        .and_then(|format| self.nodes.get(&id.cid(format)));
                    value == visible
                        || self.config.format == Format::DagPb
                            && node.is_some_and(|node| node.delta.dag_name != *name)
                }
            };
            ensure!(
                holds,
                "{key} was written as {expected:?}, and shows {visible:?}"
            );
        }
        Ok(())
    }

    async fn deliver(
        &mut self,
        number: usize,
        blocks: Vec<Block>,
        from: Option<&'static str>,
    ) -> Result<(), String> {
        let from = from.map(Peer::new);
        let work = blocks.iter().map(|block| Work::Arrive {
            block: block.clone(),
            from: from.clone(),
        });
        let committed = self.commit(number, work.collect()).await?;
        for (block, outcome) in blocks.iter().zip(committed.outcomes) {
            let Outcome::Arrived(arrival) = outcome else {
                return Err(format!("{block:?} came, and that was {outcome:?}"));
            };
            let holds = match (self.is_well_formed(block), &arrival) {
                (true, Arrival::Refused(_)) => false,
                (true, Arrival::NoRoom) => from.is_some(),
                (true, _) => true,
                (false, arrival) => {
                    matches!(arrival, Arrival::Refused(_)) || self.is_of_unknown_version(block)
                }
            };
            ensure!(holds, "{block:?} came, and that was {arrival:?}");
        }
        Ok(())
    }

    fn is_well_formed(&self, block: &Block) -> bool {
        let taken =
            self.config.format == Format::DagCbor || block.cid().codec() == Format::DagPb.codec();
        taken && block::decode(block, NETWORK).is_ok()
    }

    fn is_of_unknown_version(&self, block: &Block) -> bool {
        matches!(
            block::decode(block, NETWORK),
            Err(BlockError::UnknownVersion { .. })
        )
    }

    /// Brings a replica some of the blocks that it wants.
    async fn deliver_wanted(
        &mut self,
        number: usize,
        limit: usize,
        random: &mut StdRng,
    ) -> Result<(), String> {
        let (mut blocks, _) = self.wants(number).await?;
        blocks.shuffle(random);
        blocks.truncate(limit);
        self.deliver(number, blocks, Some("p")).await
    }

    /// What a replica wants: blocks that somebody has, and those that nobody can serve.
    async fn wants(&self, number: usize) -> Result<(Vec<Block>, Vec<Cid>), String> {
        let store = self.members[number].store.inner();
        let wants = Replica::wants(store, &self.layout, None, usize::MAX).await;
        let mut somebodys = Vec::new();
        let mut nobodys = Vec::new();
        for (cid, row) in wants.map_err(|error| error.to_string())? {
            match self.pool.iter().find(|block| *block.cid() == cid) {
                Some(block) if row.is_fetched() => somebodys.push(block.clone()),
                _ => nobodys.push(cid),
            }
        }
        Ok((somebodys, nobodys))
    }

    /// Ends all partitions and losses: what each replica must then come to is the same.
    pub(super) async fn heal(&mut self, random: &mut StdRng) -> Result<(), String> {
        let well_formed: BTreeSet<Cid> = self
            .pool
            .iter()
            .filter(|block| self.is_well_formed(block))
            .map(|block| *block.cid())
            .collect();
        let unknown: Vec<Cid> = self
            .pool
            .iter()
            .filter(|block| self.is_of_unknown_version(block))
            .map(|block| *block.cid())
            .collect();
        let mut first: Option<Audited> = None;
        for number in 0..self.members.len() {
            // Each block is announced once more; from then on all goes by what is wanted.
            let mut blocks = self.pool.clone();
            blocks.shuffle(random);
            for some in blocks.chunks(random.random_range(1..8)) {
                self.deliver(number, some.to_vec(), None).await?;
            }
            // Nobody upgrades: the operator does without.
            let gaps = unknown.iter().map(|cid| Work::Gap {
                cid: *cid,
                declared: true,
            });
            self.commit(number, gaps.collect()).await?;
            self.settle(number, random).await?;

            let audited = self.audit(number).await?;
            let missing: Vec<&Cid> = well_formed.difference(&audited.merged).collect();
            ensure!(
                missing.is_empty() && audited.merged.len() == well_formed.len(),
                "replica {number} merged {} of {} blocks, not {missing:?}",
                audited.merged.len(),
                well_formed.len()
            );
            let Some(first) = &first else {
                first = Some(audited);
                continue;
            };
            ensure!(
                first.model.live == audited.model.live,
                "replica {number} differs"
            );
            let (state, other) = (self.replica(0).state(), self.replica(number).state());
            ensure!(
                state.digest == other.digest,
                "the state digest of {number} differs"
            );
            for name in state.names.keys() {
                ensure!(
                    state.history_digest(name) == other.history_digest(name),
                    "the history digest of {number} differs for {name:?}"
                );
            }
        }
        Ok(())
    }

    /// Serves what a replica wants until that changes nothing any more.
    async fn settle(&mut self, number: usize, random: &mut StdRng) -> Result<(), String> {
        for _ in 0..1000 {
            let state = self.replica(number).state();
            let before = (state.sequence, state.sums);
            self.deliver_wanted(number, 5, random).await?;
            let (_, nobodys) = self.wants(number).await?;
            let gaps = nobodys.into_iter().map(|cid| Work::Gap {
                cid,
                declared: cid.codec() != Format::DagPb.codec(),
            });
            self.commit(number, gaps.collect()).await?;
            let state = self.replica(number).state();
            if before == (state.sequence, state.sums) && !state.has_more_to_merge() {
                return Ok(());
            }
        }
        Err(format!("replica {number} goes round"))
    }
}
