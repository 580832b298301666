//! Gives the blocks of a history in a file to a fresh replica, in an order of choice, and prints what
//! becomes of them. Whatever the order, the same comes out.
//!
//! ```sh
//! cargo run --example replay -- crdt-ds/testdata/go/replay-101.json --order shuffled:7
//! ```
//!
//! The file is a JSON object with a field `blocks_hex`: an object of DAG-PB blocks, multihash to bytes,
//! both in hex. Other fields are ignored. Prints one JSON object: `state_hex` (key to value in hex),
//! `heads` (sorted CIDs), `height` (the highest priority of a head), `digest` (of the state, in hex),
//! `blocks` (how many the file holds), `merged` (how many of them took effect: fewer, if links lead out
//! of the file). Exits with 2 if the arguments or the file are wrong, with 1 if the store fails.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use crdt_ds::block::{self, Block, Format};
use crdt_ds::datastore::{Datastore, DatastoreExt, Query};
use crdt_ds::{CrdtDatastore, Options};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use datastore_backends::{FjallDatastore, MemoryDatastore};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

const USAGE: &str = "usage: replay FILE [--store memory|fjall:DIR] \
                     [--order given|shuffled:SEED|reverse] [--newest-first]";

enum Failure {
    /// The caller gave something wrong.
    Input(String),
    Store(String),
}

impl Failure {
    fn store(error: impl Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message += &format!(": {cause}");
            source = cause.source();
        }
        Self::Store(message)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    match run(arguments.map(|argument| argument.to_string_lossy().into_owned())).await {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(Failure::Input(message)) => {
            eprintln!("replay: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Store(message)) => {
            eprintln!("replay: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: impl Iterator<Item = String>) -> Result<Value, Failure> {
    let arguments = Arguments::parse(arguments).map_err(Failure::Input)?;
    let mut blocks = read_history(&arguments.file)
        .map_err(|reason| Failure::Input(format!("{}: {reason}", arguments.file)))?;
    match arguments.order {
        Order::Given => {}
        Order::Shuffled(seed) => blocks.shuffle(&mut StdRng::seed_from_u64(seed)),
        Order::Reverse => blocks.reverse(),
    }
    let store: Arc<dyn Datastore> = match &arguments.store {
        Store::Memory => Arc::new(MemoryDatastore::new()),
        Store::Fjall(path) => Arc::new(FjallDatastore::open(path).await.map_err(Failure::store)?),
    };
    let replica = open(store.clone(), &arguments, blocks.len()).await?;
    let outcome = replay(&replica, blocks).await.map_err(Failure::store)?;
    replica.close().await.map_err(Failure::store)?;
    store.close().await.map_err(Failure::store)?;
    Ok(outcome)
}

async fn open(
    store: Arc<dyn Datastore>,
    arguments: &Arguments,
    blocks: usize,
) -> Result<CrdtDatastore, Failure> {
    let mut options = Options::default();
    // The file bounds how many blocks can wait for one another.
    options.max_pending_bodies = blocks as u64;
    let mut builder = CrdtDatastore::builder(store)
        .options(options)
        .format(Format::DagPb);
    if arguments.newest_first {
        builder = builder.newest_first();
    }
    let replica = builder.open().await.map_err(Failure::store)?;
    if replica.info().blocks > 0 || replica.sync_status().pending > 0 {
        return Err(Failure::Input(format!(
            "{} holds a replica already: give an empty folder",
            arguments.store
        )));
    }
    Ok(replica)
}

async fn replay(replica: &CrdtDatastore, blocks: Vec<Block>) -> crdt_ds::Result<Value> {
    let count = blocks.len();
    let last = blocks.last().cloned();
    replica.import(blocks).await?;
    // A commit merges some of the blocks that have all their links, and the next one goes on: when
    // one more merges nothing, nothing is left to merge.
    let mut merged = 0;
    while merged < replica.info().blocks {
        merged = replica.info().blocks;
        replica.import(last.iter().cloned().collect()).await?;
    }

    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    let state: serde_json::Map<String, Value> = replica
        .query_all(Query::new())
        .await?
        .into_iter()
        .map(|entry| {
            let value = entry.value.unwrap_or_default();
            (entry.key.as_str().to_owned(), hex(&value).into())
        })
        .collect();
    let heads = replica.heads();
    let mut cids: Vec<String> = heads.iter().map(|head| head.cid.to_string()).collect();
    cids.sort();
    Ok(json!({
        "state_hex": state,
        "heads": cids,
        "height": heads.iter().map(|head| head.priority).max().unwrap_or(0),
        "digest": hex(&replica.digests().state),
        "blocks": count,
        "merged": merged,
    }))
}

/// The blocks in a file, in its order, each checked.
fn read_history(path: &str) -> Result<Vec<Block>, String> {
    #[derive(Deserialize)]
    struct History {
        blocks_hex: InOrder,
    }

    let file = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let history: History =
        serde_json::from_slice(&file).map_err(|error| format!("is no history: {error}"))?;
    let InOrder(blocks) = history.blocks_hex;
    let read = |(name, hex): (String, String)| {
        read_block(&name, &hex).map_err(|reason| format!("the block {name:.80} {reason}"))
    };
    blocks.into_iter().map(read).collect()
}

fn read_block(name: &str, hex: &str) -> Result<Block, String> {
    let bytes = HEXLOWER_PERMISSIVE
        .decode(hex.as_bytes())
        .map_err(|error| format!("is not in hex: {error}"))?;
    let block = Block::new(Format::DagPb, Bytes::from(bytes)).map_err(|error| error.to_string())?;
    if !name.eq_ignore_ascii_case(&HEXLOWER.encode(&block.cid().hash().to_bytes())) {
        return Err("has bytes that do not hash to its name".to_owned());
    }
    block::decode(&block, "").map_err(|error| format!("is malformed: {error}"))?;
    Ok(block)
}

/// The members of a JSON object in their order.
struct InOrder(Vec<(String, String)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of blocks")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(InOrder(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

struct Arguments {
    file: String,
    store: Store,
    order: Order,
    newest_first: bool,
}

enum Store {
    Memory,
    Fjall(String),
}

enum Order {
    Given,
    Shuffled(u64),
    Reverse,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut file = None;
        let (mut store, mut order, mut newest_first) = (Store::Memory, Order::Given, false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            match argument.as_str() {
                "--store" => store = Store::parse(&value())?,
                "--order" => order = Order::parse(&value())?,
                "--newest-first" => newest_first = true,
                option if option.starts_with('-') => {
                    return Err(format!("there is no option {option}; {USAGE}"));
                }
                _ if file.is_some() => return Err(format!("one file at a time; {USAGE}")),
                _ => file = Some(argument),
            }
        }
        Ok(Self {
            file: file.ok_or(USAGE)?,
            store,
            order,
            newest_first,
        })
    }
}

impl Store {
    fn parse(value: &str) -> Result<Self, String> {
        match value.split_once(':') {
            None if value == "memory" => Ok(Self::Memory),
            Some(("fjall", path)) if !path.is_empty() => Ok(Self::Fjall(path.to_owned())),
            _ => Err(format!("--store {value} is not memory or fjall:DIR")),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Fjall(path) => f.write_str(path),
        }
    }
}

impl Order {
    fn parse(value: &str) -> Result<Self, String> {
        let wrong = || format!("--order {value} is not given, reverse or shuffled:SEED");
        match value.split_once(':') {
            None if value == "given" => Ok(Self::Given),
            None if value == "reverse" => Ok(Self::Reverse),
            Some(("shuffled", seed)) => seed.parse().map(Self::Shuffled).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}
