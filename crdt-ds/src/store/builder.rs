use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datastore_core::{Datastore, Key};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{broadcast, mpsc, watch};

use super::committer::{Committer, Worker};
use super::{CrdtDatastore, Inner, OpenNamespace, Shared, Tasks};
use crate::Result;
use crate::block::{Format, WriterId};
use crate::options::{Clock, Options};
use crate::replica::{Draws, Layout, Replica, Rules};
use crate::sync::{BlockSource, Engine, ServeBlocks, Transport};

/// How many pending blocks may merge in one commit.
const MAX_MERGES: usize = 1024;

/// Opens a [`CrdtDatastore`]. What each option means and its default: [`Options`].
#[derive(Debug)]
#[must_use = "nothing happens until `open` is called"]
pub struct Builder {
    store: StoreHandle,
    transport: Option<Transport>,
    options: Options,
    seed: Option<u64>,
}

struct StoreHandle(Arc<dyn Datastore>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Datastore")
    }
}

impl Builder {
    pub(super) fn new(store: Arc<dyn Datastore>) -> Self {
        Self {
            store: StoreHandle(store),
            transport: None,
            options: Options::default(),
            seed: None,
        }
    }

    /// All options at once.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How to reach the other replicas. Without one the replica is alone, and its history waits.
    pub fn transport(mut self, transport: impl Into<Transport>) -> Self {
        self.transport = Some(transport.into());
        self
    }

    /// Sets [`Options::format`].
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = format;
        self
    }

    /// Sets [`Options::network`].
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.options.network = network.into();
        self
    }

    /// Sets [`Options::namespace`].
    pub fn namespace(mut self, namespace: Key) -> Self {
        self.options.namespace = namespace;
        self
    }

    /// Sets [`Options::rebroadcast_interval`].
    pub fn rebroadcast_interval(mut self, interval: Duration) -> Self {
        self.options.rebroadcast_interval = interval;
        self
    }

    /// Sets [`Options::batch_delay`].
    pub fn batch_delay(mut self, delay: Duration) -> Self {
        self.options.batch_delay = delay;
        self
    }

    /// Sets [`Options::workers`].
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// Sets [`Options::fetch_timeout`].
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.options.fetch_timeout = timeout;
        self
    }

    /// Sets [`Options::retry_min`] and [`Options::retry_max`].
    pub fn retry(mut self, min: Duration, max: Duration) -> Self {
        self.options.retry_min = min;
        self.options.retry_max = max;
        self
    }

    /// Sets [`Options::max_delta_bytes`].
    pub fn max_delta_bytes(mut self, bytes: usize) -> Self {
        self.options.max_delta_bytes = bytes;
        self
    }

    /// Sets [`Options::max_inline_bytes`].
    pub fn max_inline_bytes(mut self, bytes: usize) -> Self {
        self.options.max_inline_bytes = bytes;
        self
    }

    /// Sets [`Options::gap_after`].
    pub fn gap_after(mut self, after: Duration) -> Self {
        self.options.gap_after = after;
        self
    }

    /// Merges a foreign DAG newest first: [`Options::gap_after`] of zero.
    pub fn newest_first(self) -> Self {
        self.gap_after(Duration::ZERO)
    }

    /// Sets [`Options::durable`].
    pub fn durable(mut self, durable: bool) -> Self {
        self.options.durable = durable;
        self
    }

    /// Sets [`Options::put_hook`].
    pub fn put_hook(mut self, hook: impl Fn(&Key, &Bytes) + Send + Sync + 'static) -> Self {
        self.options.put_hook = Some(Arc::new(hook));
        self
    }

    /// Sets [`Options::delete_hook`].
    pub fn delete_hook(mut self, hook: impl Fn(&Key) + Send + Sync + 'static) -> Self {
        self.options.delete_hook = Some(Arc::new(hook));
        self
    }

    /// Sets [`Options::clock`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.options.clock = clock;
        self
    }

    /// Draws all random ids and jitters from this seed: for simulations. Two stores that were opened
    /// with one seed share their ids, which real ones never may.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Opens the replica: reads its state, starts its tasks, and goes on where it stopped.
    ///
    /// # Errors
    /// [`OtherFormat`](crate::Error::OtherFormat), [`OtherNetwork`](crate::Error::OtherNetwork),
    /// [`UnknownLayout`](crate::Error::UnknownLayout) if the store was made otherwise;
    /// [`AlreadyOpen`](crate::Error::AlreadyOpen); [`Option`](crate::Error::Option);
    /// [`Damaged`](crate::Error::Damaged); or what the datastore said.
    pub async fn open(self) -> Result<CrdtDatastore> {
        let Self {
            store: StoreHandle(store),
            transport,
            options,
            seed,
        } = self;
        options.check()?;
        let open = OpenNamespace::take(&*store, &options.namespace)?;
        let mut random = seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        let rules = Rules {
            format: options.format,
            network: options.network.clone(),
            writer: WriterId(random.random()),
            max_inline_bytes: options.max_inline_bytes,
            max_delta_bytes: options.max_delta_bytes,
            max_pending_bodies: options.max_pending_bodies,
            max_pending: options.max_pending,
            max_wants_per_peer: options.max_wants_per_peer,
            newest_first: options.gap_after.is_zero(),
            max_merges: MAX_MERGES,
        };
        let draws = Draws {
            store_id: random.random(),
            generation: random.random(),
        };
        let namespace = options.namespace.clone();
        let mut replica =
            Replica::open(store.clone(), namespace.clone(), rules.clone(), draws).await?;
        replica.revisit_unknown((options.clock)()).await?;

        let (changes, _) = broadcast::channel(options.change_capacity);
        let shared = Arc::new(Shared::new(
            store,
            Layout::new(&namespace),
            rules,
            options,
            replica.identity().clone(),
            replica.state().clone(),
            changes.downgrade(),
            transport
                .as_ref()
                .map(|transport| transport.fetcher.clone()),
        ));
        let (queue, requests) = mpsc::channel(shared.options.queue_capacity);
        let (shutdown, stopped) = watch::channel(false);
        let committer = Committer::new(replica, changes, shared.clone());
        let committer = Arc::new(tokio::sync::Mutex::new(committer));
        let lent = Arc::downgrade(&committer);
        let worker = Worker {
            queue: requests,
            committer,
            shared: shared.clone(),
        };
        let worker = tokio::spawn(async move { (worker.run().await, open) });
        let engine = transport.map(|transport| {
            let blocks: Arc<dyn ServeBlocks> = shared.clone();
            transport
                .fetcher
                .serve(BlockSource::new(Arc::downgrade(&blocks)));
            let engine = Engine::new(shared.clone(), transport, queue.clone(), stopped, random);
            tokio::spawn(engine.run())
        });
        let tasks = Tasks { worker, engine };
        Ok(CrdtDatastore {
            inner: Arc::new(Inner {
                shared,
                queue: std::sync::Mutex::new(Some(queue)),
                committer: lent,
                runtime: tokio::runtime::Handle::current(),
                shutdown,
                tasks: tokio::sync::Mutex::new(Some(tasks)),
            }),
        })
    }
}
