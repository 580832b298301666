//! The versions of keys: which are live, which is visible.
//!
//! INVARIANT 1: a version is live if a merged block adds it and none deletes it, whichever merged
//! first; the visible one is the live one of the highest rank.

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use datastore_core::{Datastore, DatastoreExt, Key, Query};

use super::group::Group;
use super::layout::{Layout, ShortHash, trailing_id};
use super::version::{Hidden, Value, Visible, rank};
use crate::block::{self, Block, Format, VersionId};
use crate::sync::Peer;
use crate::{Error, MAX_KEY_BYTES, Result};

impl Group<'_> {
    /// Adds a version that is not deleted.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a property of the version"
    )]
    pub(super) async fn add_version(
        &mut self,
        key: &Key,
        block: &Block,
        id: VersionId,
        format: Format,
        priority: u64,
        value: &Bytes,
        from: &Option<Option<Peer>>,
    ) -> Result<()> {
        // The same on every replica, for it is a constant of the format.
        if key.len() > MAX_KEY_BYTES {
            return Ok(());
        }
        let visible = self.visible(key).await?;
        self.touch(key, visible.as_ref(), from);
        let value = self.place_value(key, block, value);
        let mut new = Visible {
            id,
            format,
            priority,
            hidden: 0,
            value,
        };
        match visible {
            None => {}
            Some(old) if self.beats(key, &new, &old).await? => {
                new.hidden = old.hidden + 1;
                self.hide(
                    key,
                    old.id,
                    Hidden {
                        format: old.format,
                        priority: old.priority,
                    },
                );
            }
            Some(old) => {
                self.hide(key, id, Hidden { format, priority });
                new = Visible {
                    hidden: old.hidden + 1,
                    ..old
                };
            }
        }
        self.stage.put(self.layout.visible(key), new.encode());
        Ok(())
    }

    /// Ends versions of a key; one that is not here yet is remembered until it comes.
    pub(super) async fn kill(
        &mut self,
        key: &Key,
        ids: &[VersionId],
        from: &Option<Option<Peer>>,
    ) -> Result<()> {
        if key.len() > MAX_KEY_BYTES {
            return Ok(());
        }
        let visible = self.visible(key).await?;
        let mut hidden = visible.as_ref().map_or(0, |version| version.hidden);
        let short = ShortHash::of(key.as_bytes());
        let mut kills_visible = false;
        for id in ids {
            if visible.as_ref().is_some_and(|version| version.id == *id) {
                kills_visible = true;
                continue;
            }
            let row = self.layout.hidden(short, *id);
            if hidden > 0 && self.stage.get(&row).await?.is_some() {
                self.stage.delete(row);
                hidden -= 1;
                self.state.sums.hidden -= 1;
            } else if !self.is_merged_id(*id).await? {
                self.keep_tombstone(key, short, *id).await?;
            }
        }
        let Some(mut version) = visible else {
            return Ok(());
        };
        if kills_visible {
            self.touch(key, Some(&version), from);
            self.promote(key, short, hidden).await
        } else {
            if version.hidden != hidden {
                version.hidden = hidden;
                self.stage.put(self.layout.visible(key), version.encode());
            }
            Ok(())
        }
    }

    /// Makes the best of the hidden versions visible, after the visible one has ended.
    async fn promote(&mut self, key: &Key, short: ShortHash, hidden: u32) -> Result<()> {
        if hidden == 0 {
            self.stage.delete(self.layout.visible(key));
            return Ok(());
        }
        let mut best: Option<(VersionId, Hidden)> = None;
        let mut best_value: Option<Bytes> = None;
        for (id, version) in self.hidden_versions(short, hidden).await? {
            let better = match &best {
                None => true,
                Some((best_id, best)) if best.priority == version.priority => {
                    let old = match best_value.take() {
                        Some(value) => value,
                        None => self.value_in_block(key, *best_id, best.format).await?.1,
                    };
                    let new = self.value_in_block(key, id, version.format).await?.1;
                    let better = rank((0, &new, id), (0, &old, *best_id)).is_gt();
                    best_value = Some(if better { new } else { old });
                    better
                }
                Some((_, best)) => {
                    let better = version.priority > best.priority;
                    if better {
                        best_value = None;
                    }
                    better
                }
            };
            if better {
                best = Some((id, version));
            }
        }
        let Some((id, Hidden { format, priority })) = best else {
            return Err(Error::damaged(format!("the hidden versions of {key}")));
        };
        let (block, value) = self.value_in_block(key, id, format).await?;
        let value = self.place_value(key, &block, &value);
        let visible = Visible {
            id,
            format,
            priority,
            hidden: hidden - 1,
            value,
        };
        self.stage.put(self.layout.visible(key), visible.encode());
        self.stage.delete(self.layout.hidden(short, id));
        self.state.sums.hidden -= 1;
        Ok(())
    }

    pub(super) async fn hidden_versions(
        &self,
        short: ShortHash,
        limit: u32,
    ) -> Result<Vec<(VersionId, Hidden)>> {
        let rows = self
            .stage
            .children(&self.layout.hidden_of(short), limit as usize)
            .await?;
        rows.iter()
            .map(|(row, value)| decode_hidden(row, value))
            .collect()
    }

    fn hide(&mut self, key: &Key, id: VersionId, version: Hidden) {
        let row = self.layout.hidden(ShortHash::of(key.as_bytes()), id);
        self.stage.put(row, version.encode());
        self.state.sums.hidden += 1;
    }

    async fn beats(&self, key: &Key, new: &Visible, old: &Visible) -> Result<bool> {
        if new.priority != old.priority {
            return Ok(new.priority > old.priority);
        }
        let new_value = self.staged_value(key, new).await?;
        let old_value = self.staged_value(key, old).await?;
        Ok(rank((0, &new_value, new.id), (0, &old_value, old.id)).is_gt())
    }

    pub(super) async fn staged_value(&self, key: &Key, version: &Visible) -> Result<Bytes> {
        let block = self.layout.block(&version.id.cid(version.format));
        read_value(key, version, || self.stage.peek(&block)).await
    }

    /// A version's block, and its value for the key there.
    pub(super) async fn value_in_block(
        &self,
        key: &Key,
        id: VersionId,
        format: Format,
    ) -> Result<(Block, Bytes)> {
        let cid = id.cid(format);
        let damaged =
            || Error::damaged(format!("the block {cid}, which holds a version of {key},"));
        let bytes = self
            .stage
            .peek(&self.layout.block(&cid))
            .await?
            .ok_or_else(damaged)?;
        let block = Block::trusted(cid, bytes);
        let node = block::decode(&block, &self.rules.network)?;
        let put = node
            .delta
            .puts
            .into_iter()
            .find(|put| put.key == *key)
            .ok_or_else(damaged)?;
        Ok((block, put.value))
    }

    fn place_value(&self, key: &Key, block: &Block, value: &Bytes) -> Value {
        if value.len() <= self.rules.max_inline_bytes {
            return Value::Inline(value.clone());
        }
        let range = block::value_range(block.bytes(), value);
        Value::InBlock {
            // A block is far smaller than 4 GiB.
            offset: range.start as u32,
            length: range.len() as u32,
            term: super::digest::StateDigest::term(key, value),
        }
    }

    async fn keep_tombstone(&mut self, key: &Key, short: ShortHash, id: VersionId) -> Result<()> {
        let row = self.layout.kept(id, short);
        if self.stage.get(&row).await?.is_none() {
            self.stage.put(row, key.as_bytes().to_vec());
            self.state.sums.kept += 1;
        }
        Ok(())
    }

    /// The keys whose version by this block was deleted before it came. Their tombstones have done
    /// their work once the block merges.
    pub(super) async fn take_kept(&mut self, id: VersionId) -> Result<BTreeSet<Key>> {
        let mut keys = BTreeSet::new();
        if self.state.sums.kept == 0 {
            return Ok(keys);
        }
        for (row, key) in self
            .stage
            .children(&self.layout.kept_of(id), usize::MAX)
            .await?
        {
            self.stage.delete(row);
            self.state.sums.kept -= 1;
            keys.insert(Key::from_utf8(key)?);
        }
        Ok(keys)
    }

    /// Whether a tombstone is kept for the version that this block would add to one of `keys`.
    pub(super) async fn is_doomed<'k>(
        &self,
        id: VersionId,
        keys: impl Iterator<Item = &'k Key>,
    ) -> Result<bool> {
        if self.state.sums.kept == 0 {
            return Ok(false);
        }
        for key in keys {
            let row = self.layout.kept(id, ShortHash::of(key.as_bytes()));
            if self.stage.has(&row).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The value of a visible version; `block` reads its block's row, if the value is there.
pub(crate) async fn read_value<F>(
    key: &Key,
    version: &Visible,
    block: impl FnOnce() -> F,
) -> Result<Bytes>
where
    F: Future<Output = Result<Option<Bytes>>>,
{
    match &version.value {
        Value::Inline(value) => Ok(value.clone()),
        Value::InBlock { offset, length, .. } => {
            let (start, length) = (*offset as usize, *length as usize);
            match block().await? {
                Some(bytes) if bytes.len() >= start + length => {
                    Ok(bytes.slice(start..start + length))
                }
                _ => Err(Error::damaged(format!(
                    "the block that holds the value of {key}"
                ))),
            }
        }
    }
}

/// All live versions of a key as the store has them, the visible one first: (id, format, priority).
pub(crate) async fn live_versions(
    store: &dyn Datastore,
    layout: &Layout,
    key: &Key,
) -> Result<Vec<(VersionId, Format, u64)>> {
    let row = layout.visible(key);
    let mut seen = store.get(&row).await?;
    loop {
        let Some(visible) = &seen else {
            return Ok(Vec::new());
        };
        let visible = Visible::decode(key, visible)?;
        let mut versions = vec![(visible.id, visible.format, visible.priority)];
        if visible.hidden > 0 {
            let parent = layout.hidden_of(ShortHash::of(key.as_bytes()));
            for entry in store.query_all(Query::new().prefix(parent)).await? {
                let (id, hidden) = decode_hidden(&entry.key, &entry.value.unwrap_or_default())?;
                versions.push((id, hidden.format, hidden.priority));
            }
        }
        // The two reads are of one state if the key's row, which counts the others, stayed the same.
        let again = store.get(&row).await?;
        if again == seen {
            return Ok(versions);
        }
        seen = again;
    }
}

fn decode_hidden(row: &Key, value: &[u8]) -> Result<(VersionId, Hidden)> {
    trailing_id(row)
        .zip(Hidden::decode(value))
        .ok_or_else(|| Error::damaged(format!("the hidden version row {row}")))
}
