//! Five nodes in one process, connected by libp2p on loopback, each a store on disk. A crowd likes,
//! unlikes, retweets, replies to and views 1,000 tweets, while two of the nodes are cut off for a while.
//! A table shows each node's counts live. At the end the counts that the nodes agree on are held against
//! the crowd's own ledger; the program fails if they differ.
//!
//! ```sh
//! cargo run --features crdt-ds-examples/libp2p --example tweets
//! cargo run --features crdt-ds-examples/libp2p --example tweets -- 200    # so many rounds
//! ```
//!
//! In a round somebody acts at each node. Exits with 2 if the argument is wrong, with 1 if anything fails.

mod crowd;
mod network;
mod node;
mod table;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crdt_ds::stats::Stat;
use futures::future::try_join_all;

use self::crowd::Crowd;
use self::node::Node;
use self::table::Table;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const NODES: usize = 5;
const TWEETS: usize = 1000;
const ROUNDS: u32 = 2000;
/// These are cut off for the middle third of the rounds.
const AWAY: [usize; 2] = [3, 4];
/// Longer than agreement takes; who needs more has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.as_slice() {
        [] => Some(ROUNDS),
        [rounds] => rounds.parse().ok().filter(|rounds| *rounds > 0),
        _ => None,
    };
    let Some(rounds) = rounds else {
        eprintln!("usage: tweets [ROUNDS], a number above zero, {ROUNDS} by default");
        return ExitCode::from(2);
    };
    match run(rounds).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tweets: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(rounds: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut nodes = Vec::with_capacity(NODES);
    for index in 0..NODES {
        nodes.push(Node::open(&folder.path().join(index.to_string()), index).await?);
    }
    network::connect(&nodes, &[0, 1, 2, 3, 4]).await?;
    let mut crowd = Crowd::new(1);
    let mut table = Table::new();
    table.say("Five nodes over libp2p, each a store on disk. A crowd acts on 1,000 tweets.")?;
    table.say("behind: by how much a node's counts differ from what the crowd did so far.\n")?;
    for round in 0..rounds {
        if round == rounds / 3 {
            network::cut_off(&nodes, &AWAY).await?;
            table.say("Nodes 3 and 4 are cut off, from each other too. The crowd goes on.")?;
        }
        if round == rounds * 2 / 3 {
            table.draw(&nodes, crowd.ledger()).await?;
            network::connect(&nodes, &AWAY).await?;
            table.say("\nNodes 3 and 4 are back. The crowd goes on.")?;
        }
        let acts = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| node.act(crowd.next(index)));
        try_join_all(acts).await?;
        table.refresh(&nodes, crowd.ledger()).await?;
    }
    let done = Instant::now();
    while !agree(&nodes) {
        if done.elapsed() > PATIENCE {
            return Err(format!("the nodes do not agree after {PATIENCE:?}").into());
        }
        table.refresh(&nodes, crowd.ledger()).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waited = done.elapsed().as_secs_f64();
    table.draw(&nodes, crowd.ledger()).await?;
    table.say(&format!(
        "\nThe nodes agree with each other, {waited:.1} s after the crowd's {} acts.",
        rounds as usize * NODES
    ))?;
    compare(&nodes, &crowd).await?;
    table.say("They agree with the crowd's ledger, on all four counts of all 1,000 tweets.")?;
    for node in &nodes {
        node.close().await?;
    }
    Ok(())
}

/// Whether all nodes have the same history, and so the same contents.
fn agree(nodes: &[Node]) -> bool {
    let digests: Vec<_> = nodes.iter().map(Node::digests).collect();
    digests.windows(2).all(|pair| pair.first() == pair.last())
}

/// Holds each count of each node against the ledger.
async fn compare(nodes: &[Node], crowd: &Crowd) -> Result<()> {
    let mut wrong = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        for (tweet, expected) in crowd.ledger().iter().enumerate() {
            let subject = crowd::tweet_id(tweet);
            let counts = node.counts(&subject).await?;
            let pairs = table::columns(&counts)
                .into_iter()
                .zip(table::columns(expected));
            for (stat, (count, expected)) in Stat::NAMED.iter().zip(pairs) {
                if count != expected {
                    wrong.push(format!(
                        "node {index} has {count} {stat} of {subject}, the ledger {expected}"
                    ));
                }
            }
        }
    }
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            Err(format!("{} counts differ from the ledger: {first}", wrong.len()).into())
        }
    }
}
