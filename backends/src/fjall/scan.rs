use std::sync::Arc;

use bytes::Bytes;
use datastore_core::{Key, Query, QueryStream, Result};
use fjall::Iter;
use futures::{StreamExt, TryStreamExt, stream};

use super::store::Store;
use super::{READ_INLINE, blocking, limits};

/// How many entries a chunk has, but for the first.
const CHUNK: usize = 1024;

/// A chunk ends early once its values have this many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A scan that is under way. It reads one snapshot, and keeps the store open, though not from being
/// closed.
struct Scan {
    store: Arc<Store>,
    entries: Iter,
    descending: bool,
    with_values: bool,
    /// How many entries to read next.
    chunk: usize,
}

/// Answers `query` from what is committed now.
pub(super) fn query(store: &Arc<Store>, query: Query) -> Result<QueryStream> {
    Ok(match Scan::begin(store, &query)? {
        Some(scan) => query.apply(scan.stream()),
        None => stream::empty().boxed(),
    })
}

/// Reads everything once.
pub(super) fn read_all(store: &Arc<Store>) -> Result<()> {
    if let Some(mut scan) = Scan::begin(store, &Query::new())? {
        while !scan.read_chunk()?.is_empty() {}
    }
    Ok(())
}

impl Scan {
    /// `None` if the query can select nothing.
    fn begin(store: &Arc<Store>, query: &Query) -> Result<Option<Self>> {
        let wanted = query
            .limit
            .filter(|_| query.filters.is_empty() && query.orders.is_empty());
        let wanted = wanted.map(|limit| query.offset.saturating_add(limit));
        store.with(|engine| {
            let interval = query.interval().and_then(limits::storable);
            Ok(interval.map(|interval| Self {
                store: store.clone(),
                entries: engine.range(&interval),
                descending: query.descending(),
                with_values: query.needs_values(),
                chunk: wanted.map_or(READ_INLINE, |wanted| wanted.min(READ_INLINE)),
            }))
        })
    }

    fn stream(self) -> impl futures::Stream<Item = Result<(Key, Bytes)>> + Send + 'static {
        stream::try_unfold((self, true), |(mut scan, first)| async move {
            // The first chunk is short work in most cases, and all there is in many.
            let (entries, scan) = if first {
                (scan.read_chunk()?, scan)
            } else {
                let read = move || Ok((scan.read_chunk()?, scan));
                blocking::run("a scan", read).await?
            };
            let more = !entries.is_empty();
            Ok(more.then(|| (stream::iter(entries.into_iter().map(Ok)), (scan, false))))
        })
        .try_flatten()
    }

    /// The next entries; none at the end.
    fn read_chunk(&mut self) -> Result<Vec<(Key, Bytes)>> {
        let size = std::mem::replace(&mut self.chunk, CHUNK);
        self.store.with(|engine| {
            let (mut read, mut bytes) = (Vec::with_capacity(size), 0);
            while read.len() < size && bytes < CHUNK_BYTES {
                let entry = if self.descending {
                    self.entries.next_back()
                } else {
                    self.entries.next()
                };
                let Some(entry) = entry else { break };
                let entry = engine.entry(entry, self.with_values)?;
                bytes += entry.1.len();
                read.push(entry);
            }
            Ok(read)
        })
    }
}
