use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Batch, Datastore, Extras, Key, Query, QueryStream, Result};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Hands on the inner boxed future, where an `async fn` would box another around it. The lifetimes
/// are those that `async_trait` gives the trait's methods.
macro_rules! datastore_behind {
    ($($pointer:ident),*) => {$(
        impl<T: Datastore + ?Sized> Datastore for $pointer<T> {
            fn get<'s, 'k, 'a>(&'s self, key: &'k Key) -> Answer<'a, Option<Bytes>>
            where
                's: 'a,
                'k: 'a,
                Self: 'a,
            {
                (**self).get(key)
            }

            fn get_many<'s, 'k, 'a>(&'s self, keys: &'k [Key]) -> Answer<'a, Vec<Option<Bytes>>>
            where
                's: 'a,
                'k: 'a,
                Self: 'a,
            {
                (**self).get_many(keys)
            }

            fn has<'s, 'k, 'a>(&'s self, key: &'k Key) -> Answer<'a, bool>
            where
                's: 'a,
                'k: 'a,
                Self: 'a,
            {
                (**self).has(key)
            }

            fn get_size<'s, 'k, 'a>(&'s self, key: &'k Key) -> Answer<'a, Option<u64>>
            where
                's: 'a,
                'k: 'a,
                Self: 'a,
            {
                (**self).get_size(key)
            }

            fn commit<'s, 'a>(&'s self, batch: Batch) -> Answer<'a, ()>
            where
                's: 'a,
                Self: 'a,
            {
                (**self).commit(batch)
            }

            fn query<'s, 'a>(&'s self, query: Query) -> Answer<'a, QueryStream>
            where
                's: 'a,
                Self: 'a,
            {
                (**self).query(query)
            }

            fn sync<'s, 'k, 'a>(&'s self, prefix: &'k Key) -> Answer<'a, ()>
            where
                's: 'a,
                'k: 'a,
                Self: 'a,
            {
                (**self).sync(prefix)
            }

            fn close<'s, 'a>(&'s self) -> Answer<'a, ()>
            where
                's: 'a,
                Self: 'a,
            {
                (**self).close()
            }

            fn extras(&self) -> Extras<'_> {
                (**self).extras()
            }
        }
    )*};
}

datastore_behind!(Arc, Box);
