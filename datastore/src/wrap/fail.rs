use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{TryStreamExt, future};

use super::Operation;
use crate::{Batch, Datastore, Error, Extras, Instance, Key, Query, QueryStream, Result, Ttl};

/// A failure to inject.
#[derive(Debug, Clone)]
pub struct Fault {
    error: Error,
    takes_effect: bool,
}

impl Fault {
    /// The operation does nothing and fails with `error`.
    pub fn before(error: Error) -> Self {
        Self {
            error,
            takes_effect: false,
        }
    }

    /// The operation takes effect, and then fails with `error`: by the contract
    /// [`OutcomeUnknown`](Error::OutcomeUnknown), if it is a write.
    pub fn after(error: Error) -> Self {
        Self {
            error,
            takes_effect: true,
        }
    }
}

type Plan = dyn FnMut(&Operation<'_>) -> Option<Fault> + Send;

/// A store that fails when it is told to. For tests.
///
/// Every method of [`Datastore`], TTL and marks can fail. Transactions and the other extras are those
/// of the store beneath, and do not.
///
/// ```
/// use datastore_core::{Datastore, Error, FailDatastore, Fault, Key};
///
/// fn fail_third_commit(store: impl Datastore) -> impl Datastore {
///     let store = FailDatastore::new(store);
///     let mut commits = 0;
///     store.fail_when(move |operation| {
///         commits += u64::from(operation.is_write());
///         (commits == 3).then(|| Fault::before(Error::Closed))
///     });
///     store
/// }
/// ```
pub struct FailDatastore<D> {
    inner: D,
    plan: Arc<Mutex<Box<Plan>>>,
}

impl<D: Datastore> FailDatastore<D> {
    /// `inner`, failing never yet.
    pub fn new(inner: D) -> Self {
        Self {
            inner,
            plan: Arc::new(Mutex::new(Box::new(|_| None))),
        }
    }

    /// Fails what `plan` wants failed, from now on. It is asked once for each operation, and replaces
    /// the plan before it.
    pub fn fail_when(&self, plan: impl FnMut(&Operation<'_>) -> Option<Fault> + Send + 'static) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    /// Fails the operation that comes after `passed` others, and no other.
    pub fn fail_nth(&self, passed: u64, fault: Fault) {
        let mut left = Some(passed);
        self.fail_when(move |_| {
            let fails = left == Some(0);
            left = left.and_then(|left| left.checked_sub(1));
            fails.then(|| fault.clone())
        });
    }

    /// Fails nothing any more.
    pub fn heal(&self) {
        self.fail_when(|_| None);
    }

    /// The store beneath.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    async fn inject<T>(
        &self,
        operation: Operation<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match planned(&self.plan, &operation) {
            None => run.await,
            Some(fault) => {
                if fault.takes_effect {
                    run.await?;
                }
                Err(fault.error)
            }
        }
    }

    fn instance(&self) -> Result<&dyn Instance> {
        let unsupported = Error::Unsupported {
            store: "the datastore beneath",
            what: "marks",
        };
        self.inner.extras().instance.ok_or(unsupported)
    }

    fn inner_ttl(&self) -> Result<&dyn Ttl> {
        let unsupported = Error::Unsupported {
            store: "the datastore beneath",
            what: "TTL",
        };
        self.inner.extras().ttl.ok_or(unsupported)
    }
}

fn planned(plan: &Mutex<Box<Plan>>, operation: &Operation<'_>) -> Option<Fault> {
    (plan.lock().unwrap_or_else(PoisonError::into_inner))(operation)
}

impl<D: fmt::Debug> fmt::Debug for FailDatastore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailDatastore")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Datastore> Datastore for FailDatastore<D> {
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inject(Operation::Get(key), self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>> {
        self.inject(Operation::GetMany(keys), self.inner.get_many(keys))
            .await
    }

    async fn has(&self, key: &Key) -> Result<bool> {
        self.inject(Operation::Has(key), self.inner.has(key)).await
    }

    async fn get_size(&self, key: &Key) -> Result<Option<u64>> {
        self.inject(Operation::GetSize(key), self.inner.get_size(key))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        let seen = batch.clone();
        self.inject(Operation::Commit(&seen), self.inner.commit(batch))
            .await
    }

    async fn query(&self, query: Query) -> Result<QueryStream> {
        let seen = query.clone();
        let entries = self
            .inject(Operation::Query(&seen), self.inner.query(query))
            .await?;
        let plan = self.plan.clone();
        let entries = entries.and_then(move |entry| {
            future::ready(match planned(&plan, &Operation::Entry(&entry.key)) {
                None => Ok(entry),
                Some(fault) => Err(fault.error),
            })
        });
        Ok(Box::pin(entries))
    }

    async fn sync(&self, prefix: &Key) -> Result<()> {
        self.inject(Operation::Sync(prefix), self.inner.sync(prefix))
            .await
    }

    async fn close(&self) -> Result<()> {
        self.inject(Operation::Close, self.inner.close()).await
    }

    fn extras(&self) -> Extras<'_> {
        let inner = self.inner.extras();
        Extras {
            ttl: inner.ttl.map(|_| self as _),
            instance: inner.instance.map(|_| self as _),
            ..inner
        }
    }
}

#[async_trait]
impl<D: Datastore> Ttl for FailDatastore<D> {
    async fn commit_with_ttl(&self, batch: Batch, ttl: Duration) -> Result<()> {
        let seen = batch.clone();
        let commit = self.inner_ttl()?.commit_with_ttl(batch, ttl);
        self.inject(Operation::Commit(&seen), commit).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Duration>> {
        self.inject(Operation::Get(key), self.inner_ttl()?.ttl(key))
            .await
    }
}

#[async_trait]
impl<D: Datastore> Instance for FailDatastore<D> {
    fn handle_id(&self) -> u64 {
        self.inner
            .extras()
            .instance
            .map(Instance::handle_id)
            .unwrap_or_default()
    }

    async fn set_mark(&self) -> Result<Option<Bytes>> {
        self.inject(Operation::SetMark, self.instance()?.set_mark())
            .await
    }

    async fn has_mark(&self, identity: &[u8]) -> Result<bool> {
        self.inject(Operation::HasMark, self.instance()?.has_mark(identity))
            .await
    }

    async fn clear_mark(&self, identity: &[u8]) -> Result<()> {
        self.inject(Operation::ClearMark, self.instance()?.clear_mark(identity))
            .await
    }
}
