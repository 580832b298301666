//! Which named peers are to be dialled, and when.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// The peer that an address names at its end.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The peers that a node was told to be connected to, by address. Plain data: it neither dials nor
/// sleeps.
///
/// An address is dialled at once when it is named, and after a failure or a loss with a wait that
/// doubles from `first_wait` to `longest_wait`, and is varied by a quarter, so that nodes which lost
/// each other do not dial in step. A connection that lasted for `longest_wait` starts over.
#[derive(Debug)]
pub(super) struct Reconnect {
    first_wait: Duration,
    longest_wait: Duration,
    named: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    address: Multiaddr,
    /// From the address, or from the last connection to it.
    peer: Option<PeerId>,
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Dialling(ConnectionId),
    Connected(Instant),
}

impl Named {
    fn wait(&mut self, now: Instant, vary: f64, first: Duration, longest: Duration) {
        let doubled = first * 2u32.saturating_pow(self.failures.min(16));
        let wait = doubled
            .min(longest)
            .mul_f64(0.75 + vary.clamp(0.0, 1.0) / 2.0);
        self.failures += 1;
        self.state = State::Waiting(now + wait);
    }
}

impl Reconnect {
    pub(super) fn new(first_wait: Duration, longest_wait: Duration) -> Self {
        Self {
            first_wait,
            longest_wait,
            named: Vec::new(),
        }
    }

    /// Names an address that is being dialled.
    pub(super) fn dialling(&mut self, address: &Multiaddr, id: ConnectionId) {
        match self
            .named
            .iter_mut()
            .find(|named| named.address == *address)
        {
            Some(named) => named.state = State::Dialling(id),
            None => self.named.push(Named {
                address: address.clone(),
                peer: peer_of(address),
                failures: 0,
                state: State::Dialling(id),
            }),
        }
    }

    /// Names an address, to be dialled when it is due: now.
    pub(super) fn name(&mut self, address: Multiaddr, now: Instant) {
        if self.named.iter().all(|named| named.address != address) {
            let peer = peer_of(&address);
            self.named.push(Named {
                address,
                peer,
                failures: 0,
                state: State::Waiting(now),
            });
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.named.clear();
    }

    /// Forgets the addresses of a peer.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.named.retain(|named| named.peer != Some(*peer));
    }

    /// A connection is there, whoever made it.
    pub(super) fn connected(&mut self, peer: PeerId, id: ConnectionId, now: Instant) {
        for named in &mut self.named {
            if named.state == State::Dialling(id) {
                named.peer = Some(peer);
            }
            if named.peer == Some(peer) && !matches!(named.state, State::Connected(_)) {
                named.state = State::Connected(now);
            }
        }
    }

    /// The last connection to a peer is gone. `vary` is drawn between 0 and 1.
    pub(super) fn disconnected(&mut self, peer: &PeerId, now: Instant, vary: f64) {
        for named in &mut self.named {
            if let State::Connected(since) = named.state
                && named.peer == Some(*peer)
            {
                if now.saturating_duration_since(since) >= self.longest_wait {
                    named.failures = 0;
                }
                named.wait(now, vary, self.first_wait, self.longest_wait);
            }
        }
    }

    /// A dial failed. `vary` is drawn between 0 and 1.
    pub(super) fn failed(&mut self, id: ConnectionId, now: Instant, vary: f64) {
        for named in &mut self.named {
            if named.state == State::Dialling(id) {
                named.wait(now, vary, self.first_wait, self.longest_wait);
            }
        }
    }

    /// An address that is to be dialled now.
    pub(super) fn due(&self, now: Instant) -> Option<Multiaddr> {
        let due = |named: &&Named| matches!(named.state, State::Waiting(at) if at <= now);
        self.named
            .iter()
            .find(due)
            .map(|named| named.address.clone())
    }

    /// When the next address is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.named
            .iter()
            .filter_map(|named| match named.state {
                State::Waiting(at) => Some(at),
                _ => None,
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rig() -> (Reconnect, Instant, Multiaddr) {
        let reconnect = Reconnect::new(Duration::from_secs(1), Duration::from_secs(60));
        (
            reconnect,
            Instant::now(),
            "/ip4/127.0.0.1/tcp/1".parse().unwrap(),
        )
    }

    fn id(n: usize) -> ConnectionId {
        ConnectionId::new_unchecked(n)
    }

    #[test]
    fn failures_and_short_connections_wait_ever_longer() {
        let (mut reconnect, mut now, address) = rig();
        let peer = PeerId::random();
        reconnect.name(address.clone(), now);
        assert_eq!(reconnect.due(now), Some(address.clone()));
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            reconnect.dialling(&address, id(1));
            assert_eq!(reconnect.due(now), None);
            if wait % 3 == 0 {
                reconnect.failed(id(1), now, 0.5);
            } else {
                reconnect.connected(peer, id(1), now);
                assert_eq!(reconnect.next_due(), None);
                reconnect.disconnected(&peer, now, 0.5);
            }
            let due = reconnect.next_due().unwrap();
            assert_eq!(due - now, Duration::from_secs(wait));
            now = due;
        }
        reconnect.dialling(&address, id(2));
        reconnect.connected(peer, id(2), now);
        now += Duration::from_secs(60);
        reconnect.disconnected(&peer, now, 0.0);
        assert_eq!(
            reconnect.next_due().unwrap() - now,
            Duration::from_millis(750)
        );
    }

    #[test]
    fn a_connection_that_the_other_side_made_ends_the_dialling() {
        let (mut reconnect, now, address) = rig();
        let peer = PeerId::random();
        let address = address.with(Protocol::P2p(peer));
        reconnect.name(address.clone(), now);
        reconnect.dialling(&address, id(1));
        reconnect.failed(id(1), now, 0.0);
        reconnect.connected(peer, id(2), now);
        assert_eq!(reconnect.next_due(), None);
    }

    #[test]
    fn what_is_forgotten_is_not_dialled() {
        let (mut reconnect, now, address) = rig();
        let peer = PeerId::random();
        reconnect.name(address.clone(), now);
        reconnect.name("/ip4/127.0.0.1/tcp/2".parse().unwrap(), now);
        reconnect.dialling(&address, id(1));
        reconnect.connected(peer, id(1), now);
        reconnect.forget(&peer);
        reconnect.disconnected(&peer, now, 0.0);
        assert_eq!(
            reconnect.due(now).unwrap().to_string(),
            "/ip4/127.0.0.1/tcp/2"
        );
        reconnect.clear();
        assert_eq!(reconnect.due(now), None);
    }
}
