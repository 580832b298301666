use std::str::FromStr;

use cid::Cid;
use crdt_ds::datastore::{Batch, Key, Query};
use crdt_ds::stats::Stat;
use data_encoding::HEXLOWER_PERMISSIVE;
use libp2p::Multiaddr;

use super::Result;

/// What can be typed.
#[derive(Debug)]
pub(crate) enum Command {
    Put(Key, Vec<u8>),
    /// So many puts, each a delta.
    PutMany(Key, usize),
    Get(Key, Shown),
    Delete(Key),
    Query(Query, Shown),
    Count(Key),
    Batch(Batch),
    Heads,
    Peers,
    Dial(Multiaddr),
    HangUp,
    Block(Cid),
    Add(String, Stat, u64),
    Subtract(String, Stat, u64),
    Total(String, Stat),
    Stats,
    /// Waits so many seconds at most.
    Sync(u64),
    Dot,
    Watch(Key),
    Help,
    Quit,
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Text,
    Hex,
}

/// The commands, and what they do.
pub(crate) const HELP: &[(&str, &str)] = &[
    (
        "put KEY VALUE",
        "set a key; puthex takes the value in hexadecimal",
    ),
    ("get KEY", "show a value; gethex in hexadecimal"),
    ("del KEY", "delete a key"),
    ("batch K=V … -K …", "put and delete all at once"),
    (
        "list [PREFIX]",
        "show keys and values; listhex in hexadecimal",
    ),
    (
        "query PREFIX [limit N] [after KEY] [reverse]",
        "show some keys and values, in order",
    ),
    ("count [PREFIX]", "count keys"),
    (
        "putn PREFIX N",
        "N puts of 100 bytes, each a block of its own",
    ),
    (
        "heads",
        "show where the history ends, and whether some of it is missing",
    ),
    ("dot", "show the history as a graph, for Graphviz"),
    ("block CID", "show a stored block in hexadecimal"),
    ("watch [PREFIX]", "show changes from now on"),
    (
        "sync [SECONDS]",
        "wait until everything that peers announced is here",
    ),
    ("peers", "show who is connected"),
    ("dial ADDRESS", "connect to a node"),
    ("hangup", "close every connection, until the next dial"),
    (
        "add SUBJECT STAT N",
        "count, as in add tweet-1 likes 1; needs --count-as",
    ),
    ("subtract SUBJECT STAT N", "count down; needs --count-as"),
    (
        "total SUBJECT STAT",
        "show what all nodes counted; needs --count-as",
    ),
    ("stats", "show what the node keeps, and its traffic"),
    ("help", "show this"),
    ("quit", "close the node"),
];

impl FromStr for Command {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(line: &str) -> Result<Self> {
        let line = line.trim();
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let first = || rest.split_once(' ').unwrap_or((rest, ""));
        Ok(match name {
            "put" => Self::Put(key(first().0)?, first().1.into()),
            "puthex" => Self::Put(
                key(first().0)?,
                HEXLOWER_PERMISSIVE.decode(first().1.trim().as_bytes())?,
            ),
            "putn" => Self::PutMany(key(first().0)?, first().1.trim().parse()?),
            "get" => Self::Get(key(rest)?, Shown::Text),
            "gethex" => Self::Get(key(rest)?, Shown::Hex),
            "del" => Self::Delete(key(rest)?),
            "list" => Self::Query(Query::new().prefix(Key::new(rest)), Shown::Text),
            "listhex" => Self::Query(Query::new().prefix(Key::new(rest)), Shown::Hex),
            "query" => Self::Query(query(rest)?, Shown::Text),
            "count" => Self::Count(Key::new(rest)),
            "batch" => Self::Batch(batch(rest)?),
            "heads" => Self::Heads,
            "peers" => Self::Peers,
            "dial" => Self::Dial(rest.parse()?),
            "hangup" => Self::HangUp,
            "block" => Self::Block(rest.parse()?),
            "add" => {
                let (subject, stat, n) = amount(rest)?;
                Self::Add(subject, stat, n)
            }
            "subtract" => {
                let (subject, stat, n) = amount(rest)?;
                Self::Subtract(subject, stat, n)
            }
            "total" => {
                let (subject, stat) = counter(rest)?;
                Self::Total(subject, stat)
            }
            "stats" => Self::Stats,
            "sync" if rest.is_empty() => Self::Sync(30),
            "sync" => Self::Sync(rest.parse()?),
            "dot" => Self::Dot,
            "watch" => Self::Watch(Key::new(rest)),
            "help" => Self::Help,
            "quit" | "exit" => Self::Quit,
            _ => return Err(format!("there is no command {name:?}; try help").into()),
        })
    }
}

fn key(text: &str) -> Result<Key> {
    match text {
        "" => Err("a key is missing".into()),
        text => Ok(Key::new(text)),
    }
}

/// `SUBJECT STAT N`
fn amount(text: &str) -> Result<(String, Stat, u64)> {
    let (counted, n) = text.rsplit_once(' ').ok_or("how many?")?;
    let (subject, stat) = counter(counted)?;
    Ok((subject, stat, n.parse()?))
}

/// `SUBJECT STAT`
fn counter(text: &str) -> Result<(String, Stat)> {
    let (subject, stat) = text
        .rsplit_once(' ')
        .ok_or("which stat of which subject?")?;
    Ok((subject.to_owned(), Stat::new(stat.to_owned())))
}

fn batch(text: &str) -> Result<Batch> {
    let mut batch = Batch::new();
    for change in text.split_whitespace() {
        match (change.split_once('='), change.strip_prefix('-')) {
            (Some((key, value)), _) => batch.put(Key::new(key), value.as_bytes().to_vec()),
            (None, Some(key)) => batch.delete(Key::new(key)),
            (None, None) => return Err(format!("neither K=V nor -K: {change:?}").into()),
        }
    }
    Ok(batch)
}

fn query(text: &str) -> Result<Query> {
    let mut words = text.split_whitespace();
    let mut query = Query::new().prefix(Key::new(words.next().unwrap_or("/")));
    while let Some(word) = words.next() {
        query = match word {
            "limit" => query.limit(words.next().ok_or("limit of how many?")?.parse()?),
            "after" => query.start_after(Key::new(words.next().ok_or("after which key?")?)),
            "reverse" => query.reversed(),
            _ => return Err(format!("neither limit, after nor reverse: {word:?}").into()),
        };
    }
    Ok(query)
}
