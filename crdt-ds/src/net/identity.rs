//! Keys in files: a node's identity, and the key of a private network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;
use libp2p::pnet::PreSharedKey;

use super::NetError;

/// A key file is a few hundred bytes; what is larger is something else.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// The identity in a file; a new one (Ed25519) is made, and written with rights for its owner only,
/// if there is no file. The encoding is libp2p's (a protobuf `PrivateKey`), as go-libp2p writes it.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("identity");
/// let made = crdt_ds::net::identity_file(&path)?;
/// let read = crdt_ds::net::identity_file(&path)?;
/// assert_eq!(made.public(), read.public());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`NetError::File`]; [`NetError::BadKey`] if the file holds something else;
/// [`NetError::KeyExposed`] if others may read it (on Unix).
pub fn identity_file(path: impl AsRef<Path>) -> Result<Keypair, NetError> {
    let path = path.as_ref();
    loop {
        match read_key(path) {
            Err(NetError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(bytes) => {
                return Keypair::from_protobuf_encoding(&bytes).map_err(|error| NetError::BadKey {
                    path: path.to_owned(),
                    reason: error.to_string(),
                });
            }
        }
        let key = Keypair::generate_ed25519();
        let bytes = key
            .to_protobuf_encoding()
            .map_err(|error| NetError::BadKey {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        match write_new(path, &bytes) {
            Ok(()) => return Ok(key),
            // Another process was faster: its key counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(NetError::File {
                    path: path.to_owned(),
                    source,
                });
            }
        }
    }
}

/// The pre-shared key of a private network in a file, in the form that go-libp2p and IPFS use
/// (`swarm.key`): three lines, `/key/swarm/psk/1.0.0/`, `/base16/`, and 64 hexadecimal digits.
///
/// # Errors
/// [`NetError::File`]; [`NetError::BadKey`] if the file holds something else.
pub fn psk_file(path: impl AsRef<Path>) -> Result<PreSharedKey, NetError> {
    let path = path.as_ref();
    let bad = |reason: String| NetError::BadKey {
        path: path.to_owned(),
        reason,
    };
    let text = String::from_utf8(read_file(path)?).map_err(|error| bad(error.to_string()))?;
    text.parse()
        .map_err(|error: libp2p::pnet::KeyParseError| bad(error.to_string()))
}

fn read_key(path: &Path) -> Result<Vec<u8>, NetError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = fs::metadata(path).map_err(|source| NetError::File {
            path: path.to_owned(),
            source,
        })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(NetError::KeyExposed {
                path: path.to_owned(),
                mode,
            });
        }
    }
    read_file(path)
}

fn read_file(path: &Path) -> Result<Vec<u8>, NetError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE).read_to_end(&mut bytes))
        .map_err(|source| NetError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

/// Writes a file that is there whole or not at all, and only if there is none.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let temporary: PathBuf = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        // A link, since a rename would replace what another process has written.
        .and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = identity_file(&path).unwrap();
        assert_eq!(identity_file(&path).unwrap().public(), made.public());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let exposed = identity_file(&path);
            assert!(matches!(
                exposed,
                Err(NetError::KeyExposed { mode: 0o640, .. })
            ));
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"precious").unwrap();
        assert!(matches!(identity_file(&path), Err(NetError::BadKey { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_swarm_key_is_read_as_go_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swarm.key");
        let hex = "ab".repeat(32);
        fs::write(&path, format!("/key/swarm/psk/1.0.0/\n/base16/\n{hex}\n")).unwrap();
        let key = psk_file(&path).unwrap();
        let expected = PreSharedKey::new([0xab; 32]);
        assert_eq!(
            key.fingerprint().to_string(),
            expected.fingerprint().to_string()
        );
        fs::write(&path, "/key/swarm/psk/1.0.0/\n/base16/\nabcd\n").unwrap();
        assert!(matches!(psk_file(&path), Err(NetError::BadKey { .. })));
    }
}
