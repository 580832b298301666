//! What is in the directory of a store:
//!
//! | entry | what |
//! |---|---|
//! | `fjall-datastore` | says that the directory is ours; locked while the store is open |
//! | `data/` | fjall's own files |
//! | `mark-…` | marks, see [`Instance`](datastore_core::Instance) |

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use datastore_core::{Error, Result};

use super::failure;

const MARKER: &str = "fjall-datastore";
const DATA: &str = "data";
/// The content of the marker. Written last when a store is created, so a marker that holds less
/// stands in a directory whose store was never finished and never held anything.
const LAYOUT: &[u8] = b"fjall datastore, layout 1\n";

/// The directory of a store, ours alone until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    marker: File,
}

/// Where fjall's files lie in the directory at `path`.
pub(super) fn data(path: &Path) -> PathBuf {
    path.join(DATA)
}

impl Directory {
    /// Takes the directory at `path`; creates it if it is not there. `create` makes the data of a
    /// new store, `open` opens that of an old one.
    pub(super) fn open<T>(
        path: &Path,
        create: impl FnOnce() -> Result<T>,
        open: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        let failed = |error| failure::io_error("opening the store in", path, error);
        create_directory(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => not_ours(path),
            _ => failed(error),
        })?;
        // Nothing is written before it is known that the directory is empty or ours.
        let others = entries(path).map_err(failed)?;
        let known = |name: &String| name == MARKER || name == DATA;
        if !others.is_empty() && !others.iter().any(|name| name == MARKER) {
            return Err(not_ours(path));
        }
        let mut directory = Self::lock(path)?;
        let content = directory.content().map_err(failed)?;
        if content == LAYOUT {
            return Ok((directory, open()?));
        }
        if !LAYOUT.starts_with(&content) || !others.iter().all(known) {
            return Err(not_ours(path));
        }
        match fs::remove_dir_all(data(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let created = create()?;
        directory.seal().map_err(failed)?;
        Ok((directory, created))
    }

    fn lock(path: &Path) -> Result<Self> {
        let failed = |error| failure::io_error("locking", path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let marker = options.open(path.join(MARKER)).map_err(failed)?;
        match marker.try_lock() {
            Ok(()) => Ok(Self {
                path: path.into(),
                marker,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(Error::Locked { path: path.into() }),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn content(&mut self) -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // One byte more than the layout's tells a longer file.
        let limit = LAYOUT.len() as u64 + 1;
        (&mut self.marker).take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Declares the store finished, durably.
    fn seal(&mut self) -> std::io::Result<()> {
        self.marker.rewind()?;
        self.marker.write_all(LAYOUT)?;
        self.marker.sync_all()?;
        sync(&self.path)
    }
}

/// Makes what was created and removed in the directory at `path` durable.
pub(super) fn sync(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

fn create_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

fn entries(path: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn not_ours(path: &Path) -> Error {
    Error::NotOurs {
        path: path.into(),
        expected: "fjall datastore",
    }
}
