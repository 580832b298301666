//! The counts of each node, live.

use std::io::{IsTerminal, Write, stdout};

use crdt_ds::stats::TweetStats;

use crate::node::Node;
use crate::{Result, crowd};

pub(crate) struct Table {
    /// Lines to go back over.
    drawn: usize,
    note: &'static str,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            drawn: 0,
            note: "all nodes reach each other",
        }
    }

    pub(crate) fn note(&mut self, note: &'static str) {
        self.note = note;
    }

    pub(crate) async fn show(&mut self, nodes: &[Node], ledger: &[TweetStats]) -> Result<()> {
        let mut lines = vec![format!(
            "{:8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6}  {}",
            "", "likes", "retweets", "replies", "views", "behind", "peers", self.note
        )];
        for (index, node) in nodes.iter().enumerate() {
            let mut total = TweetStats::default();
            for tweet in 0..ledger.len() {
                add(&mut total, &node.stats.get_all(&crowd::id(tweet)).await?);
            }
            let (behind, peers) = node.lag();
            lines.push(format!(
                "{} {behind:>7} {peers:>6}",
                row(&format!("node {index}"), &total)
            ));
        }
        let mut total = TweetStats::default();
        ledger.iter().for_each(|counts| add(&mut total, counts));
        lines.push(row("ledger", &total));
        let mut out = stdout().lock();
        if out.is_terminal() && self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        for line in &lines {
            let clear = if out.is_terminal() { "\x1b[K" } else { "" };
            writeln!(out, "{line}{clear}")?;
        }
        out.flush()?;
        self.drawn = lines.len();
        Ok(())
    }
}

fn row(name: &str, counts: &TweetStats) -> String {
    let TweetStats {
        likes,
        retweets,
        replies,
        views,
    } = counts;
    format!("{name:8} {likes:>8} {retweets:>8} {replies:>8} {views:>8}")
}

fn add(total: &mut TweetStats, counts: &TweetStats) {
    total.likes += counts.likes;
    total.retweets += counts.retweets;
    total.replies += counts.replies;
    total.views += counts.views;
}
