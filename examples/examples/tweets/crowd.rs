//! People who like, retweet, reply and look, and keep a ledger of what they did.

use std::collections::BTreeSet;

use crdt_ds::stats::TweetStats;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::node::Node;
use crate::{Result, TWEETS};

/// Users of each node.
const USERS: usize = 50;

pub(crate) struct Crowd {
    random: StdRng,
    ledger: Vec<TweetStats>,
    /// Node, user, tweet.
    likes: BTreeSet<(usize, usize, usize)>,
    retweets: BTreeSet<(usize, usize, usize)>,
    replies: u64,
}

pub(crate) fn id(tweet: usize) -> String {
    format!("tweet-{tweet}")
}

impl Crowd {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            ledger: vec![TweetStats::default(); TWEETS],
            likes: BTreeSet::new(),
            retweets: BTreeSet::new(),
            replies: 0,
        }
    }

    /// What each tweet's counts must come to.
    pub(crate) fn ledger(&self) -> &[TweetStats] {
        &self.ledger
    }

    /// Somebody does something.
    pub(crate) async fn act(&mut self, nodes: &[Node]) -> Result<()> {
        // Some tweets are much more popular than others.
        let popularity: f64 = self.random.random();
        let tweet = ((popularity * popularity * TWEETS as f64) as usize).min(TWEETS - 1);
        let index = self.random.random_range(0..nodes.len());
        let user = self.random.random_range(0..USERS);
        let (Some(node), Some(counts)) = (nodes.get(index), self.ledger.get_mut(tweet)) else {
            return Ok(());
        };
        let (subject, name) = (id(tweet), format!("user-{index}-{user}"));
        match self.random.random_range(0..100) {
            0..30 => {
                node.likes.like(&subject, &name).await?;
                counts.likes += u64::from(self.likes.insert((index, user, tweet)));
            }
            30..40 => {
                // Mostly of a like that there is.
                let liked = self.likes.iter().find(|(node, ..)| *node == index).copied();
                let (_, user, tweet) = liked.unwrap_or((index, user, tweet));
                node.likes
                    .unlike(&id(tweet), &format!("user-{index}-{user}"))
                    .await?;
                if self.likes.remove(&(index, user, tweet))
                    && let Some(counts) = self.ledger.get_mut(tweet)
                {
                    counts.likes -= 1;
                }
            }
            40..50 => {
                node.tweets.retweet(&subject, &name).await?;
                counts.retweets += u64::from(self.retweets.insert((index, user, tweet)));
            }
            50..60 => {
                self.replies += 1;
                let reply = format!("reply-{}", self.replies);
                node.replies.add_reply(&subject, &reply).await?;
                counts.replies += 1;
            }
            _ => {
                node.tweets.increment_view_count(&subject).await?;
                counts.views += 1;
            }
        }
        Ok(())
    }
}
