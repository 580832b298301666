//! What a topic brings, until its replica takes it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::sync::{BroadcastEvent, Peer};

/// A queue of events. When it is full the oldest payload is dropped: announcements are repeated, and
/// whoever sends them must never wait. That a peer joined or left is kept, at most twice a peer.
#[derive(Debug)]
pub(super) struct Inbox {
    max_payloads: usize,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<BroadcastEvent>,
    payloads: usize,
    closed: bool,
}

impl Inbox {
    pub(super) fn new(max_payloads: usize) -> Self {
        Self {
            max_payloads,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn payload(&self, from: Option<Peer>, payload: Bytes) {
        let mut state = self.state();
        if state.payloads >= self.max_payloads {
            let oldest = state
                .events
                .iter()
                .position(|e| matches!(e, BroadcastEvent::Payload { .. }));
            if let Some(oldest) = oldest {
                state.events.remove(oldest);
                state.payloads -= 1;
            }
        }
        state.payloads += 1;
        state
            .events
            .push_back(BroadcastEvent::Payload { from, payload });
        drop(state);
        self.arrived.notify_one();
    }

    pub(super) fn joined(&self, peer: Peer) {
        self.state()
            .events
            .push_back(BroadcastEvent::PeerJoined(peer));
        self.arrived.notify_one();
    }

    /// A peer that joined and left before anybody looked did neither.
    pub(super) fn left(&self, peer: Peer) {
        let mut state = self.state();
        let joined = state
            .events
            .iter()
            .rposition(|event| matches!(event, BroadcastEvent::PeerJoined(p) if *p == peer));
        match joined {
            Some(joined) => drop(state.events.remove(joined)),
            None => state.events.push_back(BroadcastEvent::PeerLeft(peer)),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Ends the queue, once it has been emptied.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_one();
    }

    /// The next event; `None` when the queue is closed and empty.
    pub(super) async fn next(&self) -> Option<BroadcastEvent> {
        loop {
            {
                let mut state = self.state();
                if let Some(event) = state.events.pop_front() {
                    if matches!(event, BroadcastEvent::Payload { .. }) {
                        state.payloads -= 1;
                    }
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn peer(name: &'static str) -> Peer {
        Peer::new(name.as_bytes())
    }

    fn drain(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.next().now_or_never().flatten())
            .map(|event| match event {
                BroadcastEvent::Payload { payload, .. } => format!("{payload:?}"),
                BroadcastEvent::PeerJoined(peer) => format!("+{peer}"),
                BroadcastEvent::PeerLeft(peer) => format!("-{peer}"),
            })
            .collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_payload_and_no_peer() {
        let inbox = Inbox::new(2);
        inbox.payload(None, Bytes::from_static(b"1"));
        inbox.joined(peer("a"));
        inbox.payload(None, Bytes::from_static(b"2"));
        inbox.payload(None, Bytes::from_static(b"3"));
        assert_eq!(drain(&inbox), ["+a", "b\"2\"", "b\"3\""]);
        inbox.payload(None, Bytes::from_static(b"4"));
        inbox.payload(None, Bytes::from_static(b"5"));
        assert_eq!(drain(&inbox).len(), 2, "what was taken makes room");
    }

    #[test]
    fn a_peer_that_comes_and_goes_for_ever_takes_no_more_room() {
        let inbox = Inbox::new(2);
        inbox.joined(peer("a"));
        drain(&inbox);
        for _ in 0..1000 {
            inbox.left(peer("a"));
            inbox.joined(peer("a"));
            inbox.joined(peer("b"));
            inbox.left(peer("b"));
        }
        let events = drain(&inbox);
        assert_eq!(events, ["-a", "+a"]);
    }

    #[test]
    fn a_closed_queue_ends_once_it_is_empty_and_a_dropped_wait_loses_nothing() {
        let inbox = Inbox::new(2);
        assert!(inbox.next().now_or_never().is_none());
        inbox.joined(peer("a"));
        inbox.close();
        assert_eq!(drain(&inbox), ["+a"]);
        assert!(matches!(inbox.next().now_or_never(), Some(None)));
        assert!(matches!(inbox.next().now_or_never(), Some(None)));
    }
}
