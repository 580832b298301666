use libp2p::PeerId;

use crate::sync::Peer;

/// The name under which a transport's user knows a peer: its id in base 58.
pub fn peer_name(peer: &PeerId) -> Peer {
    Peer::new(peer.to_base58())
}

/// The peer with this name, if [`peer_name`] made it.
pub fn peer_id(name: &Peer) -> Option<PeerId> {
    std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()
}
