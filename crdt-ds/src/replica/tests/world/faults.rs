//! Replicas that are stopped, and stores that fail.

use std::sync::Arc;

use datastore_backends::MemoryDatastore;
use datastore_core::{CrashPoint, FailDatastore, Fault, Loss};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Action, World, ensure};
use crate::Error;

impl World {
    pub(super) async fn reopen(
        &mut self,
        number: usize,
        random: &mut StdRng,
    ) -> Result<(), String> {
        let replica = self.members[number].replica.as_mut().unwrap();
        let generation = replica.identity().generation;
        let clean = random.random_bool(0.5);
        if clean {
            replica.close().await.map_err(|error| error.to_string())?;
        }
        self.open(number).await.map_err(|error| error.to_string())?;
        ensure!(
            clean == (self.replica(number).identity().generation == generation),
            "a generation lasts as long as stores are closed cleanly"
        );
        Ok(())
    }

    /// Something to be disturbed in.
    fn some_action(random: &mut StdRng) -> Action {
        let actions = [
            Action::Write,
            Action::Deliver,
            Action::DeliverWanted,
            Action::Gap,
            Action::Reopen,
        ];
        *actions.choose(random).unwrap()
    }

    pub(super) async fn crash(&mut self, number: usize, random: &mut StdRng) -> Result<(), String> {
        let point = *[CrashPoint::Before, CrashPoint::After]
            .choose(random)
            .unwrap();
        let loss = *[Loss::Process, Loss::Power].choose(random).unwrap();
        let store = self.members[number].store.clone();
        let disk = store.inner();
        disk.crash_at(disk.operations() + random.random_range(0..3), point);
        self.failure = None;
        let done = self.act(number, Self::some_action(random), random).await;
        if !disk.has_crashed() {
            // It had less to do.
            disk.crash_at(u64::MAX, point);
            return done;
        }
        if let Some(failure) = self.failure.take() {
            ensure!(
                matches!(failure, Error::OutcomeUnknown),
                "a crash said that nothing was done: {failure}"
            );
            let replica = self.members[number].replica.as_mut().unwrap();
            let more = replica.commit(Vec::new(), self.now_us, false).await;
            ensure!(
                matches!(more, Err(Error::OutcomeUnknown)),
                "after an unknown outcome it went on: {more:?}"
            );
        }
        let left = disk.survivors(loss, MemoryDatastore::new()).await.unwrap();
        self.members[number].store = Arc::new(FailDatastore::new(left));
        self.open(number).await.map_err(|error| error.to_string())
    }

    /// A commit that fails changes nothing, and says why.
    pub(super) async fn fail(&mut self, number: usize, random: &mut StdRng) -> Result<(), String> {
        let store = self.members[number].store.clone();
        let full = random.random_bool(0.5);
        if full {
            store.fail_when(|operation| {
                let full = || datastore_core::Error::StorageFull {
                    context: "a commit".to_owned(),
                    source: Arc::new(std::fmt::Error),
                };
                operation.is_write().then(|| Fault::before(full()))
            });
        } else {
            let broken = datastore_core::Error::backend("a read", std::fmt::Error);
            store.fail_nth(random.random_range(0..30), Fault::before(broken));
        }
        let before = format!("{:?}", self.replica(number).state());
        self.failure = None;
        let action = loop {
            // Opening is for crashes.
            match Self::some_action(random) {
                Action::Reopen => {}
                action => break action,
            }
        };
        let done = self.act(number, action, random).await;
        store.heal();
        let Some(failure) = self.failure.take() else {
            // It had less to do, or what was cut was a look of the test's own.
            return if full { done } else { Ok(()) };
        };
        if full {
            ensure!(
                matches!(
                    failure,
                    Error::Datastore(datastore_core::Error::StorageFull { .. })
                ),
                "the disk was full, and that was {failure:?}"
            );
        }
        ensure!(
            before == format!("{:?}", self.replica(number).state()),
            "a commit that failed changed something"
        );
        Ok(())
    }
}
