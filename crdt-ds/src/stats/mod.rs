//! Statistics of a social network's posts, counted on many nodes, offline too, without coordination.
//!
//! A [`StatsStore`] keeps counters in a [`CrdtDatastore`](crate::CrdtDatastore); [`LikeRepo`],
//! [`TweetRepo`] and [`ReplyRepo`] also keep who did it, so that nobody counts twice. All of it uses
//! only the public face of the store.
//!
//! # Keys
//!
//! `/{namespace}/{subject}/{stat}/{node}:{generation}` → two big-endian numbers of 8 bytes, all that
//! this generation of the node ever added and subtracted. Namespace, subject, stat and node are
//! escaped by [`escape`](crate::types::escape): an empty id and one of more than
//! [`MAX_ID_BYTES`](crate::types::MAX_ID_BYTES) are errors, and no id reaches into the keys of
//! another. A value of 8 bytes at `…/{node}` counts as added, as the first version of the Warpnet app
//! wrote it; what the app writes today is [`Layout::IncrDecr`].
//!
//! # What is counted when
//!
//! An open of the replica that does not follow a clean close starts a new generation, so no slot is
//! ever written by two stores, nor anew by one that forgot what it wrote: nothing is counted twice,
//! and what peers have comes back. What a crash takes before anybody else has it is lost: with
//! [`Options::durable`](crate::Options::durable) nothing that was returned, else what a power loss
//! takes.

mod actions;
mod count_cache;
mod guard;
mod intent;
mod layout;
mod like_repo;
mod options;
mod replicated_likes;
mod reply_repo;
mod stat;
mod store;
mod top;
mod tweet_repo;

pub use self::guard::{Target, Update, Validate};
pub use self::layout::{Layout, SlotOwner, slot_owner};
pub use self::like_repo::LikeRepo;
pub use self::options::{RepoOptions, StatsOptions};
pub use self::reply_repo::ReplyRepo;
pub use self::stat::{Stat, TweetStats};
pub use self::store::{StatsInfo, StatsStore};
pub use self::tweet_repo::TweetRepo;
pub use crate::rate::{Rate, TokenBucket};
pub use crate::types::{Members, Sum, Totals};

/// The topic that the Warpnet app uses today, for a [`GossipBroadcaster`](crate::sync::GossipBroadcaster)
/// of a store that writes DAG-PB.
pub const WARPNET_TOPIC: &str = "/warpnet/stats/1.0.0";

/// The topic that the first version of the Warpnet app used.
pub const WARPNET_FIRST_TOPIC: &str = "/warpnet/stats/crdt/1.0.0";
