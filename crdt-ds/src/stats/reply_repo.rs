use std::fmt;
use std::sync::Arc;

use datastore_core::Datastore;

use super::actions::{Actions, Done};
use super::intent::Action;
use super::{Members, RepoOptions, Stat, StatsStore};
use crate::Result;

/// Which replies a tweet has, each counted once. As [`LikeRepo`](super::LikeRepo) in the local mode:
/// the replies that this device added are known here, counts are replicated.
#[derive(Clone)]
pub struct ReplyRepo(Actions);

impl ReplyRepo {
    /// As [`LikeRepo::open`](super::LikeRepo::open).
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn open(
        local: Arc<dyn Datastore>,
        stats: Option<StatsStore>,
        options: RepoOptions,
    ) -> Result<Self> {
        let actions = Actions::open(local, stats, Stat::REPLIES, "replies", &options).await?;
        Ok(Self(actions))
    }

    /// Adds a reply to a tweet; the count after that. The same reply again changes nothing.
    ///
    /// # Errors
    /// As [`LikeRepo::like`](super::LikeRepo::like).
    pub async fn add_reply(&self, tweet: &str, reply: &str) -> Result<u64> {
        let done = self.0.act(tweet, reply, Action::Do).await?;
        self.0.count_after(tweet, done).await
    }

    /// Removes a reply; the count after that. If it is not known here, nothing changes.
    ///
    /// # Errors
    /// As [`add_reply`](Self::add_reply).
    pub async fn remove_reply(&self, tweet: &str, reply: &str) -> Result<u64> {
        let done = self.0.act(tweet, reply, Action::Undo).await?;
        self.0.count_after(tweet, done).await
    }

    /// At most `limit` of the replies that are known here, after a cursor that an earlier page gave.
    ///
    /// # Errors
    /// What the local datastore said; an id that is empty or too long.
    pub async fn replies(
        &self,
        tweet: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Members> {
        self.0.actors(tweet, cursor, limit).await
    }

    /// How many replies the tweet has, on all nodes.
    ///
    /// # Errors
    /// As [`replies`](Self::replies).
    pub async fn replies_count(&self, tweet: &str) -> Result<u64> {
        self.0.count_after(tweet, Done::Nothing).await
    }

    /// As [`LikeRepo::settle`](super::LikeRepo::settle).
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn settle(&self) -> Result<usize> {
        self.0.settle().await
    }

    /// How often a count was the local one.
    pub fn fallbacks(&self) -> u64 {
        self.0.fallbacks()
    }

    /// Ends what is under way.
    ///
    /// # Errors
    /// None now; a later version may have some.
    pub async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl fmt::Debug for ReplyRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplyRepo")
    }
}
