//! `FjallDatastore` and other processes: locks, kills, limits of the system. Each test runs this test
//! binary again as a child, in one of its roles.

#![cfg(all(feature = "fjall", unix))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use datastore_backends::FjallDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Key, Query};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

const ROLE: &str = "FJALL_TEST_ROLE";
const DIRECTORY: &str = "FJALL_TEST_DIRECTORY";

/// A store whose memtable is small, so that flushes and compactions are under way all the time.
async fn open(path: impl AsRef<Path>) -> Result<FjallDatastore, Error> {
    FjallDatastore::builder(path.as_ref())
        .memtable_bytes(256 * 1024)
        .open()
        .await
}

/// This binary as a child that runs nothing but [`child`].
fn command(program: &[&str], role: &str, directory: &Path) -> Command {
    let binary = std::env::current_exe().unwrap();
    let words = program
        .iter()
        .map(|word| word.as_ref())
        .chain([binary.as_os_str()]);
    let words: Vec<_> = words.collect();
    let mut command = Command::new(words.first().unwrap());
    command.args(words.iter().skip(1));
    command.args([
        "--ignored",
        "--exact",
        "child",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(ROLE, role).env(DIRECTORY, directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The lines that a child says, without those of the test harness.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (_, said) = line.split_once("said ")?;
        Some(said.to_owned())
    })
}

fn say(line: impl std::fmt::Display) {
    println!("said {line}");
    std::io::stdout().flush().unwrap();
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    let directory = std::env::var(DIRECTORY).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(directory).await.unwrap();
        match std::env::var(ROLE).unwrap().as_str() {
            "hold" => {
                say("open");
                std::io::stdin().read_line(&mut String::new()).unwrap();
            }
            "write" => write_for_ever(store).await,
            "outgrow" => outgrow_a_file(store).await,
            role => panic!("no role {role}"),
        }
    });
}

#[tokio::test]
async fn a_directory_that_another_process_has_open_is_locked_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = command(&[], "hold", directory.path()).spawn().unwrap();
    assert_eq!(said(&mut child).next().as_deref(), Some("open"));
    let error = open(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::Locked { path } if path == directory.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    open(directory.path()).await.unwrap();
}

/// How many keys each commit of [`write_for_ever`] writes, besides the one that all of them write.
const KEYS: usize = 50;

fn batch(number: usize) -> Batch {
    let mut batch = Batch::new();
    for index in 0..KEYS {
        batch.put(
            Key::new(format!("/batch/{number:08}/{index}")),
            format!("{number} {index}"),
        );
    }
    batch.put(Key::new("/last"), number.to_string());
    batch
}

async fn last(store: &FjallDatastore) -> usize {
    let value = store.get(&Key::new("/last")).await.unwrap();
    value.map_or(0, |value| str::from_utf8(&value).unwrap().parse().unwrap())
}

async fn write_for_ever(store: FjallDatastore) {
    for number in last(&store).await + 1.. {
        store.commit(batch(number)).await.unwrap();
        say(number);
    }
}

#[tokio::test]
async fn a_kill_loses_no_commit_that_returned_and_leaves_none_in_part() {
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut returned = 0;
    for _ in 0..5 {
        let mut child = command(&[], "write", directory.path()).spawn().unwrap();
        let mut lines = said(&mut child);
        for _ in 0..random.random_range(1..400) {
            returned = lines.next().expect("the child writes on").parse().unwrap();
        }
        child.kill().unwrap();
        // What it still said before it was killed had returned as well.
        returned = lines.last().map_or(returned, |line| line.parse().unwrap());
        child.wait().unwrap();

        let store = open(directory.path()).await.unwrap();
        let last = last(&store).await;
        assert!(
            last == returned || last == returned + 1,
            "{last} after {returned}"
        );
        let query = Query::new().prefix(Key::new("/batch"));
        let mut found = store.query_all(query).await.unwrap();
        assert_eq!(found.len(), last * KEYS);
        found.sort_by(|a, b| a.key.cmp(&b.key));
        for number in 1..=last {
            for op in batch(number).ops().iter().take(KEYS) {
                let index = found.binary_search_by(|entry| entry.key.cmp(op.key()));
                index.unwrap_or_else(|_| panic!("{} is missing", op.key()));
            }
        }
        store.close().await.unwrap();
    }
}

/// Runs under a limit on the size of a file that the journal, 64 MiB at first, reaches soon.
async fn outgrow_a_file(store: FjallDatastore) {
    let mut value = vec![0; 1024 * 1024];
    let (small, large) = (Key::new("/small"), Key::new("/large"));
    store.put(&small, "before".into()).await.unwrap();
    for round in 0..3 {
        let mut batch = Batch::new();
        batch.put(small.clone(), "of the batch");
        for index in 0..100 {
            // Random, for the journal is compressed.
            rand::rng().fill_bytes(&mut value);
            batch.put(large.child_str(&index.to_string()), value.clone());
        }
        let error = store.commit(batch).await.unwrap_err();
        assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
        let wanted = if round == 0 {
            "before".to_owned()
        } else {
            (round - 1).to_string()
        };
        let found = store.get(&small).await.unwrap();
        assert_eq!(found.as_deref(), Some(wanted.as_bytes()));
        assert!(!store.has(&large.child_str("0")).await.unwrap());
        store.put(&small, round.to_string().into()).await.unwrap();
    }
    store.close().await.unwrap();
    say("done");
}

#[tokio::test]
async fn a_commit_without_room_has_no_effect_and_the_next_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    // In units of 512 bytes: 80 MiB. The signal would end the process.
    let limited = "trap '' XFSZ; ulimit -f 163840; exec \"$0\" \"$@\"";
    let mut child = command(&["sh", "-c", limited], "outgrow", directory.path())
        .spawn()
        .unwrap();
    assert_eq!(said(&mut child).last().as_deref(), Some("done"));
    assert!(child.wait().unwrap().success());

    let store = open(directory.path()).await.unwrap();
    let all = store.query_all(Query::new()).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all.first().unwrap().value.as_deref(), Some(&b"2"[..]));
}
