//! Whole replicas on a network that loses, doubles, delays, reorders and falls apart: once it is healed
//! they are equal, and whoever listened to one of them has seen all that changed.
//!
//! `CRDT_DS_HISTORIES` is how many histories each test runs, `CRDT_DS_SEED` where it begins. A failure
//! names the seed of its history.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crdt_ds::block::{DagName, Format};
use crdt_ds::datastore::{Batch, DatastoreExt, Key, Query};
use crdt_ds::sync::{Faults, Hub, Peers};
use crdt_ds::{CrdtDatastore, Event, From, Result};
use datastore_backends::MemoryDatastore;
use futures::{FutureExt, Stream, StreamExt};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

/// How many histories a test runs unless told otherwise.
const HISTORIES: u64 = 30;
const MEMBERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const KEYS: [&str; 5] = ["/", "/a", "/a/b", "/k", "/z"];
/// How long replicas may take to agree, in paused time.
const SOON: Duration = Duration::from_secs(3600);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn faulty(random: &mut StdRng) -> Faults {
    Faults {
        loss: random.random_range(0.0..0.6),
        duplication: random.random_range(0.0..0.5),
        delay: Duration::ZERO..Duration::from_millis(random.random_range(1..3000)),
        fetch_loss: random.random_range(0.0..0.6),
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<Event>>>>;

/// A replica, and somebody who listens to it.
struct Member {
    name: &'static str,
    below: MemoryDatastore,
    store: CrdtDatastore,
    events: Events,
    /// What the listener knows of the contents.
    heard: BTreeMap<Key, Bytes>,
}

struct Network {
    format: Format,
    seed: u64,
    hub: Hub,
    members: Vec<Member>,
}

impl Network {
    async fn open(&self, name: &str, below: &MemoryDatastore) -> CrdtDatastore {
        // No two clocks agree.
        let skew = u64::from(name.as_bytes()[0]) * 500_000;
        CrdtDatastore::builder(below.clone())
            .format(self.format)
            .clock(Arc::new(move || 1_700_000_000_000_000 + skew))
            .max_inline_bytes(8)
            .max_delta_bytes(8192)
            .transport(self.hub.join(name))
            .open()
            .await
            .unwrap()
    }

    async fn add(&mut self, name: &'static str) {
        let below = MemoryDatastore::new();
        let store = self.open(name, &below).await;
        self.members.push(Member {
            name,
            events: Box::pin(store.subscribe(&Key::root(), From::Now)),
            below,
            store,
            heard: BTreeMap::new(),
        });
    }

    async fn step(&mut self, random: &mut StdRng) {
        let number = random.random_range(0..self.members.len());
        match random.random_range(0..20) {
            0 => {
                let mut names: Vec<&str> = self.members.iter().map(|member| member.name).collect();
                names.shuffle(random);
                let (left, right) = names.split_at(random.random_range(0..=names.len()));
                self.hub.partition(&[left, right]);
            }
            1 => self.hub.heal(),
            2 => self.hub.set_faults(faulty(random)),
            3 => self.reopen(number).await,
            4..8 => {
                let pause = Duration::from_millis(random.random_range(0..4000));
                tokio::time::sleep(pause).await;
            }
            _ => self.write(number, random).await,
        }
    }

    async fn write(&self, number: usize, random: &mut StdRng) {
        let name = DagName::new(*["", "", "x", "y"].choose(random).unwrap());
        let mut batch = Batch::new();
        for _ in 0..random.random_range(1..4) {
            let key = Key::new(KEYS.choose(random).unwrap());
            if random.random_bool(0.7) {
                let length = *[0, 1, 8, 9, 200].choose(random).unwrap();
                batch.put(key, vec![random.random_range(b'a'..b'd'); length]);
            } else {
                batch.delete(key);
            }
        }
        let view = self.members[number].store.dag(name);
        view.write(batch).await.unwrap();
    }

    /// Closes a replica and opens it again; its listener goes on where it stopped.
    async fn reopen(&mut self, number: usize) {
        self.listen(number);
        let cursor = self.members[number].store.cursor();
        self.members[number].store.close().await.unwrap();
        // What was committed while it closed.
        self.listen(number);
        let Member { name, below, .. } = &self.members[number];
        let store = self.open(name, below).await;
        let member = &mut self.members[number];
        member.events = Box::pin(store.subscribe(&Key::root(), From::Cursor(cursor)));
        member.store = store;
    }

    /// Takes the events that are there.
    fn listen(&mut self, number: usize) {
        let Member {
            events,
            heard,
            name,
            ..
        } = &mut self.members[number];
        while let Some(Some(event)) = events.next().now_or_never() {
            let Event::Changed(change) = event.unwrap() else {
                panic!("seed {}: {name}'s stream began anew", self.seed);
            };
            if let Some(old) = change.old {
                let known = heard.get(&change.key).cloned();
                assert_eq!(old, known, "seed {}: {name}, {}", self.seed, change.key);
                assert_ne!(old, change.new, "seed {}: no change", self.seed);
            }
            match change.new {
                Some(value) => heard.insert(change.key, value),
                None => heard.remove(&change.key),
            };
        }
    }

    /// Once nothing goes wrong any more, all replicas agree, and so does what their listeners heard.
    async fn check(&mut self, what: &str) {
        let what = format!("seed {}, {}, {what}", self.seed, self.format);
        self.hub.set_faults(Faults::default());
        self.hub.heal();
        for Member { store, name, .. } in &self.members {
            let synced = store.wait_for_sync(Peers::All, SOON).await;
            synced.unwrap_or_else(|error| panic!("{what}: {name}: {error}"));
        }
        let mut first = None;
        for number in 0..self.members.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.listen(number);
            let Member {
                store, heard, name, ..
            } = &self.members[number];
            let entries = store.query_all(Query::new()).await.unwrap();
            let entries: BTreeMap<Key, Bytes> = entries
                .into_iter()
                .map(|entry| (entry.key, entry.value.unwrap()))
                .collect();
            assert_eq!(*heard, entries, "{what}: heard from {name}");
            let mut versions = Vec::new();
            for key in KEYS {
                let mut live = store.versions(&Key::new(key)).await.unwrap();
                live.sort_by_key(|version| version.cid);
                versions.push(live);
            }
            let found = (store.digests(), store.heads(), entries, versions);
            match &first {
                None => first = Some(found),
                Some(first) => assert_eq!(found, *first, "{what}: {name}"),
            }
        }
    }
}

async fn run(format: Format, seed: u64) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut network = Network {
        format,
        seed,
        hub: Hub::with_faults(seed, faulty(random)),
        members: Vec::new(),
    };
    let members = random.random_range(2..=MEMBERS.len());
    for name in &MEMBERS[..members] {
        network.add(name).await;
    }
    for _ in 0..random.random_range(10..60) {
        network.step(random).await;
    }

    network.check("healed").await;

    // Who was never there gets it all, and one more write reaches everybody.
    network.hub.set_faults(faulty(random));
    network.add("late").await;
    network.write(0, random).await;
    network.check("with a late one").await;
    for member in &network.members {
        member.store.close().await.unwrap();
    }
}

async fn run_all(format: Format) {
    let first = from_environment("CRDT_DS_SEED", 1);
    for seed in first..first + from_environment("CRDT_DS_HISTORIES", HISTORIES) {
        run(format, seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dag_cbor_replicas_on_a_faulty_network_end_equal() {
    run_all(Format::DagCbor).await;
}

#[tokio::test(start_paused = true)]
async fn dag_pb_replicas_on_a_faulty_network_end_equal() {
    run_all(Format::DagPb).await;
}
