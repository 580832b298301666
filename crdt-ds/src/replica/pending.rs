//! Blocks that wait for their links, and blocks that are wanted.
//!
//! INVARIANT 3: a block merges when each of its links is merged or a gap. Until then it is pending,
//! and what it misses is wanted, both on disk: a cut fetch goes on where it stopped.

use std::collections::HashMap;

use cid::Cid;
use datastore_core::{DatastoreExt, Query};
use futures::TryStreamExt;
use prost::Message;

use super::group::{Arrival, Group};
use super::layout::trailing_cid;
use crate::block::{self, Block, BlockError, Format, Node};
use crate::sync::Peer;
use crate::{Error, Result};

/// How many pending blocks are looked at for one whose body can go.
const VICTIMS_PER_READ: usize = 64;

/// A pending block.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PendingRow {
    /// For how many links it still waits.
    #[prost(uint32, tag = "1")]
    pub(crate) missing: u32,
    /// Its priority.
    #[prost(uint64, tag = "2")]
    pub(crate) priority: u64,
    /// Whether its bytes are stored.
    #[prost(bool, tag = "3")]
    pub(crate) body: bool,
    /// Its block version is unknown to this program: it waits for another one.
    #[prost(bool, tag = "4")]
    pub(crate) unknown_version: bool,
}

/// Why a wanted block is not fetched, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum WantReason {
    /// It is fetched.
    Missing = 0,
    /// It came and was malformed: nobody can serve a better one. Not fetched.
    Malformed = 1,
    /// It is stored, but its bytes no longer hash. Fetched.
    Damaged = 2,
}

/// A wanted block.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WantRow {
    /// Since when, in milliseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub(crate) since_ms: u64,
    /// Why.
    #[prost(enumeration = "WantReason", tag = "2")]
    pub(crate) reason: i32,
    /// The peer whose block made us want it.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) peer: Option<bytes::Bytes>,
}

impl WantRow {
    pub(crate) fn asker(&self) -> Option<Peer> {
        self.peer.clone().map(Peer::new)
    }
}

impl Group<'_> {
    /// Takes a block that came.
    pub(super) async fn arrive(
        &mut self,
        block: Block,
        node: Result<Node, BlockError>,
        from: Option<&Peer>,
        wants_of: &HashMap<Peer, u64>,
    ) -> Result<Arrival> {
        let cid = *block.cid();
        // A store that writes DAG-PB never takes what Go could not follow.
        if self.rules.format == Format::DagPb && Format::of(&cid)? != Format::DagPb {
            return Ok(Arrival::Refused(BlockError::ForeignCid { cid }));
        }
        let known = self.pending_row(&cid).await?;
        let stored = self.stage.has(&self.layout.block(&cid)).await?;
        if stored && (known.is_some_and(|row| row.body) || known.is_none()) {
            if self.unwant(&cid).await? {
                self.stage
                    .put(self.layout.block(&cid), block.bytes().clone());
            }
            return Ok(Arrival::Known);
        }
        let node = match node {
            Ok(node) => node,
            Err(error @ BlockError::UnknownVersion { .. }) => {
                return self.pend_unknown(&block, error, from, wants_of).await;
            }
            Err(error) => {
                self.refuse(&cid).await?;
                return Ok(Arrival::Refused(error));
            }
        };
        let missing = match known {
            // INVARIANT 3: what it waited for was given up as a gap while its body was away, and is no
            // gap of a merged block yet.
            Some(row) if row.missing == 0 => Vec::new(),
            _ => self.missing_links(&node).await?,
        };
        if missing.is_empty() {
            self.unwant(&cid).await?;
            self.forget_pending(&cid, known);
            self.store_block(&block);
            self.merge(&block, &node.links, &node.delta, Some(from))
                .await?;
            self.release(&cid).await?;
            return Ok(Arrival::Merged);
        }
        self.pend(&block, &node, known, missing, from, wants_of)
            .await
    }

    pub(super) fn store_block(&mut self, block: &Block) {
        self.stage
            .put(self.layout.block(block.cid()), block.bytes().clone());
        self.committed.stored.push(*block.cid());
    }

    /// The links that the block must wait for.
    async fn missing_links(&self, node: &Node) -> Result<Vec<Cid>> {
        let mut missing = Vec::new();
        for link in &node.links {
            if !self.state.is_head(&node.delta.dag_name, link)
                && !self.is_gap(link).await?
                && !self.is_merged(link).await?
            {
                missing.push(*link);
            }
        }
        Ok(missing)
    }

    /// Whether blocks above a link that is not merged need not wait for it. The rule goes by the
    /// link's codec.
    async fn is_gap(&self, link: &Cid) -> Result<bool> {
        if self.state.gaps.contains_key(link) || self.state.declared.contains(link) {
            return Ok(true);
        }
        if link.codec() != Format::DagPb.codec() {
            return Ok(false);
        }
        Ok(self.rules.newest_first
            || self
                .want_row(link)
                .await?
                .is_some_and(|row| row.reason() == WantReason::Malformed))
    }

    async fn pend(
        &mut self,
        block: &Block,
        node: &Node,
        known: Option<PendingRow>,
        missing: Vec<Cid>,
        from: Option<&Peer>,
        wants_of: &HashMap<Peer, u64>,
    ) -> Result<Arrival> {
        let cid = *block.cid();
        if known.is_none() {
            // What we asked for ourselves never runs into a bound, so that the bottom always goes on.
            let wanted = self.want_row(&cid).await?.is_some();
            if !wanted && !self.has_room(missing.len(), from, wants_of) {
                return Ok(Arrival::NoRoom);
            }
            self.state.sums.pending += 1;
            for link in &missing {
                self.stage.put(self.layout.waiter(link, &cid), Vec::new());
                self.want_unless_stored(link, from).await?;
            }
        }
        self.unwant(&cid).await?;
        let row = PendingRow {
            missing: known.map_or(missing.len() as u32, |row| row.missing),
            priority: node.delta.priority,
            body: self.make_room_for(node.delta.priority).await?,
            unknown_version: false,
        };
        self.put_pending(&cid, row);
        if row.body {
            self.store_block(block);
            self.stage
                .put(self.layout.body(row.priority, &cid), Vec::new());
            self.state.sums.bodies += 1;
        }
        Ok(Arrival::Pending)
    }

    /// Whether another pending block, with so many links that are missing, is within the bounds.
    fn has_room(&self, missing: usize, from: Option<&Peer>, wants_of: &HashMap<Peer, u64>) -> bool {
        let within_quota = |peer| {
            wants_of.get(peer).copied().unwrap_or(0) + missing as u64
                <= self.rules.max_wants_per_peer
        };
        self.state.sums.pending < self.rules.max_pending && from.is_none_or(within_quota)
    }

    /// A block of a version that this program does not know is kept until another program opens the
    /// store, if there is room for it. What it links to comes meanwhile.
    pub(super) async fn pend_unknown(
        &mut self,
        block: &Block,
        error: BlockError,
        from: Option<&Peer>,
        wants_of: &HashMap<Peer, u64>,
    ) -> Result<Arrival> {
        if self.state.sums.bodies >= self.rules.max_pending_bodies {
            return Ok(Arrival::Refused(error));
        }
        let cid = *block.cid();
        let links = block::dag_cbor::links_of_unknown(block)?;
        if !self.has_room(links.len(), from, wants_of) {
            return Ok(Arrival::NoRoom);
        }
        for link in links {
            if Format::of(&link).is_ok() {
                self.want_unless_stored(&link, from).await?;
            }
        }
        self.unwant(&cid).await?;
        self.put_pending(
            &cid,
            PendingRow {
                missing: 1,
                priority: 0,
                body: true,
                unknown_version: true,
            },
        );
        self.store_block(block);
        self.stage.put(self.layout.body(0, &cid), Vec::new());
        self.state.sums.pending += 1;
        self.state.sums.bodies += 1;
        self.state.sums.unknown += 1;
        Ok(Arrival::Pending)
    }

    /// Whether a pending block of this priority may keep its body. Where all room is taken, a block
    /// nearer to the heads gives its own up: the bottom goes first, and it will be fetched again.
    async fn make_room_for(&mut self, priority: u64) -> Result<bool> {
        if self.state.sums.bodies < self.rules.max_pending_bodies {
            return Ok(true);
        }
        let query = Query::new()
            .prefix(self.layout.bodies_root())
            .reversed()
            .keys_only()
            .limit(VICTIMS_PER_READ);
        for entry in self.stage.store().query_all(query).await? {
            let Some(cid) = trailing_cid(&entry.key) else {
                continue;
            };
            if !self.stage.has(&entry.key).await? {
                continue;
            }
            match self.pending_row(&cid).await? {
                Some(mut row) if row.missing > 0 && row.priority > priority => {
                    row.body = false;
                    self.put_pending(&cid, row);
                    self.stage.delete(entry.key);
                    self.stage.delete(self.layout.block(&cid));
                    self.state.sums.bodies -= 1;
                    return Ok(true);
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// A malformed block is neither stored nor fetched again; in DAG-PB those above it need not wait.
    async fn refuse(&mut self, cid: &Cid) -> Result<()> {
        let Some(mut row) = self.want_row(cid).await? else {
            return Ok(());
        };
        row.set_reason(WantReason::Malformed);
        self.stage.put(self.layout.wanted(cid), row.encode_to_vec());
        // Its row stays, and so counts towards what its peer left behind.
        self.committed.unwanted.push((*cid, None));
        self.committed.malformed.push(*cid);
        if cid.codec() == Format::DagPb.codec() {
            self.release(cid).await?;
        }
        Ok(())
    }

    /// Lets the blocks above a missing one merge.
    pub(super) async fn declare_gap(&mut self, cid: &Cid, declared: bool) -> Result<()> {
        if self.is_merged(cid).await? {
            return Ok(());
        }
        if declared && self.state.declared.insert(*cid).is_none() {
            self.stage.put(self.layout.declared(cid), Vec::new());
        }
        self.release(cid).await
    }

    /// The blocks that wait for `link` wait for it no more: as many as a commit may release now, the
    /// others in later commits, of which a row reminds.
    pub(super) async fn release(&mut self, link: &Cid) -> Result<()> {
        if self.state.sums.pending == 0 && self.state.sums.releasing == 0 {
            return Ok(());
        }
        let parent = self.layout.waiters_of(link);
        let limit = self.rules.max_merges.saturating_sub(self.released);
        let mut waiters = self.stage.children(&parent, limit + 1).await?;
        let more = waiters.len() > limit;
        waiters.truncate(limit);
        self.released += waiters.len();
        for (edge, _) in waiters {
            let damaged = || Error::damaged(format!("the row {edge} of a waiting block"));
            let cid = trailing_cid(&edge).ok_or_else(damaged)?;
            self.stage.delete(edge);
            // It may have merged meanwhile, under a rule that needs no link.
            let Some(mut row) = self.pending_row(&cid).await? else {
                continue;
            };
            row.missing = row.missing.saturating_sub(1);
            self.put_pending(&cid, row);
            match (row.missing, row.body) {
                (0, true) => self.ready.push_back(cid),
                (0, false) => self.want_for(&cid, None, WantReason::Missing).await?,
                _ => {}
            }
        }
        let row = self.layout.releasing(link);
        let noted = self.state.sums.releasing > 0 && self.stage.has(&row).await?;
        match (more, noted) {
            (true, false) => {
                self.stage.put(row, Vec::new());
                self.state.sums.releasing += 1;
            }
            (false, true) => {
                self.stage.delete(row);
                self.state.sums.releasing -= 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Goes on with releases that earlier commits began.
    async fn release_more(&mut self) -> Result<()> {
        if self.state.sums.releasing == 0 {
            return Ok(());
        }
        let limit = self.rules.max_merges;
        let root = self.layout.releasing_root();
        for (row, _) in self.stage.children(&root, limit).await? {
            if self.released >= limit {
                break;
            }
            let damaged =
                || Error::damaged(format!("the row {row} of a block that was waited for"));
            self.release(&trailing_cid(&row).ok_or_else(damaged)?)
                .await?;
        }
        Ok(())
    }

    /// Merges pending blocks that wait for nothing any more, as many as a commit may hold.
    pub(super) async fn merge_ready(&mut self) -> Result<()> {
        self.release_more().await?;
        let limit = self.rules.max_merges;
        if self.state.sums.ready > 0 {
            let rows = self
                .stage
                .children(&self.layout.ready_root(), limit)
                .await?;
            for (row, _) in rows {
                self.ready.extend(trailing_cid(&row));
                self.stage.delete(row);
                self.state.sums.ready -= 1;
            }
        }
        while self.committed.merged.len() < limit {
            let Some(cid) = self.ready.pop_front() else {
                break;
            };
            let Some(row) = self.pending_row(&cid).await? else {
                continue;
            };
            let bytes = self
                .stage
                .peek(&self.layout.block(&cid))
                .await?
                .unwrap_or_default();
            let block = Block::verify(&cid, bytes);
            match block.and_then(|block| Ok((block::decode(&block, &self.rules.network)?, block))) {
                Ok((node, block)) => {
                    self.forget_pending(&cid, Some(row));
                    self.merge(&block, &node.links, &node.delta, Some(None))
                        .await?;
                    self.release(&cid).await?;
                }
                Err(_) => {
                    // It no longer hashes: fetch it again.
                    self.drop_body(&cid, row);
                    self.want_for(&cid, None, WantReason::Missing).await?;
                }
            }
        }
        Ok(())
    }

    /// Leaves what is ready and did not fit for a later commit.
    pub(super) fn settle_ready(&mut self) {
        for cid in std::mem::take(&mut self.ready) {
            self.stage.put(self.layout.ready(&cid), Vec::new());
            self.state.sums.ready += 1;
        }
    }

    fn drop_body(&mut self, cid: &Cid, row: PendingRow) {
        self.stage.delete(self.layout.body(row.priority, cid));
        self.stage.delete(self.layout.block(cid));
        self.state.sums.bodies -= 1;
        self.put_pending(cid, PendingRow { body: false, ..row });
    }

    /// Ends the rows of a pending block, but for its body, which stays as the merged block's.
    pub(super) fn forget_pending(&mut self, cid: &Cid, row: Option<PendingRow>) {
        let Some(row) = row else { return };
        self.stage.delete(self.layout.pending(cid));
        self.state.sums.pending -= 1;
        self.state.sums.unknown -= u64::from(row.unknown_version);
        if row.body {
            self.stage.delete(self.layout.body(row.priority, cid));
            self.state.sums.bodies -= 1;
        }
    }

    pub(super) async fn pending_row(&self, cid: &Cid) -> Result<Option<PendingRow>> {
        if self.state.sums.pending == 0 {
            return Ok(None);
        }
        let row = self.stage.peek(&self.layout.pending(cid)).await?;
        row.map(PendingRow::decode)
            .transpose()
            .map_err(|_| Error::damaged(format!("the pending row of {cid}")))
    }

    pub(super) async fn is_pending(&self, cid: &Cid) -> Result<bool> {
        Ok(self.state.sums.pending > 0 && self.stage.has(&self.layout.pending(cid)).await?)
    }

    fn put_pending(&mut self, cid: &Cid, row: PendingRow) {
        self.stage
            .put(self.layout.pending(cid), row.encode_to_vec());
    }

    async fn want_row(&self, cid: &Cid) -> Result<Option<WantRow>> {
        if self.state.sums.wanted == 0 {
            return Ok(None);
        }
        let row = self.stage.peek(&self.layout.wanted(cid)).await?;
        row.map(WantRow::decode)
            .transpose()
            .map_err(|_| Error::damaged(format!("the wanted row of {cid}")))
    }

    pub(super) async fn want_unless_stored(
        &mut self,
        cid: &Cid,
        peer: Option<&Peer>,
    ) -> Result<()> {
        // A pending block is stored, or will be wanted when its turn comes.
        if self.stage.has(&self.layout.block(cid)).await? || self.is_pending(cid).await? {
            return Ok(());
        }
        self.want_for(cid, peer, WantReason::Missing).await
    }

    /// A stored block no longer hashes.
    pub(super) async fn want_again(&mut self, cid: &Cid) -> Result<()> {
        if self.stage.has(&self.layout.block(cid)).await? {
            self.want_for(cid, None, WantReason::Damaged).await?;
        }
        Ok(())
    }

    async fn want_for(&mut self, cid: &Cid, peer: Option<&Peer>, reason: WantReason) -> Result<()> {
        if self.want_row(cid).await?.is_none() {
            let row = WantRow {
                since_ms: self.now_us / 1000,
                reason: reason as i32,
                peer: peer.map(|peer| bytes::Bytes::copy_from_slice(peer.as_bytes())),
            };
            self.stage.put(self.layout.wanted(cid), row.encode_to_vec());
            self.state.sums.wanted += 1;
            self.committed.wanted.push((*cid, peer.cloned()));
        }
        Ok(())
    }

    /// Ends a want; tells whether there was one.
    pub(super) async fn unwant(&mut self, cid: &Cid) -> Result<bool> {
        let Some(row) = self.want_row(cid).await? else {
            return Ok(false);
        };
        self.stage.delete(self.layout.wanted(cid));
        self.state.sums.wanted -= 1;
        self.committed.unwanted.push((*cid, row.asker()));
        Ok(true)
    }

    /// Takes blocks of versions that this program has come to know: called when a store is opened.
    pub(crate) async fn revisit_unknown(&mut self) -> Result<()> {
        if self.state.sums.unknown == 0 {
            return Ok(());
        }
        let query = Query::new().prefix(self.layout.pending_root());
        let mut rows = self.stage.store().query(query).await?;
        let mut known = Vec::new();
        while let Some(entry) = rows.try_next().await? {
            let row = PendingRow::decode(entry.value.unwrap_or_default());
            let cid = trailing_cid(&entry.key);
            if let (Ok(row), Some(cid)) = (row, cid)
                && row.unknown_version
                && let Some(bytes) = self.stage.peek(&self.layout.block(&cid)).await?
            {
                let block = Block::trusted(cid, bytes);
                match block::decode(&block, &self.rules.network) {
                    Err(BlockError::UnknownVersion { .. }) => {}
                    node => known.push((block, node, row)),
                }
            }
        }
        for (block, node, row) in known {
            let cid = *block.cid();
            self.drop_body(&cid, row);
            self.forget_pending(&cid, Some(PendingRow { body: false, ..row }));
            self.arrive(block, node, None, &HashMap::new()).await?;
        }
        self.merge_ready().await
    }
}
