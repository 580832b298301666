use std::fmt;
use std::sync::Arc;

use datastore_core::Datastore;

use super::actions::{Actions, Done};
use super::intent::Action;
use super::{Members, RepoOptions, Stat, StatsStore};
use crate::Result;

/// Who retweeted a tweet, each user once, and how often it was viewed. As
/// [`LikeRepo`](super::LikeRepo) in the local mode: the users of this device are known here, counts
/// are replicated.
#[derive(Clone)]
pub struct TweetRepo {
    retweets: Actions,
    views: Actions,
}

impl TweetRepo {
    /// As [`LikeRepo::open`](super::LikeRepo::open).
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn open(
        local: Arc<dyn Datastore>,
        stats: Option<StatsStore>,
        options: RepoOptions,
    ) -> Result<Self> {
        let open = |stat, kind| Actions::open(local.clone(), stats.clone(), stat, kind, &options);
        Ok(Self {
            retweets: open(Stat::RETWEETS, "retweets").await?,
            views: open(Stat::VIEWS, "views").await?,
        })
    }

    /// A user retweets a tweet; the count after that. A second time changes nothing.
    ///
    /// # Errors
    /// As [`LikeRepo::like`](super::LikeRepo::like).
    pub async fn retweet(&self, tweet: &str, user: &str) -> Result<u64> {
        let done = self.retweets.act(tweet, user, Action::Do).await?;
        self.retweets.count_after(tweet, done).await
    }

    /// A user takes a retweet back; the count after that. If none is known here, nothing changes.
    ///
    /// # Errors
    /// As [`retweet`](Self::retweet).
    pub async fn unretweet(&self, tweet: &str, user: &str) -> Result<u64> {
        let done = self.retweets.act(tweet, user, Action::Undo).await?;
        self.retweets.count_after(tweet, done).await
    }

    /// Whether a retweet of this user is known here.
    ///
    /// # Errors
    /// What the local datastore said; an id that is empty or too long.
    pub async fn has_retweeted(&self, tweet: &str, user: &str) -> Result<bool> {
        self.retweets.has(tweet, user).await
    }

    /// At most `limit` of the users whose retweets are known here, after a cursor that an earlier page
    /// gave.
    ///
    /// # Errors
    /// As [`has_retweeted`](Self::has_retweeted).
    pub async fn retweeters(
        &self,
        tweet: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Members> {
        self.retweets.actors(tweet, cursor, limit).await
    }

    /// How many retweets the tweet has, on all nodes.
    ///
    /// # Errors
    /// As [`has_retweeted`](Self::has_retweeted).
    pub async fn retweets_count(&self, tweet: &str) -> Result<u64> {
        self.retweets.count_after(tweet, Done::Nothing).await
    }

    /// The tweet was viewed once more; the count after that.
    ///
    /// # Errors
    /// As [`retweet`](Self::retweet).
    pub async fn increment_view_count(&self, tweet: &str) -> Result<u64> {
        let done = self.views.tally(tweet, 1).await?;
        self.views.count_after(tweet, done).await
    }

    /// A viewer saw the tweet; the count after that. Each viewer of this device counts once, ever.
    ///
    /// # Errors
    /// As [`retweet`](Self::retweet).
    pub async fn record_view(&self, tweet: &str, viewer: &str) -> Result<u64> {
        let done = self.views.act(tweet, viewer, Action::Do).await?;
        self.views.count_after(tweet, done).await
    }

    /// How often the tweet was viewed, on all nodes.
    ///
    /// # Errors
    /// As [`has_retweeted`](Self::has_retweeted).
    pub async fn views_count(&self, tweet: &str) -> Result<u64> {
        self.views.count_after(tweet, Done::Nothing).await
    }

    /// As [`LikeRepo::settle`](super::LikeRepo::settle).
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn settle(&self) -> Result<usize> {
        Ok(self.retweets.settle().await? + self.views.settle().await?)
    }

    /// How often a count was the local one.
    pub fn fallbacks(&self) -> u64 {
        self.retweets.fallbacks() + self.views.fallbacks()
    }

    /// Ends what is under way.
    ///
    /// # Errors
    /// None now; a later version may have some.
    pub async fn close(&self) -> Result<()> {
        self.retweets.close().await;
        self.views.close().await;
        Ok(())
    }
}

impl fmt::Debug for TweetRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TweetRepo")
    }
}
