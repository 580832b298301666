//! What random histories have found once, or cannot find.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use datastore_backends::MemoryDatastore;
use datastore_core::{Batch, Datastore, Key};

use super::audit::{Nodes, audit};
use crate::block::{
    Block, BlockError, DagName, Delta, Format, Origin, Put, VersionId, WriterId, dag_cbor, dag_pb,
    protobuf,
};
use crate::replica::group::Group;
use crate::replica::layout::Layout;
use crate::replica::{Arrival, Committed, Draws, Outcome, Replica, Rules, Work, Write};
use crate::sync::Peer;

fn rules(format: Format) -> Rules {
    Rules {
        format,
        network: String::new(),
        writer: WriterId([1; 16]),
        max_inline_bytes: 8,
        max_delta_bytes: 4096,
        max_pending_bodies: 10,
        max_pending: 100,
        max_wants_per_peer: 100,
        newest_first: false,
        max_merges: 10,
    }
}

async fn open(store: &Arc<dyn Datastore>, rules: Rules) -> Replica {
    let draws = Draws {
        store_id: [1; 16],
        generation: [1; 8],
    };
    let replica = Replica::open(store.clone(), Key::new("/r"), rules, draws).await;
    replica.unwrap()
}

fn put(links: &[Cid], priority: u64, key: &str) -> Block {
    let put = Put {
        key: Key::new(key),
        value: Bytes::from_static(b"value"),
    };
    let delta = Delta {
        priority,
        puts: vec![put],
        ..Delta::default()
    };
    dag_pb::encode(links, &delta).unwrap()
}

/// As [`put`], but of the highest priority that a foreign block can have, which ours cannot.
fn put_above_all(key: &str, value: &str) -> Block {
    let mut element = Vec::new();
    protobuf::write_bytes_field(&mut element, 1, key.as_bytes());
    protobuf::write_bytes_field(&mut element, 3, value.as_bytes());
    let mut delta = Vec::new();
    protobuf::write_bytes_field(&mut delta, 1, &element);
    protobuf::write_number_field(&mut delta, 3, u64::MAX);
    let mut node = Vec::new();
    protobuf::write_bytes_field(&mut node, 1, &delta);
    Block::new(Format::DagPb, node.into()).unwrap()
}

fn arrive(block: &Block) -> Work {
    Work::Arrive {
        block: block.clone(),
        from: Some(Peer::new("p")),
    }
}

async fn commit(replica: &mut Replica, work: Work) -> Committed {
    replica.commit(vec![work], 1, false).await.unwrap()
}

fn arrival(committed: Committed) -> Arrival {
    match committed.outcomes.into_iter().next() {
        Some(Outcome::Arrived(arrival)) => arrival,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_block_merges_whose_body_was_away_when_its_link_was_given_up() {
    let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
    let few = Rules {
        max_pending_bodies: 1,
        ..rules(Format::DagPb)
    };
    let mut replica = open(&store, few).await;
    let lost = VersionId([7; 32]).cid(Format::DagPb);
    let above = put(&[lost], 9, "/above");
    let other = put(&[VersionId([8; 32]).cid(Format::DagPb)], 2, "/other");

    // There is room for one body: the one of the higher priority goes.
    commit(&mut replica, arrive(&above)).await;
    commit(&mut replica, arrive(&other)).await;
    assert_eq!(replica.state().sums.bodies, 1);
    let given_up = Work::Gap {
        cid: lost,
        declared: false,
    };
    let committed = commit(&mut replica, given_up).await;
    assert_eq!(committed.wanted, [(*above.cid(), None)]);

    let committed = commit(&mut replica, arrive(&above)).await;
    assert_eq!(arrival(committed), Arrival::Merged);
    assert!(replica.state().gaps.contains_key(&lost));
}

#[tokio::test]
async fn a_malformed_block_counts_towards_what_its_peer_left_behind_before_and_after_reopening() {
    let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
    let mut replica = open(&store, rules(Format::DagPb)).await;
    let malformed = Block::new(Format::DagPb, Bytes::from_static(b"no node")).unwrap();
    commit(&mut replica, arrive(&put(&[*malformed.cid()], 1, "/a"))).await;
    let one = BTreeMap::from([(Peer::new("p"), 1)]);
    assert_eq!(replica.wants_by_peer(), one);
    for _ in 0..2 {
        let committed = commit(&mut replica, arrive(&malformed)).await;
        assert!(matches!(arrival(committed), Arrival::Refused(_)));
        assert_eq!(replica.wants_by_peer(), one);
    }
    assert_eq!(
        open(&store, rules(Format::DagPb)).await.wants_by_peer(),
        one
    );
}

#[tokio::test]
async fn a_put_wins_over_more_hostile_versions_than_it_would_sweep() {
    for format in [Format::DagCbor, Format::DagPb] {
        let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        let mut replica = open(&store, rules(format)).await;
        for number in 0..100 {
            commit(
                &mut replica,
                arrive(&put_above_all("/k", &number.to_string())),
            )
            .await;
        }
        let mut batch = Batch::new();
        batch.put(Key::new("/k"), "ours");
        let name = DagName::default();
        commit(&mut replica, Work::Write(Write { name, batch })).await;
        let visible = store.get(&Key::new("/r/k/k")).await.unwrap().unwrap();
        assert!(visible.ends_with(b"ours"), "{format}");
        assert_eq!(replica.state().sums.hidden, 0, "{format}");
    }
}

/// Stores a block as a program does that does not know its version.
async fn pend_unknown(store: &Arc<dyn Datastore>, replica: &Replica, block: &Block) {
    let (layout, rules) = (Layout::new(&Key::new("/r")), rules(Format::DagCbor));
    let state = replica.state().clone();
    let mut group = Group::new(&**store, &layout, &rules, state, 1, 1);
    let error = BlockError::UnknownVersion {
        cid: *block.cid(),
        version: 2,
    };
    let arrival = group
        .pend_unknown(block, error, None, &HashMap::new())
        .await
        .unwrap();
    assert_eq!(arrival, Arrival::Pending);
    let (batch, _, _) = group.finish(false).await.unwrap();
    store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn an_upgraded_program_merges_blocks_that_waited_for_it_and_what_waited_for_them() {
    let origin = |sequence| Origin {
        network: String::new(),
        writer: WriterId([9; 16]),
        sequence,
    };
    let made = |sequence, links: &[&Block]| {
        let delta = Delta {
            priority: sequence,
            ..Delta::default()
        };
        let links: Vec<Cid> = links.iter().map(|block| *block.cid()).collect();
        dag_cbor::encode(&origin(sequence), &links, &delta).unwrap()
    };
    let bottom = made(1, &[]);
    // Two of the unknown version, one above the other, in either order of their CIDs.
    for salt in 2..10 {
        let unknown = made(salt, &[&bottom]);
        let also = made(salt + 1, &[&unknown]);
        let above = made(salt + 2, &[&also]);

        let store: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        for block in [&unknown, &also] {
            let replica = open(&store, rules(Format::DagCbor)).await;
            pend_unknown(&store, &replica, block).await;
        }
        let mut replica = open(&store, rules(Format::DagCbor)).await;
        assert_eq!(
            arrival(commit(&mut replica, arrive(&above)).await),
            Arrival::Pending
        );
        assert_eq!(replica.state().sums.unknown, 2);
        replica.revisit_unknown(1).await.unwrap();
        assert_eq!(replica.state().sums.unknown, 0);

        assert_eq!(
            arrival(commit(&mut replica, arrive(&bottom)).await),
            Arrival::Merged
        );
        let (namespace, mut nodes) = (Key::new("/r"), Nodes::new());
        let audited = audit(&replica, &*store, &namespace, "", &mut nodes).await;
        let expected = [&bottom, &unknown, &also, &above].map(|block| *block.cid());
        assert_eq!(audited.unwrap().merged, BTreeSet::from(expected));
    }
}
