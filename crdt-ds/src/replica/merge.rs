//! What merging a block does to heads, gaps, index and log.

use bytes::Bytes;
use cid::Cid;
use prost::Message;
use sha2::{Digest, Sha256};

use super::group::Group;
use super::state::{GapRow, LogRow, encode_head};
use crate::Result;
use crate::block::{Block, DagName, Delta, Format, VersionId};
use crate::sync::Peer;

/// Who a block comes from: `None` if we made it, else the peer if it is known.
pub(super) type From<'a> = Option<Option<&'a Peer>>;

impl Group<'_> {
    /// Lets a block take effect. Each of its links is merged or, from now on, a gap.
    ///
    /// INVARIANT 1: every step here commutes with every other block's: versions and tombstones by
    /// their ids, heads by who links whom, sums by addition.
    pub(super) async fn merge(
        &mut self,
        block: &Block,
        links: &[Cid],
        delta: &Delta,
        from: From<'_>,
    ) -> Result<()> {
        let cid = *block.cid();
        let Some(id) = VersionId::of(&cid) else {
            return Ok(());
        };
        let format = Format::of(&cid)?;
        let (name, priority) = (&delta.dag_name, delta.priority);

        self.committed.merged.push(cid);
        self.append_to_log(&cid);
        self.stage
            .put(self.layout.index(name, priority, &cid), Bytes::new());
        self.state
            .raise_clock(priority, format != self.rules.format);
        self.replace_heads(&cid, links, name, priority, from.is_none())
            .await?;

        let from = from.map(|peer| peer.cloned());
        let dead = self.take_kept(id).await?;
        for deletes in &delta.deletes {
            self.kill(&deletes.key, &deletes.ids, &from).await?;
        }
        for put in &delta.puts {
            if !dead.contains(&put.key) {
                self.add_version(&put.key, block, id, format, priority, &put.value, &from)
                    .await?;
            }
        }
        Ok(())
    }

    fn append_to_log(&mut self, cid: &Cid) {
        self.state.sequence += 1;
        let hash = Sha256::new()
            .chain_update(self.state.log_hash)
            .chain_update(cid.to_bytes())
            .finalize()
            .into();
        self.state.log_hash = hash;
        self.stage.put(
            self.layout.log(self.state.sequence),
            LogRow::encode(cid, &hash),
        );
    }

    /// INVARIANT 4: a link of the same name is no head any more; the block is one, unless a merged
    /// block of its name links to it already, which can only be where it was a gap.
    async fn replace_heads(
        &mut self,
        cid: &Cid,
        links: &[Cid],
        name: &DagName,
        priority: u64,
        local: bool,
    ) -> Result<()> {
        self.names.insert(name.clone());
        let mut above_own = local;
        for link in links {
            let own = self.state.names.get(name).and_then(|state| state.own);
            match self.state.remove_head(name, link) {
                Some(spilled) => {
                    above_own |= own == Some(*link);
                    if spilled {
                        self.stage.delete(self.layout.head(name, link));
                    }
                }
                None if !self.is_merged(link).await? => self.add_gap(link, name).await?,
                None => {}
            }
        }
        let linked_by = self.state.gaps.remove(cid);
        if linked_by.is_some() {
            self.stage.delete(self.layout.gap(cid));
        }
        if self.state.declared.remove(cid).is_some() {
            self.stage.delete(self.layout.declared(cid));
        }
        let is_head = !linked_by.is_some_and(|names| names.contains(name));
        if is_head && self.state.add_head(name, *cid, priority) {
            self.stage
                .put(self.layout.head(name, cid), encode_head(priority));
        }
        let state = self.state.name_mut(name);
        state.blocks += 1;
        if is_head && above_own {
            state.own = Some(*cid);
        }
        Ok(())
    }

    /// INVARIANT 4: the gap keeps the names of those that link to it.
    async fn add_gap(&mut self, link: &Cid, name: &DagName) -> Result<()> {
        let names = self.state.gaps.entry(*link).or_default();
        if names.insert(name.clone()).is_none() {
            let row = GapRow {
                names: names.iter().map(|name| name.as_str().to_owned()).collect(),
            };
            self.stage.put(self.layout.gap(link), row.encode_to_vec());
        }
        self.want_unless_stored(link, None).await
    }

    /// Whether the block is merged, by the state as it will be.
    pub(super) async fn is_merged(&self, cid: &Cid) -> Result<bool> {
        Ok(self.stage.has(&self.layout.block(cid)).await? && !self.is_pending(cid).await?)
    }

    /// Whether a block of either format with this multihash is merged.
    pub(super) async fn is_merged_id(&self, id: VersionId) -> Result<bool> {
        Ok(self.is_merged(&id.cid(self.rules.format)).await?
            || self
                .is_merged(&id.cid(match self.rules.format {
                    Format::DagCbor => Format::DagPb,
                    Format::DagPb => Format::DagCbor,
                }))
                .await?)
    }
}
