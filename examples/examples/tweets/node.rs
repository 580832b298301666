//! A node: its place in the network, a store on disk, its counters, and who did what on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crdt_ds::datastore::{Datastore, Key, NamespaceDatastore};
use crdt_ds::stats::{
    LikeRepo, ReplyRepo, RepoOptions, StatsOptions, StatsStore, TweetRepo, TweetStats,
};
use crdt_ds::sync::PeerDigests;
use crdt_ds::{CrdtDatastore, net};
use datastore_backends::FjallDatastore;

use crate::Result;
use crate::crowd::Act;

pub(crate) struct Node {
    pub(crate) net: net::Node,
    store: CrdtDatastore,
    stats: StatsStore,
    likes: LikeRepo,
    tweets: TweetRepo,
    replies: ReplyRepo,
}

impl Node {
    pub(crate) async fn open(folder: &Path, index: usize) -> Result<Self> {
        let net = net::Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse()?);
        let net = net.start().await?;
        let disk = Arc::new(FjallDatastore::open(folder).await?);
        let store = CrdtDatastore::builder(disk.clone())
            .transport(net.topic("tweets"))
            .rebroadcast_interval(Duration::from_secs(1))
            .open()
            .await?;
        let name = format!("node-{index}");
        let stats = StatsStore::open(store.clone(), "demo", &name, StatsOptions::default()).await?;
        // Who did what stays on the node; the counts are replicated.
        let local: Arc<dyn Datastore> = Arc::new(NamespaceDatastore::new(disk, Key::new("/local")));
        let options = RepoOptions::default;
        Ok(Self {
            likes: LikeRepo::open(local.clone(), Some(stats.clone()), options()).await?,
            tweets: TweetRepo::open(local.clone(), Some(stats.clone()), options()).await?,
            replies: ReplyRepo::open(local, Some(stats.clone()), options()).await?,
            net,
            store,
            stats,
        })
    }

    pub(crate) async fn act(&self, act: Act) -> Result<()> {
        match act {
            Act::Like { tweet, user } => self.likes.like(&tweet, &user).await?,
            Act::Unlike { tweet, user } => self.likes.unlike(&tweet, &user).await?,
            Act::Retweet { tweet, user } => self.tweets.retweet(&tweet, &user).await?,
            Act::Reply { tweet, reply } => self.replies.add_reply(&tweet, &reply).await?,
            Act::View { tweet } => self.tweets.increment_view_count(&tweet).await?,
        };
        Ok(())
    }

    pub(crate) async fn counts(&self, tweet: &str) -> Result<TweetStats> {
        Ok(self.stats.get_all(tweet).await?)
    }

    pub(crate) fn digests(&self) -> PeerDigests {
        self.store.digests()
    }

    /// How many others it reaches.
    pub(crate) fn peers(&self) -> usize {
        self.store.sync_status().peers
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.likes.close().await?;
        self.tweets.close().await?;
        self.replies.close().await?;
        self.stats.close().await?;
        self.store.close().await?;
        self.net.close().await;
        Ok(())
    }
}
