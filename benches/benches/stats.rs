//! Counters, each figure beside what it is measured against, in one run: `cargo bench --bench stats`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt_ds::CrdtDatastore;
use crdt_ds::stats::{Stat, StatsOptions, StatsStore};
use crdt_ds::sync::{Hub, Peers};
use crdt_ds_benches::{Backend, median};
use datastore_backends::MemoryDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};

/// How much is done; less where it is only to be seen that the bench runs.
#[derive(Clone, Copy)]
struct Size {
    updates: u64,
    durable: u64,
    nodes: [u64; 3],
    reads: u64,
    increments: u64,
}

const FULL: Size = Size {
    updates: 20_000,
    durable: 512,
    nodes: [1, 100, 10_000],
    reads: 200,
    increments: 1_000_000,
};

const QUICK: Size = Size {
    updates: 500,
    durable: 64,
    nodes: [1, 100, 1000],
    reads: 20,
    increments: 5000,
};

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--test" || argument == "--quick");
    let size = if quick { QUICK } else { FULL };
    // On a task, as in a program, not on the thread that waits for the runtime.
    tokio::spawn(async move {
        add_beside_put(size).await;
        many_tasks(size).await;
        get(size).await;
        storage(size).await;
    })
    .await
    .unwrap();
}

async fn open(below: Arc<dyn Datastore>, durable: bool) -> (CrdtDatastore, StatsStore) {
    let store = CrdtDatastore::builder(below)
        .durable(durable)
        .open()
        .await
        .unwrap();
    let stats = StatsStore::open(store.clone(), "net", "node", StatsOptions::default()).await;
    (store, stats.unwrap())
}

async fn time(work: impl Future<Output = ()>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

/// Both in turns, so that what slows one slows the other; the medians.
async fn add_beside_put(size: Size) {
    for backend in Backend::ALL {
        let folder = backend.open().await;
        let (store, stats) = open(folder.store.clone(), false).await;
        let key = Key::new("/net/put/likes/node:0123456789abcdef");
        let (mut adds, mut puts) = (Vec::new(), Vec::new());
        let rounds = 10;
        let each = size.updates / rounds;
        for _ in 0..rounds {
            let put = time(async {
                for n in 0..each {
                    let value = [n.to_be_bytes(), [0; 8]].concat();
                    store.put(&key, Bytes::from(value)).await.unwrap();
                }
            });
            puts.push(put.await);
            let add = time(async {
                for _ in 0..each {
                    stats.add("add", &Stat::LIKES, 1).await.unwrap();
                }
            });
            adds.push(add.await);
        }
        let pairs = puts.iter().zip(&adds);
        let ratios: Vec<f64> = pairs.map(|(put, add)| put.div_duration_f64(*add)).collect();
        let seconds = |samples: Vec<Duration>| samples.iter().map(Duration::as_secs_f64).collect();
        println!(
            "add/{}: {:.0}/s, overwriting put {:.0}/s, add/put {:.2}",
            backend.name(),
            each as f64 / median(seconds(adds)),
            each as f64 / median(seconds(puts)),
            median(ratios)
        );
    }
}

async fn many_tasks(size: Size) {
    const TASKS: u64 = 64;
    let (file, journal) = (raw_fsync(), raw_commit_and_sync().await);
    println!(
        "raw fsync of a file: {:.3} ms; a commit and a sync of fjall alone: {:.3} ms",
        file.as_secs_f64() * 1e3,
        journal.as_secs_f64() * 1e3
    );
    let mut adds_a_block = 0.0;
    let (mut one, mut many, mut buffered) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that what slows one slows the others.
    for _ in 0..3 {
        for (rates, durable, tasks, each) in [
            (&mut one, true, 1, size.durable / 8),
            (&mut many, true, TASKS, size.durable),
            // As long as the others, for it is faster.
            (&mut buffered, false, TASKS, size.durable * 4),
        ] {
            let folder = Backend::Fjall.open().await;
            let (store, stats) = open(folder.store.clone(), durable).await;
            let took = time(async {
                let work = (0..tasks).map(|_| {
                    let stats = stats.clone();
                    tokio::spawn(async move {
                        for _ in 0..each {
                            stats.add("t", &Stat::LIKES, 1).await.unwrap();
                        }
                    })
                });
                for task in work.collect::<Vec<_>>() {
                    task.await.unwrap();
                }
            });
            rates.push(rate(each * tasks, took.await));
            if durable {
                adds_a_block = (each * tasks) as f64 / store.info().blocks as f64;
            }
        }
    }
    let [one, many, buffered] = [one, many, buffered].map(median);
    println!(
        "add/fjall fsync: 1 task {one:.0}/s, {TASKS} tasks {many:.0}/s ({adds_a_block:.1} adds a block), \
         without fsync {buffered:.0}/s; 64/1 {:.1}, 64/without {:.2}",
        many / one,
        many / buffered,
    );
    // A task asks for no other add while it waits for an fsync; with two groups in turns, each would
    // need one of its own.
    let most = |sync: Duration| 1.0 / (1.0 / buffered + sync.as_secs_f64() / TASKS as f64);
    println!(
        "of those without fsync, {TASKS} tasks that wait for one can reach {:.2} with an fsync of that \
         file, {:.2} with fjall's",
        most(file) / buffered,
        most(journal) / buffered
    );
}

/// A write and an fsync of a file of our own, as a journal does it.
fn raw_fsync() -> Duration {
    let mut file = tempfile::tempfile().unwrap();
    let syncs = (0..50).map(|_| {
        let begun = Instant::now();
        file.write_all(&[7; 512]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64()
    });
    Duration::from_secs_f64(median(syncs.collect()))
}

/// What the backend takes to make one row durable.
async fn raw_commit_and_sync() -> Duration {
    let folder = Backend::Fjall.open().await;
    let key = Key::new("/row");
    let mut syncs = Vec::new();
    for n in 0..200_u64 {
        let begun = Instant::now();
        let value = Bytes::copy_from_slice(&n.to_be_bytes());
        folder.store.put(&key, value).await.unwrap();
        folder.store.sync(&key).await.unwrap();
        syncs.push(begun.elapsed().as_secs_f64());
    }
    Duration::from_secs_f64(median(syncs))
}

async fn get(size: Size) {
    for backend in Backend::ALL {
        let folder = backend.open().await;
        let (store, cached) = open(folder.store.clone(), false).await;
        let mut options = StatsOptions::default();
        options.cache_slots = 0;
        let cold = StatsStore::open(store.clone(), "net", "cold", options)
            .await
            .unwrap();
        for nodes in size.nodes {
            let subject = format!("of-{nodes}");
            let mut batch = Batch::new();
            for node in 0..nodes {
                let key = format!("/net/{subject}/likes/node-{node:05}:0123456789abcdef");
                batch.put(Key::new(key), vec![1; 16]);
                if batch.len() == 1000 {
                    store.write(std::mem::take(&mut batch)).await.unwrap();
                }
            }
            store.write(batch).await.unwrap();
            let mut each = Vec::new();
            for stats in [&cold, &cached] {
                stats.get(&subject, &Stat::LIKES).await.unwrap();
                let reads = (size.reads / nodes).max(5) * 10;
                let took = time(async {
                    for _ in 0..reads {
                        stats.get(&subject, &Stat::LIKES).await.unwrap();
                    }
                });
                each.push(took.await.as_secs_f64() * 1e6 / reads as f64);
            }
            if let [cold, cached] = each[..] {
                println!(
                    "get/{} {nodes} nodes: cold {cold:.2} µs, cached {cached:.2} µs, {:.0} times faster",
                    backend.name(),
                    cold / cached
                );
            }
        }
    }
}

/// Bytes of keys and values, but for the history: blocks, their index, the merge log.
async fn live_bytes(below: &MemoryDatastore) -> usize {
    let rows = below.query_all(Query::new()).await.unwrap();
    let history = ["/crdt/b", "/crdt/i", "/crdt/l"];
    let live = rows
        .iter()
        .filter(|row| !history.iter().any(|h| row.key.as_str().starts_with(h)));
    live.map(|row| row.key.len() + row.value.as_ref().map_or(0, Bytes::len))
        .sum()
}

async fn storage(size: Size) {
    const COUNTERS: u64 = 100;
    let hub = Hub::new(1);
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        let below = Arc::new(MemoryDatastore::new());
        let store = CrdtDatastore::builder(below.clone()).transport(hub.join(name));
        let store = store.open().await.unwrap();
        let options = StatsOptions::default();
        let stats = StatsStore::open(store.clone(), "net", name, options)
            .await
            .unwrap();
        nodes.push((below, store, stats));
    }
    let mut sizes = Vec::new();
    let mut done = 0;
    for increments in [1000, size.increments] {
        let tasks = (0..COUNTERS).flat_map(|counter| {
            nodes.iter().enumerate().map(move |(n, (_, _, stats))| {
                let stats = stats.clone();
                // Counter and node share the increments evenly, but for the remainder.
                let place = counter * 3 + n as u64;
                let share = |total: u64| total / 300 + u64::from(place < total % 300);
                let times = share(increments) - share(done);
                tokio::spawn(async move {
                    for _ in 0..times {
                        let subject = format!("tweet-{counter}");
                        stats.add(&subject, &Stat::LIKES, 1).await.unwrap();
                    }
                })
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        done = increments;
        for (_, store, _) in &nodes {
            store
                .wait_for_sync(Peers::All, Duration::from_secs(600))
                .await
                .unwrap();
        }
        let mut total = 0;
        for (_, _, stats) in nodes.iter().take(1) {
            for counter in 0..COUNTERS {
                total += stats
                    .get(&format!("tweet-{counter}"), &Stat::LIKES)
                    .await
                    .unwrap();
            }
        }
        assert_eq!(total, increments, "nothing is lost");
        let mut bytes = 0;
        for (below, _, _) in &nodes {
            bytes = bytes.max(live_bytes(below).await);
        }
        let slots = COUNTERS * 3;
        println!(
            "storage after {increments} increments of {COUNTERS} counters on 3 nodes: {bytes} bytes, \
             {} a counter and node",
            bytes as u64 / slots
        );
        sizes.push(bytes as f64);
    }
    if let [few, many] = sizes[..] {
        println!("storage many/few: {:.2}", many / few);
    }
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
