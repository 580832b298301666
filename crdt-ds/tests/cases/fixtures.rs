//! Replicas, blocks made elsewhere, and a stranger on the network who serves what a test wants.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cid::Cid;
use crdt_ds::block::{
    self, Block, DagName, Deletes, Delta, Format, Node, Origin, Put, VersionId, WriterId,
};
use crdt_ds::datastore::{Datastore, DatastoreExt, Key, Query};
use crdt_ds::sync::{
    AnnouncedHead, Announcement, AnnouncementLimits, BlockSource, BroadcastEvent, Hub, Peer,
    PeerDigests, Peers, ServeBlocks, Transport,
};
use crdt_ds::{Builder, CrdtDatastore, HeadInfo};
use datastore_backends::MemoryDatastore;
use futures::{FutureExt, Stream, StreamExt};

pub(crate) const FORMATS: [Format; 2] = [Format::DagCbor, Format::DagPb];
/// How long a test waits for sync, in paused time.
pub(crate) const SOON: Duration = Duration::from_secs(300);

/// A replica in memory whose wall clock stands still, so that priorities follow from what it saw.
pub(crate) fn replica(format: Format) -> Builder {
    over(format, MemoryDatastore::new())
}

pub(crate) fn over(format: Format, store: impl Datastore) -> Builder {
    CrdtDatastore::builder(store)
        .format(format)
        .clock(Arc::new(|| 0))
}

pub(crate) async fn alone(format: Format) -> CrdtDatastore {
    replica(format).open().await.unwrap()
}

pub(crate) async fn joined(format: Format, hub: &Hub, name: &str) -> CrdtDatastore {
    replica(format)
        .transport(hub.join(name))
        .open()
        .await
        .unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text)
}

pub(crate) async fn put(store: &CrdtDatastore, at: &str, value: &str) -> Cid {
    let receipt = store.put(&key(at), value.to_owned().into()).await.unwrap();
    receipt.cid.unwrap()
}

/// The value as text.
pub(crate) async fn value(store: &CrdtDatastore, at: &str) -> Option<String> {
    let value = store.get(&key(at)).await.unwrap()?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

pub(crate) async fn entries(store: &CrdtDatastore) -> Vec<(String, Bytes)> {
    let entries = store.query_all(Query::new()).await.unwrap();
    let entries = entries.into_iter();
    entries
        .map(|entry| (entry.key.as_str().to_owned(), entry.value.unwrap()))
        .collect()
}

pub(crate) fn heads(store: &CrdtDatastore) -> Vec<Cid> {
    store.heads().into_iter().map(|head| head.cid).collect()
}

pub(crate) async fn node(store: &CrdtDatastore, cid: &Cid) -> Node {
    let block = store.block(cid).await.unwrap().unwrap();
    block::decode(&block, "").unwrap()
}

/// Every block of a replica, in merge order.
pub(crate) async fn history(store: &CrdtDatastore) -> Vec<Block> {
    use futures::TryStreamExt;
    let blocks: Vec<_> = store
        .traverse(Default::default())
        .try_collect()
        .await
        .unwrap();
    blocks.into_iter().map(|merged| merged.block).collect()
}

/// All that replicas must agree on.
pub(crate) type Sameness = (PeerDigests, Vec<HeadInfo>, Vec<(String, Bytes)>, [u64; 4]);

pub(crate) async fn sameness(store: &CrdtDatastore) -> Sameness {
    let info = store.info();
    let counts = [
        info.blocks,
        info.keys,
        info.hidden_versions,
        info.kept_tombstones,
    ];
    (store.digests(), store.heads(), entries(store).await, counts)
}

pub(crate) async fn assert_same(stores: &[&CrdtDatastore], what: &str) {
    let first = sameness(stores[0]).await;
    for store in stores {
        assert_eq!(sameness(store).await, first, "{what}");
    }
}

pub(crate) async fn synced(stores: &[&CrdtDatastore]) {
    for store in stores {
        store.wait_for_sync(Peers::All, SOON).await.unwrap();
    }
}

/// A block made elsewhere.
#[derive(Clone)]
pub(crate) struct Made {
    format: Format,
    links: Vec<Cid>,
    delta: Delta,
}

/// Begins a block of priority 1.
pub(crate) fn made(format: Format) -> Made {
    Made {
        format,
        links: Vec::new(),
        delta: Delta {
            priority: 1,
            ..Delta::default()
        },
    }
}

impl Made {
    pub(crate) fn priority(mut self, priority: u64) -> Self {
        self.delta.priority = priority;
        self
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        self.delta.dag_name = DagName::new(name);
        self
    }

    pub(crate) fn above(mut self, links: &[&Block]) -> Self {
        self.links.extend(links.iter().map(|block| *block.cid()));
        self
    }

    pub(crate) fn above_cid(mut self, link: Cid) -> Self {
        self.links.push(link);
        self
    }

    pub(crate) fn put(mut self, at: &str, value: &str) -> Self {
        self.delta.puts.push(Put {
            key: key(at),
            value: value.to_owned().into(),
        });
        self
    }

    pub(crate) fn delete(self, at: &str, versions: &[&Block]) -> Self {
        let ids = versions.iter().map(|block| id(block.cid()));
        self.delete_ids(at, ids.collect())
    }

    pub(crate) fn delete_ids(mut self, at: &str, ids: Vec<VersionId>) -> Self {
        self.delta.deletes.push(Deletes { key: key(at), ids });
        self
    }

    /// Makes the block. Each DAG-CBOR block is unique, as those of replicas are.
    pub(crate) fn block(self) -> Block {
        static SEQUENCE: AtomicU64 = AtomicU64::new(1);
        match self.format {
            Format::DagPb => block::dag_pb::encode(&self.links, &self.delta).unwrap(),
            Format::DagCbor => {
                let origin = Origin {
                    network: String::new(),
                    writer: WriterId([0xEE; 16]),
                    sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
                };
                block::dag_cbor::encode(&origin, &self.links, &self.delta).unwrap()
            }
        }
    }
}

pub(crate) fn id(cid: &Cid) -> VersionId {
    VersionId::of(cid).unwrap()
}

/// All orders of a few things.
pub(crate) fn orders<T: Clone>(things: &[T]) -> Vec<Vec<T>> {
    assert!(
        things.len() <= 5,
        "{} things have too many orders",
        things.len()
    );
    if things.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in 0..things.len() {
        let mut rest = things.to_vec();
        let first = rest.remove(first);
        for mut order in orders(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// The rows that a replica keeps beneath, but for its identity and those that tell of an order: the merge
/// log, the state's row with the log's hash, and which head is above our own last block.
pub(crate) async fn rows(below: &MemoryDatastore) -> Vec<(Key, Bytes)> {
    let query = Query::new().prefix(key("/crdt"));
    let entries = below.query_all(query).await.unwrap();
    let ordered = ["/crdt/l", "/crdt/s", "/crdt/n", "/crdt/o"].map(key);
    let entries = entries.into_iter();
    entries
        .map(|entry| (entry.key, entry.value.unwrap()))
        .filter(|(row, _)| !ordered.iter().any(|of| row.strip_prefix(of).is_some()))
        .collect()
}

/// Replicas that got the blocks in every order: links first, all in one commit, and, one by one,
/// every link a gap until it came. They end alike, or this panics.
pub(crate) async fn replicas_in_every_order(
    format: Format,
    blocks: &[Block],
) -> Vec<CrdtDatastore> {
    let mut replicas = Vec::new();
    let mut first = None;
    for order in orders(blocks) {
        for way in ["links first", "at once", "gaps"] {
            let below = MemoryDatastore::new();
            let builder = over(format, below.clone());
            let store = match way {
                "gaps" => builder.newest_first().open().await.unwrap(),
                _ => builder.open().await.unwrap(),
            };
            if way == "gaps" && format == Format::DagCbor {
                for block in &order {
                    store.declare_gap(block.cid()).await.unwrap();
                }
            }
            if way == "at once" {
                store.import(order.clone()).await.unwrap();
            } else {
                for block in &order {
                    store.import(vec![block.clone()]).await.unwrap();
                }
            }
            let this = (sameness(&store).await, rows(&below).await);
            let cids: Vec<String> = order.iter().map(|b| b.cid().to_string()).collect();
            let first = first.get_or_insert_with(|| this.clone());
            assert_eq!(this, *first, "{format}, {way}, {cids:?}");
            replicas.push(store);
        }
    }
    replicas
}

/// Blocks to serve, and how often each CID was asked for.
#[derive(Default)]
struct Shelf {
    blocks: Mutex<BTreeMap<Cid, Bytes>>,
    asked: Mutex<BTreeMap<Cid, u64>>,
}

#[async_trait]
impl ServeBlocks for Shelf {
    async fn block(&self, cid: &Cid) -> Option<Bytes> {
        *self.asked.lock().unwrap().entry(*cid).or_default() += 1;
        self.blocks.lock().unwrap().get(cid).cloned()
    }

    async fn digests(&self) -> Option<PeerDigests> {
        None
    }
}

/// A member of a hub that is no replica: it serves the blocks that it was given, and announces what it
/// is told to.
pub(crate) struct Stranger {
    transport: Transport,
    shelf: Arc<Shelf>,
}

impl Stranger {
    pub(crate) fn join(hub: &Hub, name: &str) -> Self {
        let transport = hub.join(name);
        let shelf = Arc::new(Shelf::default());
        let blocks: Arc<dyn ServeBlocks> = shelf.clone();
        transport
            .fetcher
            .serve(BlockSource::new(Arc::downgrade(&blocks)));
        Self { transport, shelf }
    }

    /// Serves blocks from now on.
    pub(crate) fn holds<'b>(&self, blocks: impl IntoIterator<Item = &'b Block>) {
        let blocks = blocks.into_iter();
        (self.shelf.blocks.lock().unwrap())
            .extend(blocks.map(|block| (*block.cid(), block.bytes().clone())));
    }

    /// Serves the bytes of another block for one.
    pub(crate) fn lies(&self, asked: &Block, given: &Block) {
        let mut shelf = self.shelf.blocks.lock().unwrap();
        shelf.insert(*asked.cid(), given.bytes().clone());
    }

    /// How often others asked for a block.
    pub(crate) fn asked(&self, cid: &Cid) -> u64 {
        let asked = self.shelf.asked.lock().unwrap();
        asked.get(cid).copied().unwrap_or(0)
    }

    /// Asks the others for a block.
    pub(crate) async fn fetches(&self, cid: &Cid) -> Option<Block> {
        let mut events = self.transport.fetcher.fetch(vec![*cid], None);
        events.next().await?.result.ok()
    }

    pub(crate) async fn announces(&self, cids: &[Cid]) {
        let heads = cids.iter().map(|cid| AnnouncedHead {
            cid: *cid,
            dag_name: DagName::default(),
            block: None,
        });
        self.send(heads.collect()).await;
    }

    /// Announces a block that rides along.
    pub(crate) async fn sends(&self, block: &Block) {
        self.send(vec![AnnouncedHead {
            cid: *block.cid(),
            dag_name: DagName::default(),
            block: Some(block.bytes().clone()),
        }])
        .await;
    }

    async fn send(&self, heads: Vec<AnnouncedHead>) {
        let limits = AnnouncementLimits::default();
        for payload in (Announcement { heads }).encode(&limits) {
            self.sends_payload(payload).await;
        }
    }

    pub(crate) async fn sends_payload(&self, payload: impl Into<Bytes>) {
        let broadcaster = &self.transport.broadcaster;
        broadcaster.broadcast(payload.into()).await.unwrap();
    }

    /// The next announcement of others.
    pub(crate) async fn hears(&self) -> Vec<AnnouncedHead> {
        loop {
            match self.transport.broadcaster.next().await.unwrap() {
                BroadcastEvent::Payload { payload, .. } => {
                    let limits = AnnouncementLimits::default();
                    return Announcement::decode(&payload, &limits).unwrap().heads;
                }
                BroadcastEvent::PeerJoined(_) | BroadcastEvent::PeerLeft(_) => {}
            }
        }
    }

    /// Whether others announce nothing for so long.
    pub(crate) async fn hears_nothing_for(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.hears()).await.is_err()
    }
}

/// What a stream has now, without waiting.
pub(crate) fn now<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
    tokio::task::unconstrained(stream.next()).now_or_never()?
}

pub(crate) fn peer(name: &str) -> Peer {
    Peer::new(name.to_owned())
}

/// Waits, in paused time, until `done` holds.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
