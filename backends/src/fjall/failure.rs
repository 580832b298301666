use std::io;
use std::path::Path;
use std::sync::Arc;

use datastore_core::Error;

/// What a failure of fjall means to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Locked,
    Damaged,
    Other,
}

/// The error for `failure`, met while doing `what` in the store at `path`.
pub(super) fn error(what: &str, path: &Path, failure: fjall::Error) -> Error {
    let kind = kind(&failure);
    from_kind(kind, what, path, Arc::new(failure))
}

/// The same for a plain I/O error, of a file that must be there.
pub(super) fn io_error(what: &str, path: &Path, failure: io::Error) -> Error {
    let kind = io_kind(&failure);
    from_kind(kind, what, path, Arc::new(failure))
}

/// How messages call the store at `path`.
pub(super) fn store(path: &Path) -> String {
    format!("the fjall store in {}", path.display())
}

fn from_kind(kind: Kind, what: &str, path: &Path, source: datastore_core::Source) -> Error {
    let context = format!("{what} {}", path.display());
    match kind {
        Kind::Full => Error::StorageFull { context, source },
        Kind::Locked => Error::Locked { path: path.into() },
        Kind::Damaged => Error::Damaged {
            what: store(path),
            source: Some(source),
        },
        Kind::Other => Error::Backend { context, source },
    }
}

fn kind(failure: &fjall::Error) -> Kind {
    use fjall::Error as F;
    use lsm_tree::Error as L;

    match failure {
        F::Locked => Kind::Locked,
        F::Io(io) | F::Storage(L::Io(io)) => io_kind(io),
        F::Storage(_)
        | F::JournalRecovery(_)
        | F::InvalidVersion(_)
        | F::Decompress(_)
        | F::InvalidTrailer
        | F::InvalidTag(_)
        | F::Unrecoverable => Kind::Damaged,
        _ => Kind::Other,
    }
}

fn io_kind(failure: &io::Error) -> Kind {
    match failure.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Kind::Full
        }
        // A file of the store that is gone, cut short or not what it should be.
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData => Kind::Damaged,
        _ => Kind::Other,
    }
}
