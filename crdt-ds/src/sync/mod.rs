//! How replicas learn of each other's blocks and fetch them.
//!
//! A [`Transport`] is a [`Broadcaster`], which carries announcements, and a [`BlockFetcher`], which
//! carries blocks; any network that has both will do. [`Hub`] is one in this process.

mod announcement;
mod engine;
mod gossip;
mod hub;
mod outbox;
mod paced;
mod status;
mod transport;
mod wants;

pub use self::announcement::{AnnouncedHead, Announcement, AnnouncementError, AnnouncementLimits};
pub(crate) use self::engine::Engine;
pub use self::gossip::{GossipBroadcaster, GossipPublisher};
pub use self::hub::{Faults, Hub};
pub(crate) use self::outbox::{LocalHead, Outbox};
pub use self::paced::PacedBroadcaster;
pub(crate) use self::status::SyncView;
pub use self::status::{Peers, SyncStatus};
pub use self::transport::{
    BlockFetcher, BlockSource, BroadcastEvent, Broadcaster, FetchError, FetchEvent, Peer,
    PeerDigests, ServeBlocks, Transport, TransportError,
};
pub use crate::rate::{Rate, TokenBucket};
