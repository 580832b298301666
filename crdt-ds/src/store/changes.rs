//! The ordered stream of visible changes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use datastore_core::{DatastoreExt, Key, Query};
use futures::Stream;
use futures::stream;
use tokio::sync::broadcast::{self, error::RecvError};

use super::shared::Shared;
use crate::block;
use crate::replica::{Change, LogRow, State, Visible, read_value};
use crate::sync::Peer;
use crate::{Error, Result};

/// How many rows of the merge log are read at a time.
const LOG_ROWS_PER_READ: usize = 256;

/// How many keys a stream that resumes remembers, so as to give each once.
const MAX_REMEMBERED_KEYS: usize = 100_000;

/// A place in the merge log of one store. Keep it to resume a stream of changes there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor {
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 32],
}

impl Cursor {
    /// How many blocks are merged up to here.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The cursor as 40 bytes.
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let (sequence, hash) = bytes.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        hash.copy_from_slice(&self.hash);
        bytes
    }

    /// The cursor that [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: [u8; 40]) -> Self {
        let (sequence, hash) = bytes.split_at(8);
        Self {
            sequence: sequence
                .try_into()
                .map(u64::from_be_bytes)
                .unwrap_or_default(),
            hash: hash.try_into().unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Cursor({}, {})",
            self.sequence,
            data_encoding::HEXLOWER.encode(&self.hash)
        )
    }
}

/// Where a stream of changes begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the next change.
    Now,
    /// After what this cursor has seen.
    Cursor(Cursor),
}

/// One element of a stream of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The visible value of a key changed.
    Changed(KeyChanged),
    /// The cursor that the stream was to resume from is not of this store's history, as after a
    /// restore from a backup: read the store afresh. The stream goes on from the cursor given here.
    Reset(Cursor),
}

/// A change of the visible value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChanged {
    /// The key.
    pub key: Key,
    /// The value before; `None` if it is not known, because the stream resumed or fell behind.
    pub old: Option<Option<Bytes>>,
    /// The value now; `None` if the key is gone.
    pub new: Option<Bytes>,
    /// Who made the change.
    pub origin: Origin,
    /// Resume from here to get what comes after this change.
    pub cursor: Cursor,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This replica.
    Local,
    /// Another one; the peer that brought it, if that is known.
    Remote(Option<Peer>),
    /// Not known, because the stream resumed or fell behind.
    Unknown,
}

/// The changes of one commit.
#[derive(Debug)]
pub(crate) struct CommitEvent {
    pub(crate) before: Cursor,
    pub(crate) after: Cursor,
    /// `None` if nobody listened when it began: they are read from the log.
    pub(crate) changes: Option<Vec<Change>>,
}

/// A subscriber.
struct Subscription {
    shared: Arc<Shared>,
    commits: broadcast::Receiver<Arc<CommitEvent>>,
    prefix: Key,
    /// What was seen so far.
    cursor: Cursor,
    queue: VecDeque<Event>,
    /// The log up to here must be read before live commits are.
    catching_up: bool,
    /// Keys given with a value of at least this sequence number, ahead of the live commits.
    given: HashMap<Key, u64>,
}

/// Subscribes to the changes of keys at and under `prefix`.
pub(crate) fn subscribe(
    shared: Arc<Shared>,
    prefix: Key,
    from: From,
) -> impl Stream<Item = Result<Event>> + Send + 'static {
    let commits = shared.changes.upgrade().map(|sender| sender.subscribe());
    let now = shared.cursor();
    let (cursor, catching_up) = match from {
        From::Now => (now, false),
        From::Cursor(cursor) => (cursor, true),
    };
    // None of a closed replica.
    let subscription = commits.map(|commits| Subscription {
        shared,
        commits,
        prefix,
        cursor,
        queue: VecDeque::new(),
        catching_up,
        given: HashMap::new(),
    });
    stream::unfold(subscription, |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(subscription))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Subscription {
    async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            if self.catching_up {
                self.catch_up().await?;
                continue;
            }
            match self.commits.recv().await {
                Ok(commit) => self.take(&commit),
                Err(RecvError::Lagged(_)) => self.catching_up = true,
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }

    /// Whether a change of this key, by the commit that ended at `sequence`, is to be given.
    fn is_news(&self, key: &Key, sequence: u64) -> bool {
        (*key == self.prefix || self.prefix.is_ancestor_of(key))
            && self.given.get(key).is_none_or(|given| *given < sequence)
    }

    fn take(&mut self, commit: &CommitEvent) {
        if commit.after.sequence <= self.cursor.sequence {
            return;
        }
        let Some(changes) = &commit.changes else {
            self.catching_up = true;
            return;
        };
        let changes: Vec<&Change> = changes
            .iter()
            .filter(|change| self.is_news(&change.key, commit.after.sequence))
            .collect();
        let last = changes.len().saturating_sub(1);
        for (position, change) in changes.into_iter().enumerate() {
            self.queue.push_back(Event::Changed(KeyChanged {
                key: change.key.clone(),
                old: Some(change.old.clone()),
                new: change.new.clone(),
                origin: match &change.from {
                    None => Origin::Local,
                    Some(peer) => Origin::Remote(peer.clone()),
                },
                // Only the last change of a commit has seen all of it.
                cursor: if position == last {
                    commit.after
                } else {
                    commit.before
                },
            }));
        }
        self.cursor = commit.after;
        self.given
            .retain(|_, sequence| *sequence > commit.after.sequence);
    }

    /// Reads a part of the log: each key touched there, with its value now.
    async fn catch_up(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        if !shared.confirms(self.cursor).await? {
            self.cursor = shared.cursor();
            self.catching_up = false;
            self.queue.push_back(Event::Reset(self.cursor));
            return Ok(());
        }
        let rows = shared
            .log_after(self.cursor.sequence, LOG_ROWS_PER_READ)
            .await?;
        let Some(last) = rows.last() else {
            self.catching_up = false;
            return Ok(());
        };
        let after = Cursor {
            sequence: last.sequence,
            hash: last.hash,
        };
        let mut keys = BTreeSet::new();
        for row in &rows {
            let damaged = || Error::damaged(format!("the merged block {}", row.cid));
            let block = shared.block(&row.cid).await?.ok_or_else(damaged)?;
            let delta = block::decode(&block, &shared.rules.network)?.delta;
            let touched = delta
                .puts
                .into_iter()
                .map(|put| put.key)
                .chain(delta.deletes.into_iter().map(|deletes| deletes.key));
            keys.extend(touched.filter(|key| self.is_news(key, row.sequence)));
        }
        let keys: Vec<Key> = keys.into_iter().collect();
        if self.given.len() > MAX_REMEMBERED_KEYS {
            self.given.clear();
        }
        let (now, values) = shared.values_now(&keys).await?;
        let count = keys.len();
        for (position, (key, new)) in keys.into_iter().zip(values).enumerate() {
            self.given.insert(key.clone(), now);
            self.queue.push_back(Event::Changed(KeyChanged {
                key,
                old: None,
                new,
                origin: Origin::Unknown,
                cursor: if position + 1 == count {
                    after
                } else {
                    self.cursor
                },
            }));
        }
        self.cursor = after;
        Ok(())
    }
}

impl Shared {
    /// Where the merge log ends.
    pub(crate) fn cursor(&self) -> Cursor {
        self.state.borrow().cursor()
    }

    /// Whether the log has this place.
    pub(crate) async fn confirms(&self, cursor: Cursor) -> Result<bool> {
        if cursor.sequence == 0 {
            return Ok(cursor == Cursor::default());
        }
        let key = self.layout.log(cursor.sequence);
        let Some(row) = self.store.get(&key).await? else {
            return Ok(false);
        };
        Ok(LogRow::decode(&key, &row)?.hash == cursor.hash)
    }

    /// Rows of the merge log after a sequence number.
    pub(crate) async fn log_after(&self, sequence: u64, limit: usize) -> Result<Vec<LogRow>> {
        let query = Query::new()
            .prefix(self.layout.log_root())
            .start_after(self.layout.log(sequence))
            .limit(limit);
        let entries = self.store.query_all(query).await?;
        entries
            .iter()
            .map(|entry| LogRow::decode(&entry.key, entry.value.as_deref().unwrap_or_default()))
            .collect()
    }

    /// The values of keys, all from one state, and that state's sequence number.
    async fn values_now(&self, keys: &[Key]) -> Result<(u64, Vec<Option<Bytes>>)> {
        let mut rows: Vec<Key> = keys.iter().map(|key| self.layout.visible(key)).collect();
        rows.push(self.layout.state());
        let mut stored = self.store.get_many(&rows).await?;
        let sequence = State::sequence_of(stored.pop().flatten())?;
        let mut values = Vec::with_capacity(keys.len());
        for (key, row) in keys.iter().zip(stored) {
            values.push(match row {
                Some(row) => Some(self.value(key, &Visible::decode(key, &row)?).await?),
                None => None,
            });
        }
        Ok((sequence, values))
    }

    /// The value of a visible version.
    pub(crate) async fn value(&self, key: &Key, version: &Visible) -> Result<Bytes> {
        read_value(key, version, || async {
            let block = self.layout.block(&version.id.cid(version.format));
            Ok(self.store.get(&block).await?)
        })
        .await
    }
}
