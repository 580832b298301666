//! The cases, by the names of the tests that [`datastore_testkit!`](crate::datastore_testkit) makes of
//! them. A name says what the case shows.

#![allow(missing_docs)]

mod basics;
mod batches;
mod closing;
mod extras;
mod isolation;
mod keys;
mod queries;
mod scale;

pub use self::basics::*;
pub use self::batches::*;
pub use self::closing::*;
pub use self::extras::*;
pub use self::isolation::*;
pub use self::keys::*;
pub use self::queries::*;
pub use self::scale::*;
