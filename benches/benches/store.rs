//! The replica beside the raw backend: `put`, `get`, `delete`, `scan`, `merge`, on memory and fjall.
//! After each pair a line gives the ratio of their rates: `cargo bench --bench store`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crdt_ds::block::Block;
use crdt_ds::{CrdtDatastore, Cursor};
use crdt_ds_benches::{Backend, Folder, Pair, five_records};
use criterion::{Criterion, criterion_group, criterion_main};
use datastore_core::{Batch, Datastore, DatastoreExt, Key, Query};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
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

/// Does the work so many times, on a task of the runtime; how long that took.
type Work = dyn Fn(u64) -> BoxFuture<'static, Duration>;

/// Work on a store.
fn on<S, F>(store: S, run: impl Fn(S, u64) -> F) -> impl Fn(u64) -> BoxFuture<'static, Duration>
where
    S: Clone,
    F: Future<Output = Duration> + Send + 'static,
{
    move |iterations| run(store.clone(), iterations).boxed()
}

/// Measures the backend alone and the replica, in turns, so that what slows the machine slows both.
fn pair(criterion: &mut Criterion, runtime: &Runtime, name: &str, raw: &Work, ours: &Work) {
    let pair = Pair::new();
    let time = |work: &Work, iterations| {
        let task = runtime.spawn(work(iterations));
        runtime.block_on(task).expect("the work does not panic")
    };
    for side in ["raw", "ours"] {
        criterion.bench_function(&format!("{name}/{side}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let (raw, ours) = (time(raw, iterations), time(ours, iterations));
                pair.note(iterations, raw, ours);
                if side == "raw" { raw } else { ours }
            });
        });
    }
    pair.report(name);
}

async fn replica(store: Arc<dyn Datastore>) -> CrdtDatastore {
    CrdtDatastore::builder(store).open().await.unwrap()
}

fn put(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        for (size, length) in [("", SMALL), ("-64KiB", LARGE)] {
            let name = format!("put{size}/{}", backend.name());
            let (raw, below) =
                runtime.block_on(async { (backend.open().await, backend.open().await) });
            let ours = runtime.block_on(replica(below.store.clone()));
            let raw = on(raw.store.clone(), move |store, iterations| async move {
                let value = value(length);
                let begun = Instant::now();
                for _ in 0..iterations {
                    let number = next();
                    let batch = five_records(number, &key(number), &value);
                    store.commit(batch).await.unwrap();
                }
                begun.elapsed()
            });
            let put = on(ours.clone(), move |store, iterations| async move {
                let value = value(length);
                let begun = Instant::now();
                for _ in 0..iterations {
                    store.put(&key(next()), value.clone()).await.unwrap();
                }
                begun.elapsed()
            });
            pair(criterion, &runtime, &name, &raw, &put);
            runtime.block_on(ours.close()).unwrap();
        }
    }
}

/// A raw store and a replica with the same keys.
async fn filled(backend: Backend) -> (Folder, Folder, CrdtDatastore) {
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
        let get = |store: Arc<dyn Datastore>| {
            on(store, |store, iterations| async move {
                let begun = Instant::now();
                for _ in 0..iterations {
                    let value = store.get(&key(next() % KEYS)).await.unwrap();
                    assert!(value.is_some(), "every key is there");
                }
                begun.elapsed()
            })
        };
        let name = format!("get/{}", backend.name());
        let (one, other) = (get(raw.store.clone()), get(Arc::new(ours.clone())));
        pair(criterion, &runtime, &name, &one, &other);

        let scan = |store: Arc<dyn Datastore>| {
            on(store, |store, iterations| async move {
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
            })
        };
        let name = format!("scan/{}", backend.name());
        let (one, other) = (scan(raw.store.clone()), scan(Arc::new(ours.clone())));
        pair(criterion, &runtime, &name, &one, &other);
        runtime.block_on(ours.close()).unwrap();
    }
}

fn delete(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        let name = format!("delete/{}", backend.name());
        let (raw, below) = runtime.block_on(async { (backend.open().await, backend.open().await) });
        let ours = runtime.block_on(replica(below.store.clone()));
        let raw = on(raw.store.clone(), move |store, iterations| async move {
            let keys = put_keys(&*store, iterations).await;
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
        });
        let delete = on(ours.clone(), |store, iterations| async move {
            let keys = put_keys(&store, iterations).await;
            let begun = Instant::now();
            for key in &keys {
                store.delete(key).await.unwrap();
            }
            begun.elapsed()
        });
        pair(criterion, &runtime, &name, &raw, &delete);
        runtime.block_on(ours.close()).unwrap();
    }
}

async fn put_keys(store: &dyn Datastore, count: u64) -> Vec<Key> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let key = key(next());
        store.put(&key, value(SMALL)).await.unwrap();
        keys.push(key);
    }
    keys
}

/// Blocks of a writer, one put each, as another replica merges them: in groups of 64.
fn merge(criterion: &mut Criterion) {
    const GROUP: u64 = 64;
    let runtime = Runtime::new().unwrap();
    for backend in Backend::ALL {
        let raw = move |iterations: u64| {
            async move {
                let folder = backend.open().await;
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
                    folder.store.commit(batch).await.unwrap();
                }
                begun.elapsed()
            }
            .boxed()
        };
        let merge = move |iterations| {
            async move {
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
            }
            .boxed()
        };
        let name = format!("merge/{}", backend.name());
        pair(criterion, &runtime, &name, &raw, &merge);
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
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = store;
    config = quick();
    targets = put, read, delete, merge
}
criterion_main!(store);
