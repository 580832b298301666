use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datastore_core::{Error, Result};
use tokio::runtime::Handle;

/// Does work that may take long, or wait, on the runtime's blocking pool, or in place without a
/// runtime. (Not by `block_in_place`: that panics in a `LocalSet`, and holds up the futures that the
/// caller polls beside this one.)
///
/// Dropping the future does not cut the work short once it has begun.
pub(super) async fn run<R: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    if Handle::try_current().is_err() {
        return guarded(what, work);
    }
    match tokio::task::spawn_blocking(move || guarded(what, work)).await {
        Ok(result) => result,
        // `guarded` does not panic: the runtime was shut down before the work began.
        Err(cancelled) => Err(Error::backend(what, cancelled)),
    }
}

/// Does work that is short, in place.
pub(super) fn guarded<R>(what: &'static str, work: impl FnOnce() -> Result<R>) -> Result<R> {
    caught(work).unwrap_or_else(|panicked| {
        Err(Error::OutcomeUnknown {
            context: what.into(),
            source: Arc::new(panicked),
        })
    })
}

/// Turns a panic, a bug in fjall or in this backend, into an error.
pub(super) fn caught<R>(work: impl FnOnce() -> R) -> Result<R, Panicked> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| Panicked(message(payload.as_ref())))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".into())
}

/// The storage engine panicked.
#[derive(Debug, thiserror::Error)]
#[error("the storage engine panicked: {0}")]
pub(super) struct Panicked(String);
