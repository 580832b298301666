use std::io;
use std::path::PathBuf;

use libp2p::{Multiaddr, PeerId};

/// Why the network could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// An option has a value that cannot be used.
    #[error("the network cannot be set up so: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The file of an identity or a key could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds no identity or key.
    #[error("{path} holds no key that can be read: {reason}")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others than its owner may read the file of an identity or a key.
    #[error("{path} may be read by others than its owner (mode {mode:o}): change it to 600")]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its access rights.
        mode: u32,
    },
    /// The node cannot listen on an address.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
    /// A peer could not be connected to. If it is named, it will be tried again.
    #[error("cannot connect to {address}: {reason}")]
    Dial {
        /// The address.
        address: Multiaddr,
        /// Why not.
        reason: String,
    },
    /// There is no connection to the peer.
    #[error("not connected to {peer}")]
    NotConnected {
        /// The peer.
        peer: PeerId,
    },
    /// The node was closed.
    #[error("the node is closed")]
    Closed,
}
