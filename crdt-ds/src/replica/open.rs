//! Opening, committing, closing.

use std::collections::HashMap;
use std::sync::Arc;

use cid::Cid;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};
use futures::TryStreamExt;
use prost::Message;

use super::group::{Committed, Group, Rules, Work};
use super::layout::{LAYOUT_VERSION, Layout, trailing_cid};
use super::pending::{WantReason, WantRow};
use super::state::State;
use crate::block::Format;
use crate::sync::Peer;
use crate::{Error, Result};

/// What a store is, for life, and who it is since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store_id: [u8; 16],
    /// Lasts while the store is closed cleanly and lies where it was closed.
    pub(crate) generation: [u8; 8],
}

/// Random bytes that an open may need, drawn by the caller.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    pub(crate) store_id: [u8; 16],
    pub(crate) generation: [u8; 8],
}

#[derive(Clone, PartialEq, Message)]
struct IdentityRow {
    #[prost(uint32, tag = "1")]
    layout: u32,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "3")]
    network: String,
    #[prost(bytes = "vec", tag = "4")]
    store_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CleanRow {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(bytes = "vec", tag = "2")]
    mark: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    generation: Vec<u8>,
}

/// A replica's store and what is kept in memory of it.
pub(crate) struct Replica {
    store: Arc<dyn Datastore>,
    namespace: Key,
    layout: Layout,
    rules: Rules,
    identity: Identity,
    state: State,
    next_sequence: u64,
    wants_by_peer: HashMap<Peer, u64>,
    /// A commit's outcome is not known: memory and disk may differ.
    unsure: bool,
}

impl Replica {
    /// Opens the replica in `namespace` of `store`, or makes it.
    pub(crate) async fn open(
        store: Arc<dyn Datastore>,
        namespace: Key,
        rules: Rules,
        draws: Draws,
    ) -> Result<Self> {
        let layout = Layout::new(&namespace);
        let store_id = match store.get(&layout.identity()).await? {
            Some(row) => {
                let row = IdentityRow::decode(row)
                    .map_err(|_| Error::damaged("the row that says what the store is"))?;
                check_identity(&row, &rules)?;
                row.store_id
                    .try_into()
                    .map_err(|_| Error::damaged("the row that says what the store is"))?
            }
            None => {
                let row = IdentityRow {
                    layout: LAYOUT_VERSION,
                    format: rules.format.name().to_owned(),
                    network: rules.network.clone(),
                    store_id: draws.store_id.to_vec(),
                };
                store
                    .put(&layout.identity(), row.encode_to_vec().into())
                    .await?;
                draws.store_id
            }
        };
        let generation = take_clean_mark(&*store, &layout, &namespace).await?;
        let identity = Identity {
            store_id,
            generation: generation.unwrap_or(draws.generation),
        };
        let state = State::load(&*store, &layout).await?;
        let mut replica = Self {
            store,
            namespace,
            layout,
            rules,
            identity,
            state,
            next_sequence: 1,
            wants_by_peer: HashMap::new(),
            unsure: false,
        };
        replica.count_wants().await?;
        Ok(replica)
    }

    async fn count_wants(&mut self) -> Result<()> {
        if self.state.sums.wanted > 0 {
            let query = Query::new().prefix(self.layout.wanted_root());
            let mut rows = self.store.query(query).await?;
            while let Some(entry) = rows.try_next().await? {
                let row = WantRow::decode(entry.value.unwrap_or_default());
                if let Ok(row) = row
                    && let Some(peer) = row.asker()
                {
                    *self.wants_by_peer.entry(peer).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// How many wants the blocks of each peer left behind.
    #[cfg(test)]
    pub(super) fn wants_by_peer(&self) -> std::collections::BTreeMap<Peer, u64> {
        self.wants_by_peer.clone().into_iter().collect()
    }

    /// From now on memory and disk may differ: no more work until the store is opened again.
    pub(crate) fn set_unsure(&mut self) {
        self.unsure = true;
    }

    fn group(&self, now_us: u64) -> Group<'_> {
        Group::new(
            &*self.store,
            &self.layout,
            &self.rules,
            self.state.clone(),
            now_us,
            self.next_sequence,
        )
    }

    /// Does `work` as one commit.
    ///
    /// INVARIANT 2: nothing of it is seen unless all of it is stored. After an error nothing changed,
    /// unless the outcome is unknown: then the replica takes no more work.
    pub(crate) async fn commit(
        &mut self,
        work: Vec<Work>,
        now_us: u64,
        listened: bool,
    ) -> Result<Committed> {
        if self.unsure {
            return Err(Error::OutcomeUnknown);
        }
        let mut group = self.group(now_us);
        let done = group.run(work, &self.wants_by_peer).await;
        // No number is used twice, whatever becomes of the group.
        let next_sequence = group.next_sequence;
        let end = match done {
            Ok(()) => group.finish(listened).await,
            Err(error) => Err(error),
        };
        self.next_sequence = next_sequence;
        self.finish(end?).await
    }

    /// Takes stored blocks whose version this program knows and an earlier one did not.
    pub(crate) async fn revisit_unknown(&mut self, now_us: u64) -> Result<Committed> {
        let mut group = self.group(now_us);
        group.revisit_unknown().await?;
        let end = group.finish(false).await?;
        self.finish(end).await
    }

    async fn finish(&mut self, end: (Batch, State, Committed)) -> Result<Committed> {
        let (batch, state, committed) = end;
        if !batch.is_empty()
            && let Err(error) = self.store.commit(batch).await
        {
            if matches!(error, datastore_core::Error::OutcomeUnknown { .. }) {
                tracing::error!(%error, "no more writes until the store is opened again");
                self.unsure = true;
                return Err(Error::OutcomeUnknown);
            }
            return Err(error.into());
        }
        self.state = state;
        for (_, peer) in &committed.wanted {
            if let Some(peer) = peer {
                *self.wants_by_peer.entry(peer.clone()).or_default() += 1;
            }
        }
        for (_, peer) in &committed.unwanted {
            if let Some(peer) = peer
                && let Some(count) = self.wants_by_peer.get_mut(peer)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.wants_by_peer.remove(peer);
                }
            }
        }
        Ok(committed)
    }

    /// Wanted blocks that can be fetched, after `after`, at most `limit`; and where to go on.
    pub(crate) async fn wants(
        store: &dyn Datastore,
        layout: &Layout,
        after: Option<&Cid>,
        limit: usize,
    ) -> Result<Vec<(Cid, WantRow)>> {
        let mut query = Query::new().prefix(layout.wanted_root()).limit(limit);
        if let Some(after) = after {
            query = query.start_after(layout.wanted(after));
        }
        let mut wants = Vec::new();
        for entry in store.query_all(query).await? {
            let row = WantRow::decode(entry.value.unwrap_or_default());
            match (trailing_cid(&entry.key), row) {
                (Some(cid), Ok(row)) => wants.push((cid, row)),
                _ => return Err(Error::damaged(format!("the wanted row {}", entry.key))),
            }
        }
        Ok(wants)
    }

    /// Says, durably and last of all, that the store was closed cleanly.
    pub(crate) async fn close(&mut self) -> Result<()> {
        self.store.sync(&self.namespace).await?;
        if self.unsure {
            return Ok(());
        }
        let Some(instance) = self.store.extras().instance else {
            return Ok(());
        };
        let Some(mark) = instance.set_mark().await? else {
            return Ok(());
        };
        let row = CleanRow {
            namespace: self.namespace.as_str().to_owned(),
            mark: mark.to_vec(),
            generation: self.identity.generation.to_vec(),
        };
        self.store
            .put(&self.layout.clean_mark(), row.encode_to_vec().into())
            .await?;
        self.store.sync(&self.namespace).await?;
        Ok(())
    }
}

impl WantRow {
    /// Whether asking peers for it can help.
    pub(crate) fn is_fetched(&self) -> bool {
        self.reason() != WantReason::Malformed
    }
}

fn check_identity(row: &IdentityRow, rules: &Rules) -> Result<()> {
    if row.layout != LAYOUT_VERSION {
        return Err(Error::UnknownLayout {
            version: row.layout,
            known: LAYOUT_VERSION,
        });
    }
    if row.format != rules.format.name() {
        let stored = match row.format.as_str() {
            "dag-cbor" => Format::DagCbor,
            "dag-pb" => Format::DagPb,
            _ => return Err(Error::damaged("the row that says what the store is")),
        };
        return Err(Error::OtherFormat {
            stored,
            given: rules.format,
        });
    }
    if row.network != rules.network {
        return Err(Error::OtherNetwork {
            stored: row.network.clone(),
            given: rules.network.clone(),
        });
    }
    Ok(())
}

/// The generation of a store that was closed cleanly and lies where it was closed. The mark is gone
/// for good, before anything is written, when this returns.
async fn take_clean_mark(
    store: &dyn Datastore,
    layout: &Layout,
    namespace: &Key,
) -> Result<Option<[u8; 8]>> {
    let row = layout.clean_mark();
    let Some(bytes) = store.get(&row).await? else {
        return Ok(None);
    };
    let mut generation = None;
    if let Ok(clean) = CleanRow::decode(bytes)
        && let Some(instance) = store.extras().instance
    {
        if clean.namespace == namespace.as_str() && instance.has_mark(&clean.mark).await? {
            generation = clean.generation.try_into().ok();
        }
        instance.clear_mark(&clean.mark).await?;
    }
    store.delete(&row).await?;
    store.sync(namespace).await?;
    Ok(generation)
}
