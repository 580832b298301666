use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datastore_core::{Instance, Result};

use super::{FjallDatastore, blocking, directory, failure};

const PREFIX: &str = "mark-";

/// A mark is an empty file with a random name, and its identity is that name with the file's device,
/// inode and time of birth: a copy of the directory has another inode, and a file that was removed
/// and is copied back has another time of birth.
#[async_trait]
impl Instance for FjallDatastore {
    fn handle_id(&self) -> u64 {
        // No two stores in one process are at one place at once.
        Arc::as_ptr(&self.store).addr() as u64
    }

    async fn set_mark(&self) -> Result<Option<Bytes>> {
        self.with_directory("setting a mark in", set).await
    }

    async fn has_mark(&self, identity: &[u8]) -> Result<bool> {
        let identity = identity.to_vec();
        self.with_directory("looking for a mark in", move |path| has(path, &identity))
            .await
    }

    async fn clear_mark(&self, identity: &[u8]) -> Result<()> {
        let identity = identity.to_vec();
        self.with_directory("clearing a mark in", move |path| clear(path, &identity))
            .await
    }
}

impl FjallDatastore {
    async fn with_directory<R: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Path) -> io::Result<R> + Send + 'static,
    ) -> Result<R> {
        let store = self.store.clone();
        blocking::run(what, move || {
            store.with(|_| {
                work(store.path()).map_err(|error| failure::io_error(what, store.path(), error))
            })
        })
        .await
    }
}

fn set(path: &Path) -> io::Result<Option<Bytes>> {
    let mut name = String::from(PREFIX);
    for byte in rand::random::<[u8; 16]>() {
        let _ = write!(name, "{byte:02x}");
    }
    let file = path.join(&name);
    File::create_new(&file)?.sync_all()?;
    directory::sync(path)?;
    let identity = identity(path, &name)?;
    if identity.is_none() {
        fs::remove_file(file)?;
    }
    Ok(identity)
}

fn has(path: &Path, wanted: &[u8]) -> io::Result<bool> {
    let Some(name) = name(wanted) else {
        return Ok(false);
    };
    match identity(path, name) {
        Ok(found) => Ok(found.as_deref() == Some(wanted)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the file of that name, be it the mark or a copy of it.
fn clear(path: &Path, identity: &[u8]) -> io::Result<()> {
    let Some(name) = name(identity) else {
        return Ok(());
    };
    match fs::remove_file(path.join(name)) {
        Ok(()) => directory::sync(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// `name device inode birth`, or `None` where the platform lacks one of them.
#[cfg(unix)]
fn identity(path: &Path, name: &str) -> io::Result<Option<Bytes>> {
    use std::os::unix::fs::MetadataExt;
    use std::time::UNIX_EPOCH;

    let metadata = fs::symlink_metadata(path.join(name))?;
    let birth = metadata
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(birth.map(|birth| {
        let (device, inode) = (metadata.dev(), metadata.ino());
        format!("{name} {device} {inode} {}", birth.as_nanos()).into()
    }))
}

#[cfg(not(unix))]
fn identity(_: &Path, _: &str) -> io::Result<Option<Bytes>> {
    Ok(None)
}

/// The name of a mark's file, if this is the identity of a mark.
fn name(identity: &[u8]) -> Option<&str> {
    let name = str::from_utf8(identity).ok()?.split(' ').next()?;
    let random = name.strip_prefix(PREFIX)?;
    (random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}
