use std::borrow::Cow;
use std::fmt;

/// What is counted of a subject. Four have names; any other is one too, of at most
/// [`MAX_ID_BYTES`](crate::types::MAX_ID_BYTES).
///
/// ```
/// use crdt_ds::stats::Stat;
///
/// assert_eq!(Stat::LIKES, Stat::new("likes"));
/// assert_eq!(Stat::from("bookmarks").as_str(), "bookmarks");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stat(Cow<'static, str>);

impl Stat {
    /// Likes.
    pub const LIKES: Self = Self(Cow::Borrowed("likes"));
    /// Retweets.
    pub const RETWEETS: Self = Self(Cow::Borrowed("retweets"));
    /// Replies.
    pub const REPLIES: Self = Self(Cow::Borrowed("replies"));
    /// Views.
    pub const VIEWS: Self = Self(Cow::Borrowed("views"));

    /// The four of [`TweetStats`].
    pub const NAMED: [Self; 4] = [Self::LIKES, Self::RETWEETS, Self::REPLIES, Self::VIEWS];

    /// The stat of a name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Stat {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The counts of a post.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TweetStats {
    /// Likes.
    pub likes: u64,
    /// Retweets.
    pub retweets: u64,
    /// Replies.
    pub replies: u64,
    /// Views.
    pub views: u64,
}
