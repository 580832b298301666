//! What is in the directory of a store:
//!
//! | entry | what |
//! |---|---|
//! | `fjall-datastore` | says that the directory is ours; locked while the store is open |
//! | `data/` | fjall's own files; there once they are complete |
//! | `creating/` | the same, while a store is created |
//! | `mark-…` | marks, see [`Instance`](datastore_core::Instance) |

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use datastore_core::{Error, Result};

use super::failure;

const MARKER: &str = "fjall-datastore";
const LAYOUT: &[u8] = b"fjall datastore, layout 1\n";
const DATA: &str = "data";
const CREATING: &str = "creating";

/// The directory of a store, ours alone until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    marker: File,
}

impl Directory {
    /// Takes the directory at `path`. If it is not there, or empty, makes a store: `create` makes
    /// fjall's files, durably, in a directory of that name.
    pub(super) fn open(path: &Path, create: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let failed = |error| failure::io_error("opening", path, error);
        create_directory(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => not_ours(path),
            _ => failed(error),
        })?;
        // INVARIANT: nothing is changed before the directory is known to be empty or ours. It is ours
        // if it has the whole marker, which is written last, or less and nothing that no store has.
        let entries = entries(path).map_err(failed)?;
        if !entries.is_empty() && !entries.iter().any(|name| name == MARKER) {
            return Err(not_ours(path));
        }
        let mut directory = Self::lock(path)?;
        let content = directory.content().map_err(failed)?;
        if content == LAYOUT {
            return Ok(directory);
        }
        let is_part = |name: &String| [MARKER, DATA, CREATING].contains(&name.as_str());
        if !LAYOUT.starts_with(&content) || !entries.iter().all(is_part) {
            return Err(not_ours(path));
        }
        if !directory.data().exists() {
            let creating = path.join(CREATING);
            remove(&creating).map_err(failed)?;
            create(&creating)?;
            fs::rename(&creating, directory.data()).map_err(failed)?;
            sync(path).map_err(failed)?;
        }
        directory.seal().map_err(failed)?;
        Ok(directory)
    }

    /// Where fjall's files are.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
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

    fn content(&mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        // One byte more than the layout's tells a longer file.
        let limit = LAYOUT.len() as u64 + 1;
        (&mut self.marker).take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Declares the store made, durably.
    fn seal(&mut self) -> io::Result<()> {
        self.marker.rewind()?;
        self.marker.write_all(LAYOUT)?;
        self.marker.sync_all()?;
        sync(&self.path)
    }
}

/// Makes what was created and removed in the directory at `path` durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(parent),
        _ => sync(Path::new(".")),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn entries(path: &Path) -> io::Result<Vec<String>> {
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
