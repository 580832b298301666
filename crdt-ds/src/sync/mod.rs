//! How replicas learn of each other's blocks and fetch them.

mod announcement;
mod transport;

pub use self::announcement::{AnnouncedHead, Announcement, AnnouncementError, AnnouncementLimits};
pub use self::transport::{
    BlockFetcher, BlockSource, BroadcastEvent, Broadcaster, FetchError, FetchEvent, Peer,
    PeerDigests, ServeBlocks, Transport, TransportError,
};
