//! Counters that both sides write and read in the Warpnet app's layout.

use super::Notes;
use crate::convergence::{Judged, converge, until_total};
use crate::failure::Failure;
use crate::lab::{Lab, connect};
use crate::node::{Kind, Node, Settings, State};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const GO: &str = "node-of-go";
const OURS: &str = "node-of-ours";

const SUBJECTS: [&str; 3] = ["tweet-1", "tweet-2", "tweet-3"];
const STATS: [&str; 4] = ["likes", "retweets", "replies", "views"];

/// More is taken from it than is added, until the end.
const UNLOVED: (&str, &str) = ("unloved", "likes");

/// How often a side counts each stat of each subject in one go.
const COUNTS: usize = 4;

pub(super) async fn agree(lab: &Lab) -> Result<Notes, Failure> {
    let on_disk = |count_as| {
        lab.fresh_path("store").map(|dir| Settings {
            disk: Some(dir),
            count_as: Some(count_as),
            ..Settings::default()
        })
    };
    let (go_settings, our_settings) = (on_disk(GO)?, on_disk(OURS)?);
    let mut random = StdRng::seed_from_u64(lab.seed);
    let mut ledger = Ledger::default();

    let mut go = lab.start(Kind::Go, &go_settings).await?;
    let mut ours = lab.start(Kind::Rust, &our_settings).await?;
    connect(&mut ours, &mut go).await?;
    ledger.add(&mut go, UNLOVED, 2).await?;
    ledger.subtract(&mut ours, UNLOVED, 5).await?;
    ledger
        .count_at_once(&mut go, &mut ours, &mut random)
        .await?;
    ledger.hold(&mut [&mut go, &mut ours]).await?;

    // Right behind a count, and with no chance to close: by itself it still has all.
    ledger.add(&mut ours, ("tweet-1", "likes"), 3).await?;
    ledger.subtract(&mut ours, ("tweet-2", "views"), 1).await?;
    ours.kill().await?;
    let mut ours = lab.start(Kind::Rust, &our_settings).await?;
    ledger.until_read(&mut ours).await?;
    let before_the_kill = Slots::of(OURS, &ours.state().await?);
    ledger
        .count_at_once(&mut go, &mut ours, &mut random)
        .await?;
    connect(&mut ours, &mut go).await?;
    ledger.hold(&mut [&mut go, &mut ours]).await?;

    // Each closes right behind a count, and counts on.
    ledger.add(&mut go, ("tweet-1", "views"), 7).await?;
    go.stop().await?;
    let mut go = lab.start(Kind::Go, &go_settings).await?;
    ledger.until_read(&mut go).await?;
    ledger
        .subtract(&mut ours, ("tweet-3", "replies"), 2)
        .await?;
    ours.stop().await?;
    let mut ours = lab.start(Kind::Rust, &our_settings).await?;
    connect(&mut ours, &mut go).await?;
    ledger.add(&mut go, UNLOVED, 10).await?;
    ledger
        .count_at_once(&mut go, &mut ours, &mut random)
        .await?;
    ledger.hold(&mut [&mut go, &mut ours]).await?;

    // Go has a new generation at each start; ours after a kill, and keeps it over a clean restart.
    let state = go.state().await?;
    Slots::of(GO, &state).expect_generations(2)?;
    let our_slots = Slots::of(OURS, &state);
    our_slots.expect_generations(2)?;
    our_slots.expect_kept(&before_the_kill)?;
    Ok(Notes::new())
}

/// A stat of a subject.
type Counter = (&'static str, &'static str);

/// All that was ever added to a counter, and subtracted from it.
#[derive(Clone, Copy, Default)]
struct Sums {
    added: u64,
    subtracted: u64,
}

/// What the nodes were told to count, and said that they did.
#[derive(Default)]
struct Ledger(BTreeMap<Counter, Sums>);

/// A count that a node is told.
enum Count {
    Add(Counter, u64),
    Subtract(Counter, u64),
}

impl Ledger {
    async fn add(&mut self, node: &mut Node, counter: Counter, n: u64) -> Result<(), Failure> {
        self.count(node, &[Count::Add(counter, n)]).await
    }

    async fn subtract(&mut self, node: &mut Node, counter: Counter, n: u64) -> Result<(), Failure> {
        self.count(node, &[Count::Subtract(counter, n)]).await
    }

    async fn count(&mut self, node: &mut Node, counts: &[Count]) -> Result<(), Failure> {
        tell(node, counts).await?;
        self.enter(counts);
        Ok(())
    }

    /// Both count the same counters at one time.
    async fn count_at_once(
        &mut self,
        go: &mut Node,
        ours: &mut Node,
        random: &mut StdRng,
    ) -> Result<(), Failure> {
        let (for_go, for_ours) = (script(random), script(random));
        let (from_go, from_ours) = tokio::join!(tell(go, &for_go), tell(ours, &for_ours));
        from_go.and(from_ours)?;
        self.enter(&for_go);
        self.enter(&for_ours);
        Ok(())
    }

    fn enter(&mut self, counts: &[Count]) {
        for count in counts {
            match *count {
                Count::Add(counter, n) => self.0.entry(counter).or_default().added += n,
                Count::Subtract(counter, n) => self.0.entry(counter).or_default().subtracted += n,
            }
        }
    }

    /// Waits until the nodes hold one history, which is all they will ever hold, and read the ledger's
    /// totals from it.
    async fn hold(&self, nodes: &mut [&mut Node]) -> Result<(), Failure> {
        converge(nodes, Judged::All).await?;
        for node in nodes {
            self.until_read(node).await?;
        }
        Ok(())
    }

    /// Waits until a node reads the ledger's totals.
    async fn until_read(&self, node: &mut Node) -> Result<(), Failure> {
        for ((subject, stat), sums) in &self.0 {
            let total = sums.added.saturating_sub(sums.subtracted);
            until_total(node, subject, stat, total).await?;
        }
        Ok(())
    }
}

async fn tell(node: &mut Node, counts: &[Count]) -> Result<(), Failure> {
    for count in counts {
        let ((subject, stat), command) = match *count {
            Count::Add(counter, n) => (counter, format!("add {} {} {n}", counter.0, counter.1)),
            Count::Subtract(counter, n) => {
                (counter, format!("subtract {} {} {n}", counter.0, counter.1))
            }
        };
        node.tell(&command).await?;
        // What is remembered of a count from here on has to follow what the other side does to it.
        node.total(subject, stat).await?;
    }
    Ok(())
}

/// Every counter some times, in any order. More is added than subtracted.
fn script(random: &mut StdRng) -> Vec<Count> {
    let mut counts = Vec::new();
    for subject in SUBJECTS {
        for stat in STATS {
            for _ in 0..COUNTS {
                // More than one byte of a total is in use.
                let n = random.random_range(1..=300);
                counts.push(match random.random_range(0..3) {
                    0 => Count::Subtract((subject, stat), n),
                    _ => Count::Add((subject, stat), n),
                });
            }
        }
    }
    counts.shuffle(random);
    counts
}

/// What lies in a store under one node's id: `/STATS/{incr|decr}/{data key}/{node}/{generation}`.
struct Slots<'a> {
    node: &'a str,
    values: BTreeMap<String, Vec<u8>>,
}

impl<'a> Slots<'a> {
    fn of(node: &'a str, state: &State) -> Slots<'a> {
        let is_of_node = |key: &str| key.rsplit('/').nth(1) == Some(node);
        let slots = state.iter().filter(|(key, _)| is_of_node(key));
        let values = slots
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Slots { node, values }
    }

    fn expect_generations(&self, expected: usize) -> Result<(), Failure> {
        let generations: BTreeSet<&str> = self
            .values
            .keys()
            .filter_map(|key| key.rsplit('/').next())
            .collect();
        if generations.len() == expected {
            return Ok(());
        }
        Err(Failure::Wrong(format!(
            "{} wrote under {generations:?}, and should under {expected} generations",
            self.node
        )))
    }

    /// Nobody writes the slots of a generation that was killed.
    fn expect_kept(&self, before: &Slots<'_>) -> Result<(), Failure> {
        for (key, value) in &before.values {
            let now = self.values.get(key);
            if now != Some(value) {
                return Err(Failure::Wrong(format!(
                    "{key} holds {now:?}, and held {value:?} when its writer was killed"
                )));
            }
        }
        Ok(())
    }
}
