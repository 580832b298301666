//! A node: a store on disk, its counters, and who did what on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::datastore::Datastore;
use crdt_ds::stats::{LikeRepo, ReplyRepo, RepoOptions, StatsOptions, StatsStore, TweetRepo};
use crdt_ds::sync::Transport;
use datastore_backends::FjallDatastore;
use datastore_core::{Key, NamespaceDatastore};

use crate::Result;

pub(crate) struct Node {
    pub(crate) stats: StatsStore,
    pub(crate) likes: LikeRepo,
    pub(crate) tweets: TweetRepo,
    pub(crate) replies: ReplyRepo,
    store: CrdtDatastore,
}

impl Node {
    pub(crate) async fn open(folder: &Path, index: usize, transport: Transport) -> Result<Self> {
        let disk = Arc::new(FjallDatastore::open(folder.join(index.to_string())).await?);
        let store = CrdtDatastore::builder(disk.clone())
            .transport(transport)
            .rebroadcast_interval(Duration::from_secs(1))
            .open()
            .await?;
        let name = format!("node-{index}");
        let stats = StatsStore::open(store.clone(), "demo", &name, StatsOptions::default()).await?;
        let local: Arc<dyn Datastore> = Arc::new(NamespaceDatastore::new(disk, Key::new("/local")));
        let options = RepoOptions::default;
        Ok(Self {
            likes: LikeRepo::open(local.clone(), Some(stats.clone()), options()).await?,
            tweets: TweetRepo::open(local.clone(), Some(stats.clone()), options()).await?,
            replies: ReplyRepo::open(local, Some(stats.clone()), options()).await?,
            stats,
            store,
        })
    }

    /// Blocks that it knows it lacks, and peers that it reaches.
    pub(crate) fn lag(&self) -> (u64, usize) {
        let status = self.store.sync_status();
        (status.wanted + status.pending, status.peers)
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.likes.close().await?;
        self.tweets.close().await?;
        self.replies.close().await?;
        self.stats.close().await?;
        self.store.close().await?;
        Ok(())
    }
}
