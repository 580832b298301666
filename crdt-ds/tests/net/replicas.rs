//! Whole replicas over nodes.

use std::collections::BTreeSet;
use std::path::Path;

use crdt_ds::datastore::{Datastore, DatastoreExt, Key, Query};
use crdt_ds::net::{Node, NodeBuilder};
use crdt_ds::{CrdtDatastore, Event, From};
use datastore_backends::{FjallDatastore, MemoryDatastore};
use futures::StreamExt;
use libp2p::Multiaddr;

use super::rig::{loopback, patiently};

/// A node with one replica.
struct Member {
    node: Node,
    store: CrdtDatastore,
}

impl Member {
    async fn start(options: NodeBuilder, backend: impl Datastore) -> Self {
        let node = options.start().await.unwrap();
        let store = CrdtDatastore::builder(backend)
            .transport(node.topic("replicas"))
            .open()
            .await
            .unwrap();
        Self { node, store }
    }

    async fn in_memory() -> Self {
        Self::start(Node::builder().listen(loopback()), MemoryDatastore::new()).await
    }

    async fn on_disk(folder: &Path) -> Self {
        let backend = FjallDatastore::open(folder).await.unwrap();
        Self::start(Node::builder().listen(loopback()), backend).await
    }

    async fn address(&self) -> Multiaddr {
        self.node.listening().await.unwrap().remove(0)
    }

    async fn dial(&self, other: &Member) {
        patiently(self.node.dial(other.address().await))
            .await
            .unwrap();
    }

    async fn put(&self, key: &str) {
        let value = key.to_owned().into();
        self.store.put(&Key::new(key), value).await.unwrap();
    }

    async fn keys(&self) -> BTreeSet<Key> {
        let entries = self.store.query_all(Query::new().keys_only()).await;
        entries
            .unwrap()
            .into_iter()
            .map(|entry| entry.key)
            .collect()
    }

    /// Waits until exactly these keys are visible.
    async fn sees(&self, keys: &[&str]) {
        let wanted: BTreeSet<Key> = keys.iter().map(Key::new).collect();
        // Subscribed before the first look: no change falls between.
        let mut changes = Box::pin(self.store.subscribe(&Key::root(), From::Now));
        patiently(async {
            while self.keys().await != wanted {
                let event = changes.next().await.expect("the replica has closed");
                assert!(!matches!(event.unwrap(), Event::Reset(_)));
            }
        })
        .await;
    }
}

fn assert_same(members: &[&Member]) {
    for pair in members.windows(2) {
        assert_eq!(pair[0].store.digests(), pair[1].store.digests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_on_one_node_is_visible_on_the_other() {
    let (a, b) = (Member::in_memory().await, Member::in_memory().await);
    a.dial(&b).await;
    a.put("/greeting").await;
    b.sees(&["/greeting"]).await;
    assert_same(&[&a, &b]);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_replicas_in_a_line_converge() {
    let mut line = Vec::new();
    for _ in 0..5 {
        line.push(Member::in_memory().await);
    }
    for at in 0..4 {
        line[at].dial(&line[at + 1]).await;
    }
    let keys = ["/0", "/1", "/2", "/3", "/4"];
    for (member, key) in line.iter().zip(keys) {
        member.put(key).await;
    }
    for member in &line {
        member.sees(&keys).await;
    }
    assert_same(&line.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_dropped_unclosed_is_in_sync_again_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let a = Member::in_memory().await;
    let b = Member::on_disk(&path).await;
    a.dial(&b).await;
    a.put("/before").await;
    b.sees(&["/before"]).await;
    b.node.close().await;
    drop(b);

    a.put("/while it was away").await;
    // Its tasks may take a moment to let go of the folder.
    let b = patiently(async {
        loop {
            match FjallDatastore::open(&path).await {
                Ok(backend) => {
                    break Member::start(Node::builder().listen(loopback()), backend).await;
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    b.dial(&a).await;
    b.put("/after").await;
    let keys = ["/before", "/while it was away", "/after"];
    a.sees(&keys).await;
    b.sees(&keys).await;
    assert_same(&[&a, &b]);
}

#[cfg(feature = "libp2p-relay")]
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_behind_a_relay_converges() {
    use libp2p::multiaddr::Protocol;

    // A relay must know the address that it gives to others before anybody asks.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let relay = Node::builder()
        .listen(address.clone())
        .external_address(address.clone())
        .relay_server(true)
        .start()
        .await
        .unwrap();
    let circuit = address
        .with(Protocol::P2p(relay.id()))
        .with(Protocol::P2pCircuit);

    let hidden = Node::builder().listen(circuit.clone());
    let hidden = Member::start(hidden, MemoryDatastore::new()).await;
    let visitor = Member::in_memory().await;
    let through = circuit.with(Protocol::P2p(hidden.node.id()));
    // The reservation may not be made yet.
    patiently(async { while visitor.node.dial(through.clone()).await.is_err() {} }).await;
    hidden.put("/hidden").await;
    visitor.put("/visitor").await;
    for member in [&hidden, &visitor] {
        member.sees(&["/hidden", "/visitor"]).await;
    }
    assert_same(&[&hidden, &visitor]);
}
