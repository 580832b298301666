//! People who like, retweet, reply and look, and keep a ledger of what they did.

use std::collections::BTreeSet;

use crdt_ds::stats::TweetStats;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use crate::TWEETS;

/// Users of each node.
const USERS: usize = 50;

/// What somebody does.
pub(crate) enum Act {
    Like { tweet: String, user: String },
    Unlike { tweet: String, user: String },
    Retweet { tweet: String, user: String },
    Reply { tweet: String, reply: String },
    View { tweet: String },
}

pub(crate) struct Crowd {
    random: StdRng,
    ledger: Vec<TweetStats>,
    /// Node, user, tweet.
    likes: BTreeSet<(usize, usize, usize)>,
    retweets: BTreeSet<(usize, usize, usize)>,
    replies: u64,
}

pub(crate) fn tweet_id(tweet: usize) -> String {
    format!("tweet-{tweet}")
}

fn user_id(node: usize, user: usize) -> String {
    format!("user-{node}-{user}")
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

    /// What somebody at a node does next; it is in the ledger from now on.
    #[allow(
        clippy::indexing_slicing,
        reason = "tweets are drawn from the ledger's"
    )]
    pub(crate) fn next(&mut self, node: usize) -> Act {
        // Some tweets are much more popular than others.
        let popularity: f64 = self.random.random();
        let index = ((popularity * popularity * TWEETS as f64) as usize).min(TWEETS - 1);
        let someone = self.random.random_range(0..USERS);
        let counts = &mut self.ledger[index];
        let (tweet, user) = (tweet_id(index), user_id(node, someone));
        match self.random.random_range(0..100) {
            0..30 => {
                // Who likes it already does so in vain.
                counts.likes += u64::from(self.likes.insert((node, someone, index)));
                Act::Like { tweet, user }
            }
            30..40 => {
                let of_node = (node, 0, 0)..(node + 1, 0, 0);
                match self.likes.range(of_node).copied().choose(&mut self.random) {
                    Some(like @ (_, someone, index)) => {
                        self.likes.remove(&like);
                        self.ledger[index].likes -= 1;
                        let (tweet, user) = (tweet_id(index), user_id(node, someone));
                        Act::Unlike { tweet, user }
                    }
                    // There is none to take back.
                    None => Act::Unlike { tweet, user },
                }
            }
            40..50 => {
                counts.retweets += u64::from(self.retweets.insert((node, someone, index)));
                Act::Retweet { tweet, user }
            }
            50..60 => {
                counts.replies += 1;
                self.replies += 1;
                let reply = format!("reply-{}", self.replies);
                Act::Reply { tweet, reply }
            }
            _ => {
                counts.views += 1;
                Act::View { tweet }
            }
        }
    }
}
