//! The replica beside the raw backend: `put`, `get`, `delete`, `scan`, `merge`, on memory and fjall.
//! After each pair a line gives the ratio of their rates: `cargo bench --bench store`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench"
)]

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt_ds::block::Block;
use crdt_ds::{CrdtDatastore, Cursor};
use crdt_ds_benches::{Backend, Pair, Side, five_records};
use criterion::{Criterion, criterion_group, criterion_main};
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};
use futures::StreamExt;
use tokio::runtime::Runtime;

/// Values as small as most are.
const SMALL: usize = 100;
/// Values that are stored once, in their block.
const LARGE: usize = 64 * 1024;
/// Keys in the stores that are read.
const KEYS: u64 = 100_000;
/// Entries of a scan.
const SCANNED: u64 = 1000;

static NEXT: AtomicU64 = AtomicU64::new(0);

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn key(number: u64) -> Key {
    Key::new(format!(
        "/users/{:08}/name",
        number.wrapping_mul(2_654_435_761) % 100_000_000
    ))
}

fn value(length: usize) -> Bytes {
    // Not all alike, or compression would measure itself.
    let mut state = next() | 1;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    bytes.take(length).collect::<Vec<u8>>().into()
}

/// Measures one side of a pair. `prepare` is not timed; `work` runs on a task of the runtime.
fn side<P, W>(
    criterion: &mut Criterion,
    runtime: &Runtime,
    pair: &Pair,
    name: &str,
    which: Side,
    work: impl Fn(u64) -> W,
) where
    W: Future<Output = P> + Send + 'static,
    P: Into<Duration> + Send + 'static,
{
    let id = format!("{name}/{}", if which == Side::Raw { "raw" } else { "ours" });
    criterion.bench_function(&id, |bencher| {
        bencher.iter_custom(|iterations| {
            let task = runtime.spawn(work(iterations));
            let took = runtime
                .block_on(task)
                .expect("the work does not panic")
                .into();
            pair.note(which, iterations, took);
            took
        });
    });
}

async fn replica(store: std::sync::Arc<dyn Datastore>) -> CrdtDatastore {
    CrdtDatastore::builder(store).open().await.unwrap()
}

fn put(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        for (size, length) in [("", SMALL), ("-64KiB", LARGE)] {
            let name = format!("put{size}/{}", backend.name());
            let pair = Pair::new();
            let folder = runtime.block_on(backend.open());
            let store = folder.store.clone();
            side(criterion, &runtime, &pair, &name, Side::Raw, |iterations| {
                let store = store.clone();
                async move {
                    let value = value(length);
                    let begun = Instant::now();
                    for _ in 0..iterations {
                        let number = next();
                        store
                            .commit(five_records(number, &key(number), &value))
                            .await
                            .unwrap();
                    }
                    begun.elapsed()
                }
            });
            let folder = runtime.block_on(backend.open());
            let ours = runtime.block_on(replica(folder.store.clone()));
            side(
                criterion,
                &runtime,
                &pair,
                &name,
                Side::Ours,
                |iterations| {
                    let ours = ours.clone();
                    async move {
                        let value = value(length);
                        let begun = Instant::now();
                        for _ in 0..iterations {
                            ours.put(&key(next()), value.clone()).await.unwrap();
                        }
                        begun.elapsed()
                    }
                },
            );
            pair.report(&name);
            runtime.block_on(ours.close()).unwrap();
        }
    }
}

/// A raw store and a replica with the same keys.
async fn filled(
    backend: Backend,
) -> (
    crdt_ds_benches::Folder,
    crdt_ds_benches::Folder,
    CrdtDatastore,
) {
    let (raw, below) = (backend.open().await, backend.open().await);
    let ours = replica(below.store.clone()).await;
    for first in (0..KEYS).step_by(1000) {
        let mut batch = Batch::new();
        for number in first..first + 1000 {
            batch.put(key(number), value(SMALL));
        }
        raw.store.commit(batch.clone()).await.unwrap();
        ours.commit(batch).await.unwrap();
    }
    (raw, below, ours)
}

fn read(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        let (raw, _below, ours) = runtime.block_on(filled(backend));
        let stores: [(Side, std::sync::Arc<dyn Datastore>); 2] = [
            (Side::Raw, raw.store.clone()),
            (Side::Ours, std::sync::Arc::new(ours.clone())),
        ];

        let name = format!("get/{}", backend.name());
        let pair = Pair::new();
        for (which, store) in &stores {
            side(criterion, &runtime, &pair, &name, *which, |iterations| {
                let store = store.clone();
                async move {
                    let begun = Instant::now();
                    for _ in 0..iterations {
                        let value = store.get(&key(next() % KEYS)).await.unwrap();
                        assert!(value.is_some(), "every key is there");
                    }
                    begun.elapsed()
                }
            });
        }
        pair.report(&name);

        let name = format!("scan/{}", backend.name());
        let pair = Pair::new();
        for (which, store) in &stores {
            side(criterion, &runtime, &pair, &name, *which, |iterations| {
                let store = store.clone();
                async move {
                    let begun = Instant::now();
                    for _ in 0..iterations {
                        // Keys are spread evenly over eight digits; the scan begins in the first half.
                        let first = next().wrapping_mul(2_654_435_761) % 50_000_000;
                        let query = Query::new()
                            .start_after(Key::new(format!("/users/{first:08}")))
                            .limit(SCANNED as usize);
                        let entries = store.query(query).await.unwrap().count().await;
                        assert_eq!(entries as u64, SCANNED, "half of the keys are above");
                    }
                    begun.elapsed()
                }
            });
        }
        pair.report(&name);
        runtime.block_on(ours.close()).unwrap();
    }
}

fn delete(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        let name = format!("delete/{}", backend.name());
        let pair = Pair::new();
        let folder = runtime.block_on(backend.open());
        let store = folder.store.clone();
        side(criterion, &runtime, &pair, &name, Side::Raw, |iterations| {
            let store = store.clone();
            async move {
                let mut keys = Vec::new();
                for _ in 0..iterations {
                    let key = key(next());
                    store.put(&key, value(SMALL)).await.unwrap();
                    keys.push(key);
                }
                let begun = Instant::now();
                for key in &keys {
                    // A delete is a block too: what it writes, but for the version's row.
                    let mut batch: Batch = five_records(next(), key, &[])
                        .into_iter()
                        .filter(|op| !op.key().as_str().starts_with("/raw/k"))
                        .collect();
                    batch.delete(key.clone());
                    store.commit(batch).await.unwrap();
                }
                begun.elapsed()
            }
        });
        let folder = runtime.block_on(backend.open());
        let ours = runtime.block_on(replica(folder.store.clone()));
        side(
            criterion,
            &runtime,
            &pair,
            &name,
            Side::Ours,
            |iterations| {
                let ours = ours.clone();
                async move {
                    let mut keys = Vec::new();
                    for _ in 0..iterations {
                        let key = key(next());
                        ours.put(&key, value(SMALL)).await.unwrap();
                        keys.push(key);
                    }
                    let begun = Instant::now();
                    for key in &keys {
                        ours.delete(key).await.unwrap();
                    }
                    begun.elapsed()
                }
            },
        );
        pair.report(&name);
        runtime.block_on(ours.close()).unwrap();
    }
}

/// Blocks of a writer, one put each, as another replica merges them: in groups of 64.
fn merge(criterion: &mut Criterion) {
    const GROUP: u64 = 64;
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        let name = format!("merge/{}", backend.name());
        let pair = Pair::new();
        let folder = runtime.block_on(backend.open());
        let store = folder.store.clone();
        side(criterion, &runtime, &pair, &name, Side::Raw, |iterations| {
            let store = store.clone();
            async move {
                let value = value(SMALL);
                let begun = Instant::now();
                for first in (0..iterations).step_by(GROUP as usize) {
                    let group = first..iterations.min(first + GROUP);
                    let batch = group
                        .flat_map(|_| {
                            let number = next();
                            five_records(number, &key(number), &value)
                        })
                        .collect();
                    store.commit(batch).await.unwrap();
                }
                begun.elapsed()
            }
        });
        side(
            criterion,
            &runtime,
            &pair,
            &name,
            Side::Ours,
            |iterations| async move {
                let blocks = history(iterations).await;
                let folder = backend.open().await;
                let ours = replica(folder.store.clone()).await;
                let begun = Instant::now();
                for group in blocks.chunks(GROUP as usize) {
                    ours.import(group.to_vec()).await.unwrap();
                }
                let took = begun.elapsed();
                assert_eq!(ours.info().blocks, iterations, "every block merged");
                ours.close().await.unwrap();
                took
            },
        );
        pair.report(&name);
    }
}

/// The blocks of so many puts.
async fn history(puts: u64) -> Vec<Block> {
    let writer = replica(Backend::Memory.open().await.store).await;
    for _ in 0..puts {
        writer.put(&key(next()), value(SMALL)).await.unwrap();
    }
    let blocks = writer
        .traverse(Cursor::default())
        .map(|block| block.unwrap().block);
    let blocks = blocks.collect().await;
    writer.close().await.unwrap();
    blocks
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = store;
    config = quick();
    targets = put, read, delete, merge
}
criterion_main!(store);
