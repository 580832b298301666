//! Backends for [`datastore_core`]: each a [`Datastore`](datastore_core::Datastore), each behind a
//! cargo feature.
