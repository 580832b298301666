//! Five nodes count the likes, retweets, replies and views of 1,000 tweets while two of them are cut
//! off for a while. A table shows each node's counts and how far it is behind; at the end the agreed
//! totals are compared with the crowd's own ledger, and the program exits with an error if they differ.
//!
//! ```sh
//! cargo run --example tweets                      # a network inside the process
//! cargo run --example tweets --features libp2p    # libp2p, on loopback
//! cargo run --example tweets -- 20000             # so many actions
//! ```

mod crowd;
mod network;
mod node;
mod table;

use std::error::Error;
use std::time::{Duration, Instant};

use crowd::Crowd;
use network::Network;
use node::Node;
use table::Table;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const NODES: usize = 5;
const TWEETS: usize = 1000;
/// These two are cut off in the middle third.
const AWAY: [usize; 2] = [3, 4];
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let actions = match std::env::args().nth(1) {
        Some(actions) => actions.parse()?,
        None => 6000,
    };
    let folder = tempfile::tempdir()?;
    let network = Network::start(NODES).await?;
    let mut nodes = Vec::with_capacity(NODES);
    for index in 0..NODES {
        nodes.push(Node::open(folder.path(), index, network.transport(index)).await?);
    }
    let mut crowd = Crowd::new(1);
    let mut table = Table::new();
    for round in 0..actions {
        if round == actions / 3 {
            network.cut_off(&AWAY).await?;
            table.note("nodes 3 and 4 are cut off, and go on");
        }
        if round == actions * 2 / 3 {
            network.heal().await?;
            table.note("nodes 3 and 4 are back");
        }
        crowd.act(&nodes).await?;
        if round % 200 == 0 {
            table.show(&nodes, crowd.ledger()).await?;
        }
    }
    let begun = Instant::now();
    while !agreed(&nodes, &crowd).await? {
        if begun.elapsed() > PATIENCE {
            table.show(&nodes, crowd.ledger()).await?;
            return Err("the nodes do not agree with the ledger".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    table.show(&nodes, crowd.ledger()).await?;
    println!(
        "\nAll {NODES} nodes agree with the crowd's ledger on {TWEETS} tweets, {:.1} s after the last action.",
        begun.elapsed().as_secs_f64()
    );
    for node in &nodes {
        node.close().await?;
    }
    network.close().await;
    Ok(())
}

/// Whether every node's counts of every tweet are those of the ledger.
async fn agreed(nodes: &[Node], crowd: &Crowd) -> Result<bool> {
    for node in nodes {
        for (tweet, counts) in crowd.ledger().iter().enumerate() {
            if node.stats.get_all(&crowd::id(tweet)).await? != *counts {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
