use std::fmt;
use std::sync::Arc;

use datastore_core::Datastore;

use super::actions::Actions;
use super::intent::Action;
use super::replicated_likes::ReplicatedLikes;
use super::{Members, RepoOptions, Stat, StatsOptions, StatsStore};
use crate::{CrdtDatastore, Result};

/// Who likes which tweet, each user once.
///
/// In the local mode ([`open`](Self::open)) who likes is known on this device, in a datastore of its
/// own, and only the count is replicated: a user with two devices counts twice, and an unlike of a like
/// that was made elsewhere changes nothing. In the replicated mode ([`replicated`](Self::replicated))
/// the likes themselves are.
///
/// Dropping the future of a like or unlike does not cut it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> crdt_ds::Result<()> {
/// use std::sync::Arc;
/// use crdt_ds::CrdtDatastore;
/// use crdt_ds::stats::{LikeRepo, RepoOptions, StatsOptions, StatsStore};
/// use datastore_backends::MemoryDatastore;
///
/// let store = CrdtDatastore::builder(MemoryDatastore::new()).open().await?;
/// let stats = StatsStore::open(store.clone(), "net", "node-1", StatsOptions::default()).await?;
/// let local = Arc::new(MemoryDatastore::new());
/// let likes = LikeRepo::open(local, Some(stats.clone()), RepoOptions::default()).await?;
/// assert_eq!(likes.like("tweet-1", "ada").await?, 1);
/// assert_eq!(likes.like("tweet-1", "ada").await?, 1);
/// assert_eq!(likes.unlike("tweet-1", "ada").await?, 0);
/// # likes.close().await?; stats.close().await?; store.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct LikeRepo(Mode);

#[derive(Clone)]
enum Mode {
    Local(Actions),
    Replicated(Arc<ReplicatedLikes>),
}

impl LikeRepo {
    /// Likes of this device's users, kept in `local`, counted in `stats`. Without `stats`, or while it
    /// fails, counts are the local ones; what is not counted then is counted by the next open or
    /// [`settle`](Self::settle) that can. Open one repo a datastore and root, before `stats` is used.
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn open(
        local: Arc<dyn Datastore>,
        stats: Option<StatsStore>,
        options: RepoOptions,
    ) -> Result<Self> {
        let actions = Actions::open(local, stats, Stat::LIKES, "likes", &options).await?;
        Ok(Self(Mode::Local(actions)))
    }

    /// Likes that are themselves replicated, for users with several devices: under
    /// `/{namespace}/{tweet}` an [`OrSet`](crate::types::OrSet) of users. The count is the number of
    /// users. Give it a namespace of its own. Of `options` the layout does not apply.
    ///
    /// # Errors
    /// [`EmptyName`](crate::Error::EmptyName), [`NameTooLong`](crate::Error::NameTooLong) for the
    /// namespace; [`Option`](crate::Error::Option) for a rate that lets nothing through.
    pub async fn replicated(
        store: CrdtDatastore,
        namespace: &str,
        options: StatsOptions,
    ) -> Result<Self> {
        let likes = ReplicatedLikes::open(store, namespace, options)?;
        Ok(Self(Mode::Replicated(Arc::new(likes))))
    }

    /// A user likes a tweet; the count after that. A second like changes nothing.
    ///
    /// # Errors
    /// [`RateLimited`](crate::Error::RateLimited), [`Refused`](crate::Error::Refused) by the guards;
    /// [`EmptyName`](crate::Error::EmptyName), [`NameTooLong`](crate::Error::NameTooLong) for an id;
    /// what the local datastore said. A failure of the replicated side is an error only in the
    /// replicated mode, or if it leaves open whether an earlier action of this user was counted.
    pub async fn like(&self, tweet: &str, user: &str) -> Result<u64> {
        self.set(tweet, user, Action::Do).await
    }

    /// A user likes a tweet no more; the count after that. If no like is known here, nothing changes.
    ///
    /// # Errors
    /// As [`like`](Self::like).
    pub async fn unlike(&self, tweet: &str, user: &str) -> Result<u64> {
        self.set(tweet, user, Action::Undo).await
    }

    async fn set(&self, tweet: &str, user: &str, action: Action) -> Result<u64> {
        match &self.0 {
            Mode::Local(actions) => {
                let done = actions.act(tweet, user, action).await?;
                actions.count_after(tweet, done).await
            }
            Mode::Replicated(likes) => {
                likes.set(tweet, user, action == Action::Do).await?;
                likes.count(tweet).await
            }
        }
    }

    /// Whether a like of this user is known here.
    ///
    /// # Errors
    /// What the datastore said; an id that is empty or too long.
    pub async fn has_liked(&self, tweet: &str, user: &str) -> Result<bool> {
        match &self.0 {
            Mode::Local(actions) => actions.has(tweet, user).await,
            Mode::Replicated(likes) => likes.has(tweet, user).await,
        }
    }

    /// At most `limit` of the users whose likes are known here, after a cursor that an earlier page
    /// gave.
    ///
    /// # Errors
    /// As [`has_liked`](Self::has_liked).
    pub async fn likers(&self, tweet: &str, cursor: Option<&str>, limit: usize) -> Result<Members> {
        match &self.0 {
            Mode::Local(actions) => actions.actors(tweet, cursor, limit).await,
            Mode::Replicated(likes) => likes.likers(tweet, cursor, limit).await,
        }
    }

    /// How many likes the tweet has, on all nodes.
    ///
    /// # Errors
    /// As [`has_liked`](Self::has_liked).
    pub async fn likes_count(&self, tweet: &str) -> Result<u64> {
        match &self.0 {
            Mode::Local(actions) => {
                actions
                    .count_after(tweet, super::actions::Done::Nothing)
                    .await
            }
            Mode::Replicated(likes) => likes.count(tweet).await,
        }
    }

    /// Counts what could not be counted before; how many actions still could not.
    ///
    /// # Errors
    /// What the local datastore said.
    pub async fn settle(&self) -> Result<usize> {
        match &self.0 {
            Mode::Local(actions) => actions.settle().await,
            Mode::Replicated(_) => Ok(0),
        }
    }

    /// How often a count was the local one.
    pub fn fallbacks(&self) -> u64 {
        match &self.0 {
            Mode::Local(actions) => actions.fallbacks(),
            Mode::Replicated(_) => 0,
        }
    }

    /// Ends what is under way. Close it before its counters and datastores.
    ///
    /// # Errors
    /// None now; a later version may have some.
    pub async fn close(&self) -> Result<()> {
        match &self.0 {
            Mode::Local(actions) => actions.close().await,
            Mode::Replicated(likes) => likes.close().await,
        }
        Ok(())
    }
}

impl fmt::Debug for LikeRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match &self.0 {
            Mode::Local(_) => "local",
            Mode::Replicated(_) => "replicated",
        };
        f.debug_tuple("LikeRepo").field(&mode).finish()
    }
}
