use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datastore_core::{Error, Result};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Does work that may block, where it hurts other tasks least and costs least: in place on a
/// multi-thread runtime (which moves the worker's other tasks away), on the blocking pool of a
/// current-thread one (where nothing else could run), and in place without a runtime.
///
/// Dropping the future does not cut the work short once it has begun.
pub(super) async fn run<R: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| guarded(what, work)),
        Ok(_) => match tokio::task::spawn_blocking(move || guarded(what, work)).await {
            Ok(result) => result,
            // `guarded` does not panic: the runtime was shut down before the work began.
            Err(cancelled) => Err(Error::backend(what, cancelled)),
        },
        Err(_) => guarded(what, work),
    }
}

fn guarded<R>(what: &'static str, work: impl FnOnce() -> Result<R>) -> Result<R> {
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
