//! What the benches and load programs share: the stores they measure, and pairs of measurements that
//! print a ratio.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a bench that cannot set itself up has nothing to report"
)]

mod pair;
mod quantile;
mod raw;
mod stores;

pub use self::pair::Pair;
pub use self::quantile::{median, quantile};
pub use self::raw::{RAW_RECORDS, five_records};
pub use self::stores::{Backend, Folder};
