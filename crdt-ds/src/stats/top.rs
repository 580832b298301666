//! The subjects with the highest counts, by one scan.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use datastore_core::{Datastore, Key, Query, QueryStream};
use futures::TryStreamExt;

use super::Stat;
use super::count_cache::Countable;
use super::layout::KeySpace;
use crate::types::{Sum, Totals};
use crate::{CrdtDatastore, Result};

/// The counters of a scan, one after another: the slots of a counter lie together.
struct Counters<'a> {
    space: &'a KeySpace,
    slots: QueryStream,
    /// The first slot of the next counter.
    ahead: Option<(Key, Totals)>,
    /// The counter that is next, and its sum.
    current: Option<(Key, Sum)>,
}

impl<'a> Counters<'a> {
    async fn open(store: &CrdtDatastore, space: &'a KeySpace, root: Key) -> Result<Self> {
        let mut counters = Self {
            space,
            slots: store.query(Query::new().prefix(root)).await?,
            ahead: None,
            current: None,
        };
        counters.ahead = counters.slot().await?;
        counters.advance().await?;
        Ok(counters)
    }

    async fn slot(&mut self) -> Result<Option<(Key, Totals)>> {
        while let Some(entry) = self.slots.try_next().await? {
            if let Some(counter) = self.space.counter_of(&entry.key)
                && let Some(value) = &entry.value
                && let Some(totals) = self.space.totals(&entry.key, value)
            {
                return Ok(Some((counter, totals)));
            }
        }
        Ok(None)
    }

    async fn advance(&mut self) -> Result<()> {
        self.current = None;
        while let Some((counter, totals)) = self.ahead.take() {
            match &mut self.current {
                None => self.current = Some((counter, [totals].into_iter().collect())),
                Some((current, sum)) if *current == counter => sum.add(totals),
                Some(_) => {
                    self.ahead = Some((counter, totals));
                    return Ok(());
                }
            }
            self.ahead = self.slot().await?;
        }
        Ok(())
    }

    /// Where the counter stands in the scan: before those that it is a prefix of.
    fn place(&self) -> Option<Vec<u8>> {
        let (counter, _) = self.current.as_ref()?;
        Some([counter.as_bytes(), b"/"].concat())
    }
}

pub(super) async fn top(
    store: &CrdtDatastore,
    space: &KeySpace,
    stat: &Stat,
    n: usize,
) -> Result<Vec<(String, u64)>> {
    let mut scans = Vec::new();
    for root in space.rankings(stat)? {
        scans.push(Counters::open(store, space, root).await?);
    }
    // The least of the best is on top, to be dropped for a better one.
    let mut best = BinaryHeap::new();
    while let Some(place) = scans.iter().filter_map(Counters::place).min() {
        let mut counted: Option<(Key, Sum)> = None;
        for scan in &mut scans {
            if scan.place().as_ref() == Some(&place)
                && let Some((counter, part)) = scan.current.take()
            {
                scan.advance().await?;
                let (_, sum) = counted.get_or_insert((counter, Sum::default()));
                sum.up += part.up;
                sum.down += part.down;
            }
        }
        let Some((counter, sum)) = counted else { break };
        if sum.count() > 0
            && let Some(subject) = space.subject_of(&counter, stat)
        {
            best.push((Reverse(sum.count()), subject));
            if best.len() > n {
                best.pop();
            }
        }
    }
    let best = best.into_sorted_vec().into_iter();
    Ok(best
        .map(|(Reverse(count), subject)| (subject, count))
        .collect())
}
