use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::Path;

use async_trait::async_trait;
use datastore_core::{Check, DiskUsage, GarbageCollection, Result};

use super::{FjallDatastore, blocking, failure, scan};

#[async_trait]
impl DiskUsage for FjallDatastore {
    async fn disk_usage(&self) -> Result<u64> {
        let store = self.store.clone();
        blocking::run("measuring disk usage", move || {
            store.with(|_| {
                let used = bytes_below(store.path());
                used.map_err(|error| failure::io_error("measuring", store.path(), error))
            })
        })
        .await
    }
}

#[async_trait]
impl GarbageCollection for FjallDatastore {
    async fn collect_garbage(&self) -> Result<()> {
        let store = self.store.clone();
        blocking::run("garbage collection", move || {
            store.between_writes(|engine| engine.start_flush())?;
            store.with(|engine| engine.wait_for_flush())?;
            store.between_writes(|engine| engine.let_go())?;
            store.with(|engine| engine.compact())?;
            store.between_writes(|engine| engine.let_go())
        })
        .await
    }
}

#[async_trait]
impl Check for FjallDatastore {
    async fn check(&self) -> Result<()> {
        let store = self.store.clone();
        blocking::run("a check", move || scan::read_all(&store)).await
    }
}

/// What the files in the directory at `path`, and below, take on the device.
fn bytes_below(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        bytes += match size(&entry?) {
            // Compaction removes files all the time.
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(bytes)
}

fn size(entry: &DirEntry) -> io::Result<u64> {
    let metadata = entry.metadata()?;
    if metadata.is_dir() {
        return bytes_below(&entry.path());
    }
    // A journal is a sparse file of 64 MiB at first: count the blocks it has.
    #[cfg(unix)]
    return Ok(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512);
    #[cfg(not(unix))]
    return Ok(metadata.len());
}
