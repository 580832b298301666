//! The directory of a `FjallDatastore`: what it takes for its own, damage, copies.

#![cfg(feature = "fjall")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use datastore_backends::FjallDatastore;
use datastore_core::{Batch, Datastore, DatastoreExt, Error, Instance, Key, Query};

async fn open(path: impl AsRef<Path>) -> Result<FjallDatastore, Error> {
    FjallDatastore::builder(path.as_ref())
        .memtable_bytes(64 * 1024)
        .open()
        .await
}

/// All files at and below `path`, and what is in them.
fn files(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
            files.insert(path, None);
        } else {
            files.insert(path.clone(), Some(fs::read(&path).unwrap()));
        }
    }
    files
}

#[tokio::test]
async fn a_directory_with_other_things_in_it_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let refused = async |path: &Path| {
        let before = files(directory.path());
        let error = open(path).await.unwrap_err();
        assert!(
            matches!(error, Error::NotOurs { path: named, .. } if named == path),
            "{path:?}"
        );
        assert_eq!(files(directory.path()), before);
    };

    fs::write(path.join("notes.txt"), "mine").unwrap();
    refused(path).await;
    refused(&path.join("notes.txt")).await;

    let foreign = path.join("foreign");
    drop(fjall::Database::builder(&foreign).open().unwrap());
    refused(&foreign).await;

    // Another layout's marker, and a marker that was never finished beside files that are not ours.
    let other = path.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("fjall-datastore"), "fjall datastore, layout 9\n").unwrap();
    refused(&other).await;
    fs::write(other.join("fjall-datastore"), "").unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    refused(&other).await;
}

#[tokio::test]
async fn directories_on_the_way_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path().join("a/b")).await.unwrap();
    store.put(&Key::new("/k"), "v".into()).await.unwrap();
}

#[tokio::test]
async fn a_second_handle_that_is_no_clone_is_locked_out_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).await.unwrap();
    let clone = first.clone();
    drop(first);
    let error = open(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::Locked { path } if path == directory.path()));
    drop(clone);
    open(directory.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_many_that_create_a_store_at_once_one_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = directory.path().join(round.to_string());
        let opens = (0..8).map(|_| tokio::spawn(open(path.clone())));
        let opened = futures::future::join_all(opens).await;
        let (won, lost): (Vec<_>, Vec<_>) = opened
            .into_iter()
            .map(Result::unwrap)
            .partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        for error in lost.into_iter().map(Result::unwrap_err) {
            assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_store_whose_creation_was_cut_short_is_created_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for marker in ["", "fjall data"] {
        let _ = fs::remove_dir_all(path.join("data"));
        // fjall refuses to create a database where a journal lies about.
        fs::create_dir_all(path.join("creating/keyspaces")).unwrap();
        fs::write(path.join("creating/0.jnl"), "").unwrap();
        fs::write(path.join("fjall-datastore"), marker).unwrap();
        let store = open(path).await.unwrap();
        store.put(&Key::new("/k"), "v".into()).await.unwrap();
        store.close().await.unwrap();
        // Cut short at its very end.
        fs::write(path.join("fjall-datastore"), marker).unwrap();
        for _ in 0..2 {
            let store = open(path).await.unwrap();
            assert!(store.has(&Key::new("/k")).await.unwrap());
            store.close().await.unwrap();
        }
    }
}

const KEYS: usize = 2000;

fn value(index: usize) -> String {
    format!("{index}").repeat(20)
}

/// A store with a journal and several sorted files.
async fn fill(path: &Path) {
    let store = open(path).await.unwrap();
    for start in (0..KEYS).step_by(100) {
        let mut batch = Batch::new();
        for index in start..start + 100 {
            batch.put(Key::new(format!("/{index:05}")), value(index));
        }
        store.commit(batch).await.unwrap();
        if start == KEYS / 2 {
            store
                .extras()
                .garbage_collection
                .unwrap()
                .collect_garbage()
                .await
                .unwrap();
        }
    }
    store.close().await.unwrap();
}

/// Opens and reads a damaged store. What is returned must be right; entries may be missing only at
/// the end of the journal.
async fn examine(path: &Path) -> Result<usize, Error> {
    let store = open(path).await?;
    store.extras().check.unwrap().check().await?;
    let entries = store.query_all(Query::new()).await?;
    for entry in &entries {
        let index = entry.key.base_namespace().parse().unwrap();
        assert_eq!(entry.value.as_deref(), Some(value(index).as_bytes()));
    }
    store.close().await?;
    Ok(entries.len())
}

#[tokio::test]
async fn damage_is_reported_and_never_returned_as_data() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    fill(&original).await;
    let mut reported = 0;
    for (file, content) in files(&original) {
        let Some(content) = content.filter(|content| !content.is_empty()) else {
            continue;
        };
        let relative = file.strip_prefix(&original).unwrap();
        // Most of a journal is the room that it was given in advance.
        let used = content.len() - content.iter().rev().take_while(|byte| **byte == 0).count();
        let flip = |at: usize| {
            let mut content = content.clone();
            content[at] ^= 0x55;
            Some(content)
        };
        let harms = [
            flip(0),
            flip(used / 3),
            flip(used / 2),
            Some(content[..used / 2].to_vec()),
            None,
        ];
        for (number, harm) in harms.into_iter().enumerate() {
            let copy = directory.path().join("copy");
            copy_store(&original, &copy);
            match harm {
                Some(content) => fs::write(copy.join(relative), content).unwrap(),
                None => fs::remove_file(copy.join(relative)).unwrap(),
            }
            let tail = relative.extension() == Some("jnl".as_ref()) && number < 4;
            match examine(&copy).await {
                Ok(found) => assert!(found == KEYS || tail, "{relative:?} {number}: {found}"),
                Err(Error::Damaged { what, .. }) => {
                    assert!(what.contains(copy.to_str().unwrap()), "{what}");
                    reported += 1;
                }
                Err(Error::NotOurs { .. }) if relative == Path::new("fjall-datastore") => {}
                Err(error) => panic!("{relative:?} {number}: {error:?}"),
            }
            fs::remove_dir_all(copy).unwrap();
        }
    }
    assert!(reported > 10, "{reported}");
}

/// As a backup does it.
fn copy_store(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_mark_is_known_where_it_was_set_and_not_in_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let [original, copy] = ["original", "copy"].map(|name| directory.path().join(name));
    let store = open(&original).await.unwrap();
    let Some(mark) = store.set_mark().await.unwrap() else {
        return println!("no birth times here");
    };
    assert!(store.has_mark(&mark).await.unwrap());
    let another = store.set_mark().await.unwrap().unwrap();
    assert_ne!(mark, another);
    store.close().await.unwrap();
    copy_store(&original, &copy);

    let store = open(&original).await.unwrap();
    assert!(store.has_mark(&mark).await.unwrap());
    let copied = open(&copy).await.unwrap();
    assert!(!copied.has_mark(&mark).await.unwrap(), "another file");
    assert_ne!(copied.handle_id(), store.handle_id());
    assert_eq!(store.clone().handle_id(), store.handle_id());

    // The copy is a backup: its mark's file comes back after the mark was cleared.
    store.clear_mark(&mark).await.unwrap();
    assert!(!store.has_mark(&mark).await.unwrap());
    store.clear_mark(&mark).await.unwrap();
    for store in [store, copied] {
        store.close().await.unwrap();
    }
    copy_store(&copy.join("."), &original);
    let store = open(&original).await.unwrap();
    assert!(!store.has_mark(&mark).await.unwrap(), "a file born later");
    assert!(
        store.has_mark(&another).await.unwrap(),
        "a file that stayed"
    );
}

#[tokio::test]
async fn what_is_no_identity_of_a_mark_names_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path().join("store")).await.unwrap();
    fs::write(directory.path().join("victim"), "").unwrap();
    for identity in [
        &b""[..],
        b"../victim 1 2 3",
        b"data 1 2 3",
        b"fjall-datastore",
        b"mark-..\xff",
    ] {
        assert!(!store.has_mark(identity).await.unwrap());
        store.clear_mark(identity).await.unwrap();
    }
    assert!(directory.path().join("victim").exists());
    store.close().await.unwrap();
    open(directory.path().join("store")).await.unwrap();
}
