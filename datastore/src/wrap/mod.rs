//! Stores that are other stores, seen differently.

mod mount;
mod namespace;
mod pointer;

#[cfg(feature = "testkit")]
mod crash;
#[cfg(feature = "testkit")]
mod delay;
#[cfg(feature = "testkit")]
mod fail;
#[cfg(feature = "testkit")]
mod operation;

#[cfg(feature = "testkit")]
pub use self::crash::{CrashDatastore, CrashPoint, Loss};
#[cfg(feature = "testkit")]
pub use self::delay::DelayDatastore;
#[cfg(feature = "testkit")]
pub use self::fail::{FailDatastore, Fault};
pub use self::mount::MountDatastore;
pub use self::namespace::NamespaceDatastore;
#[cfg(feature = "testkit")]
pub use self::operation::Operation;
