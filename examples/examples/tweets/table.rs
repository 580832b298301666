//! The counts of each node. In a terminal they are drawn anew in place; elsewhere only what is to stay
//! is printed, as plain lines.

use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use crdt_ds::stats::TweetStats;

use crate::node::Node;
use crate::{Result, crowd};

const REFRESH: Duration = Duration::from_millis(250);

pub(crate) struct Table {
    /// When it was last drawn, if it is drawn live at all.
    live: Option<Instant>,
    /// Lines that the next ones take the place of.
    passing: usize,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            live: stdout().is_terminal().then(Instant::now),
            passing: 0,
        }
    }

    /// Prints a line that stays.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        self.print(line)?;
        self.passing = 0;
        Ok(())
    }

    /// Prints the counts as they are now, to stay.
    pub(crate) async fn draw(&mut self, nodes: &[Node], ledger: &[TweetStats]) -> Result<()> {
        let counts = counts(nodes, ledger).await?;
        self.say(&counts)
    }

    /// Prints the counts now and then, in a terminal, until something else is printed.
    pub(crate) async fn refresh(&mut self, nodes: &[Node], ledger: &[TweetStats]) -> Result<()> {
        if self.live.is_some_and(|drawn| drawn.elapsed() >= REFRESH) {
            let counts = counts(nodes, ledger).await?;
            self.print(&counts)?;
            self.passing = counts.lines().count();
            self.live = Some(Instant::now());
        }
        Ok(())
    }

    fn print(&self, text: &str) -> Result<()> {
        let mut out = stdout().lock();
        if self.passing > 0 {
            // Up, and clear what is below.
            write!(out, "\x1b[{}A\x1b[J", self.passing)?;
        }
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }
}

async fn counts(nodes: &[Node], ledger: &[TweetStats]) -> Result<String> {
    let mut text =
        String::from("            likes  retweets   replies     views    behind     peers");
    for (index, node) in nodes.iter().enumerate() {
        let (mut total, mut behind) = ([0; 4], 0);
        for (tweet, expected) in ledger.iter().enumerate() {
            let counts = columns(&node.counts(&crowd::tweet_id(tweet)).await?);
            for ((sum, count), expected) in total.iter_mut().zip(counts).zip(columns(expected)) {
                *sum += count;
                behind += count.abs_diff(expected);
            }
        }
        text += &format!("\nnode {index}{}", row(total));
        text += &format!("{behind:>10}{:>10}", node.peers());
    }
    let mut total = [0; 4];
    for counts in ledger {
        for (sum, count) in total.iter_mut().zip(columns(counts)) {
            *sum += count;
        }
    }
    Ok(text + "\nledger" + &row(total))
}

fn row(counts: [u64; 4]) -> String {
    let [likes, retweets, replies, views] = counts;
    format!("{likes:>11}{retweets:>10}{replies:>10}{views:>10}")
}

/// In the order of [`Stat::NAMED`](crdt_ds::stats::Stat::NAMED).
pub(crate) fn columns(counts: &TweetStats) -> [u64; 4] {
    [counts.likes, counts.retweets, counts.replies, counts.views]
}
