use bytes::Bytes;
use futures::task::noop_waker;

use super::*;
use crate::net::peer_name;

struct Rig {
    client: Client,
    now: Instant,
}

fn cid(n: u32) -> Cid {
    *block(n).cid()
}

fn block(n: u32) -> Block {
    Block::new(Format::DagPb, Bytes::copy_from_slice(&n.to_be_bytes())).unwrap()
}

/// What a peer would be told: whether it is a whole list, and (block number, kind or cancel).
type Told = Vec<(u32, Option<WantKind>)>;

impl Rig {
    fn new(limits: Limits) -> Self {
        Self {
            client: Client::new(limits),
            now: Instant::now(),
        }
    }

    fn join(&mut self) -> PeerId {
        let peer = PeerId::random();
        self.client
            .peer_joined(peer, peer_name(&peer), Arc::new(Notify::new()), self.now);
        peer
    }

    fn fetch(&mut self, numbers: std::ops::Range<u32>, hint: Option<PeerId>) -> FetchId {
        self.client.open(numbers.map(cid).collect(), hint, self.now)
    }

    fn told(&mut self, peer: &PeerId) -> Told {
        let (_, entries) = self.client.wantlist(peer).unwrap().take_untold(usize::MAX);
        let number = |of: Cid| (0..5000).find(|n| cid(*n) == of).unwrap();
        entries
            .iter()
            .map(|e| (number(e.cid), (!e.cancel).then_some(e.kind)))
            .collect()
    }

    /// The events of a fetch: what came, or `None` when it has ended.
    fn events(&mut self, id: FetchId) -> Option<Vec<FetchEvent>> {
        match self.client.take_events(id, &noop_waker(), self.now) {
            Poll::Ready(events) => events.map(Vec::from),
            Poll::Pending => Some(Vec::new()),
        }
    }

    fn pass(&mut self, id: FetchId, time: Duration) {
        self.now += time;
        self.client.tick(id, self.now);
    }
}

const BLOCK: Option<WantKind> = Some(WantKind::Block);
const HAVE: Option<WantKind> = Some(WantKind::Have);
const CANCEL: Option<WantKind> = None;

#[test]
fn the_hinted_peer_is_asked_for_the_block_and_nobody_else() {
    let mut rig = Rig::new(Limits::default());
    let (hinted, other) = (rig.join(), rig.join());
    let id = rig.fetch(1..3, Some(hinted));
    assert_eq!(rig.told(&hinted), [(1, BLOCK), (2, BLOCK)]);
    assert_eq!(rig.told(&other), []);
    assert!(rig.client.block(&hinted, block(2)));
    let events = rig.events(id).unwrap();
    assert_eq!(events[0].from, Some(peer_name(&hinted)));
    assert_eq!(events[0].result.as_ref().unwrap(), &block(2));
    assert!(rig.client.block(&hinted, block(1)));
    assert_eq!(rig.events(id).unwrap().len(), 1);
    assert!(rig.events(id).is_none(), "it has ended");
    assert_eq!(
        rig.told(&hinted),
        [],
        "a block that was sent needs no cancel"
    );
}

#[test]
fn a_denial_sends_us_to_the_others_and_the_first_that_has_it_is_asked_for_it() {
    let mut rig = Rig::new(Limits::default());
    let (hinted, a, b) = (rig.join(), rig.join(), rig.join());
    let id = rig.fetch(1..2, Some(hinted));
    rig.told(&hinted);
    rig.client
        .presence(hinted, &cid(1), Presence::DontHave, rig.now);
    assert_eq!(
        (rig.told(&a), rig.told(&b)),
        (vec![(1, HAVE)], vec![(1, HAVE)])
    );
    rig.client.presence(b, &cid(1), Presence::Have, rig.now);
    rig.client.presence(a, &cid(1), Presence::Have, rig.now);
    assert_eq!((rig.told(&a), rig.told(&b)), (vec![], vec![(1, BLOCK)]));
    rig.client.block(&b, block(1));
    assert_eq!(rig.told(&a), [(1, CANCEL)]);
    assert_eq!(rig.told(&hinted), [(1, CANCEL)]);
    assert_eq!(rig.events(id).unwrap().len(), 1);
}

#[test]
fn a_peer_that_has_it_but_does_not_send_it_is_passed_over() {
    let mut rig = Rig::new(Limits::default());
    let (a, b) = (rig.join(), rig.join());
    let id = rig.fetch(1..2, None);
    rig.client.presence(a, &cid(1), Presence::Have, rig.now);
    rig.client.presence(b, &cid(1), Presence::Have, rig.now);
    assert_eq!(rig.told(&a), [(1, BLOCK)]);
    assert_eq!(rig.told(&b), [(1, HAVE)]);
    rig.pass(id, Duration::from_millis(999));
    assert_eq!(rig.told(&b), []);
    rig.pass(id, Duration::from_millis(1));
    assert_eq!(rig.told(&b), [(1, BLOCK)]);
}

#[test]
fn others_are_asked_when_the_hinted_peer_is_slow_or_leaves() {
    for leaves in [false, true] {
        let mut rig = Rig::new(Limits::default());
        let (hinted, other) = (rig.join(), rig.join());
        let id = rig.fetch(1..2, Some(hinted));
        assert_eq!(rig.told(&other), []);
        if leaves {
            rig.client.peer_left(&hinted, rig.now);
            assert_eq!(rig.told(&other), [(1, BLOCK)]);
        } else {
            rig.pass(id, Duration::from_secs(1));
            assert_eq!(rig.told(&other), [(1, HAVE)]);
        }
    }
}

#[test]
fn what_every_peer_denies_is_not_found_after_a_while_in_which_it_may_turn_up() {
    let mut rig = Rig::new(Limits::default());
    let (a, b) = (rig.join(), rig.join());
    let id = rig.fetch(1..3, Some(a));
    for n in 1..3 {
        rig.client.presence(a, &cid(n), Presence::DontHave, rig.now);
        rig.client.presence(b, &cid(n), Presence::DontHave, rig.now);
    }
    rig.pass(id, Duration::from_millis(1999));
    assert!(rig.events(id).unwrap().is_empty());
    assert!(rig.client.block(&b, block(1)), "it turned up");
    rig.pass(id, Duration::from_millis(1));
    let events = rig.events(id).unwrap();
    assert!(events[0].result.is_ok());
    assert!(matches!(events[1].result, Err(FetchError::NotFound)));
    rig.told(&a);
    assert!(rig.events(id).is_none());
}

#[test]
fn without_any_peer_a_fetch_waits_for_one_and_then_gives_up() {
    let mut rig = Rig::new(Limits::default());
    let id = rig.fetch(1..2, None);
    let peer = rig.join();
    assert_eq!(rig.told(&peer), [(1, BLOCK)]);
    rig.client.peer_left(&peer, rig.now);
    rig.pass(id, Duration::from_secs(2));
    assert!(matches!(
        rig.events(id).unwrap()[0].result,
        Err(FetchError::NotFound)
    ));
}

#[test]
fn a_silent_peer_costs_no_more_than_the_fetch_timeout() {
    let mut rig = Rig::new(Limits::default());
    let peer = rig.join();
    let id = rig.fetch(1..2, Some(peer));
    rig.told(&peer);
    rig.pass(id, Duration::from_secs(30));
    assert!(matches!(
        rig.events(id).unwrap()[0].result,
        Err(FetchError::TimedOut)
    ));
    assert_eq!(rig.told(&peer), [(1, CANCEL)]);
    assert!(
        !rig.client.block(&peer, block(1)),
        "nobody wants it any more"
    );
    assert!(rig.events(id).is_none());
}

#[test]
fn a_dropped_fetch_is_withdrawn_unless_another_waits_for_the_same() {
    let mut rig = Rig::new(Limits::default());
    let peer = rig.join();
    let first = rig.fetch(1..3, Some(peer));
    let second = rig.fetch(2..3, Some(peer));
    assert_eq!(rig.told(&peer), [(1, BLOCK), (2, BLOCK)]);
    rig.client.drop_fetch(first);
    assert_eq!(rig.told(&peer), [(1, CANCEL)]);
    rig.client.block(&peer, block(2));
    assert_eq!(rig.events(second).unwrap().len(), 1);
    assert!(rig.client.wants.is_empty());
}

#[test]
fn no_more_than_the_window_is_asked_for_and_the_rest_as_the_caller_takes_blocks() {
    let mut rig = Rig::new(Limits {
        fetch_window: 4,
        ..Limits::default()
    });
    let peer = rig.join();
    let id = rig.fetch(0..10, Some(peer));
    assert_eq!(rig.told(&peer).len(), 4);
    for n in 0..4 {
        rig.client.block(&peer, block(n));
    }
    assert_eq!(rig.told(&peer).len(), 0, "none of them was taken");
    assert_eq!(rig.events(id).unwrap().len(), 4);
    assert_eq!(rig.events(id).unwrap().len(), 0);
    assert_eq!(rig.told(&peer).len(), 4);
}

#[test]
fn blocks_above_the_buffer_are_dropped_and_asked_for_again() {
    let limits = Limits {
        fetch_window: 8,
        fetch_buffer_bytes: 7,
        ..Limits::default()
    };
    let mut rig = Rig::new(limits);
    let peer = rig.join();
    let id = rig.fetch(0..4, Some(peer));
    assert_eq!(rig.told(&peer).len(), 4);
    for n in 0..4 {
        assert!(rig.client.block(&peer, block(n)));
    }
    assert_eq!(
        rig.events(id).unwrap().len(),
        2,
        "the second of four bytes passes the bound of 7"
    );
    assert_eq!(rig.events(id).unwrap().len(), 0);
    assert_eq!(rig.told(&peer).len(), 2);
    rig.client.block(&peer, block(3));
    rig.client.block(&peer, block(2));
    assert_eq!(rig.events(id).unwrap().len(), 2);
    assert!(rig.events(id).is_none());
}

#[test]
fn a_peer_has_no_more_wants_of_ours_than_it_remembers() {
    let limits = Limits {
        max_wants_at_peer: 3,
        ..Limits::default()
    };
    let mut rig = Rig::new(limits);
    let peer = rig.join();
    let id = rig.fetch(0..5, Some(peer));
    assert_eq!(rig.told(&peer).len(), 3);
    for n in 0..3 {
        rig.client.block(&peer, block(n));
    }
    rig.pass(id, Duration::from_secs(1));
    assert_eq!(rig.told(&peer).len(), 2);
}

#[test]
fn a_new_stream_is_told_everything_again() {
    let mut rig = Rig::new(Limits::default());
    let peer = rig.join();
    rig.fetch(0..3, Some(peer));
    rig.told(&peer);
    rig.client.block(&peer, block(1));
    let wantlist = rig.client.wantlist(&peer).unwrap();
    wantlist.start_over();
    let (full, entries) = wantlist.take_untold(10);
    assert!(full);
    assert_eq!(entries.len(), 2);
}

#[test]
fn a_cid_that_is_no_name_of_ours_is_not_found_and_one_that_is_there_twice_is_fetched_once() {
    let mut rig = Rig::new(Limits::default());
    let peer = rig.join();
    let raw = Cid::new_v1(0x55, *cid(1).hash());
    let id = rig
        .client
        .open(vec![raw, cid(1), cid(1)], Some(peer), rig.now);
    assert!(matches!(
        rig.events(id).unwrap()[0].result,
        Err(FetchError::NotFound)
    ));
    rig.client.block(&peer, block(1));
    assert_eq!(rig.events(id).unwrap().len(), 1);
    assert!(rig.events(id).is_none());
}

#[test]
fn closing_ends_every_fetch() {
    let mut rig = Rig::new(Limits {
        fetch_window: 2,
        ..Limits::default()
    });
    let peer = rig.join();
    let before = rig.fetch(0..5, Some(peer));
    rig.client.close();
    let after = rig.fetch(7..8, Some(peer));
    for (id, count) in [(before, 5), (after, 1)] {
        let events = rig.events(id).unwrap();
        assert_eq!(events.len(), count);
        assert!(events.iter().all(|event| {
            matches!(
                event.result,
                Err(FetchError::Transport(TransportError::Closed))
            )
        }));
        assert!(rig.events(id).is_none());
    }
}
