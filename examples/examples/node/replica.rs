use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crdt_ds::block::{DagName, Format};
use crdt_ds::datastore::{Datastore, DatastoreExt, Entry, Key, Query};
use crdt_ds::net::{Node, identity_file, psk_file};
use crdt_ds::stats::{Layout, StatsOptions, StatsStore};
use crdt_ds::sync::Peers;
use crdt_ds::{CrdtDatastore, Cursor};
use data_encoding::HEXLOWER;
use datastore_backends::{FjallDatastore, MemoryDatastore};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};

use super::Result;
use super::command::{Command, HELP, Shown};
use super::options::{Options, Store};

/// A replica, the network it is in, and the store it lies in.
pub(crate) struct Replica {
    pub(crate) store: CrdtDatastore,
    below: Arc<dyn Datastore>,
    node: Node,
    dag: DagName,
    counters: Option<StatsStore>,
}

/// Above the counters of a store that is in no network with the Warpnet app.
const COUNTERS: &str = "stats";

impl Replica {
    pub(crate) async fn open(options: Options) -> Result<Self> {
        let mut node = Node::builder();
        if let Some(path) = &options.identity {
            node = node.identity(identity_file(path)?);
        }
        if let Some(path) = &options.psk {
            node = node.private_network(psk_file(path)?);
        }
        node = options
            .listen
            .iter()
            .cloned()
            .fold(node, |node, address| node.listen(address));
        node = options
            .dial
            .iter()
            .cloned()
            .fold(node, |node, address| node.dial(address));
        let node = node.mdns(options.mdns).start().await?;

        let below: Arc<dyn Datastore> = match &options.store {
            Store::Memory => Arc::new(MemoryDatastore::new()),
            Store::Fjall(dir) => Arc::new(FjallDatastore::open(dir).await?),
        };
        let mut store = CrdtDatastore::builder(below.clone())
            .transport(node.topic(&options.topic()))
            .format(options.format)
            .network(&options.network)
            .namespace(Key::new(&options.namespace));
        if let Some(seconds) = options.rebroadcast {
            store = store.rebroadcast_interval(Duration::from_secs(seconds));
        }
        if options.newest_first {
            store = store.newest_first();
        }
        let store = store.open().await?;
        let mut counters = None;
        if let Some(node) = &options.count_as {
            let mut stats = StatsOptions::default();
            stats.layout = match options.format {
                Format::DagCbor => Layout::Slots,
                Format::DagPb => Layout::IncrDecr,
            };
            counters = Some(StatsStore::open(store.clone(), COUNTERS, node, stats).await?);
        }
        Ok(Self {
            store,
            below,
            node,
            dag: DagName::new(options.dag),
            counters,
        })
    }

    pub(crate) async fn listening(&self) -> Result<Vec<String>> {
        Ok(self
            .node
            .listening()
            .await?
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    /// Closes from the top down: what is queued gets out, and is on disk.
    pub(crate) async fn close(&self) -> Result<()> {
        if let Some(counters) = &self.counters {
            counters.close().await?;
        }
        self.store.close().await?;
        self.node.close().await;
        Ok(self.below.close().await?)
    }

    pub(crate) async fn run(&self, command: Command) -> Result<Value> {
        let done = json!({ "ok": true });
        let view = self.store.dag(self.dag.clone());
        Ok(match command {
            Command::Put(key, value) => {
                view.put(&key, value.into()).await?;
                done
            }
            Command::PutMany(prefix, count) => {
                for at in 0..count {
                    let key = prefix.child_str(&at.to_string());
                    view.put(&key, format!("{at:0100}").into()).await?;
                }
                done
            }
            Command::Get(key, shown) => {
                let value = self.store.get(&key).await?;
                json!({ "value": value.map(|value| show(&value, shown)) })
            }
            Command::Delete(key) => {
                view.delete(&key).await?;
                done
            }
            Command::Batch(batch) => {
                view.write(batch).await?;
                done
            }
            Command::Query(query, shown) => {
                let entries: Vec<Entry> = self.store.query_all(query).await?;
                let state: Map<String, Value> = entries
                    .into_iter()
                    .map(|entry| {
                        let value = entry.value.unwrap_or_default();
                        (entry.key.as_str().to_owned(), show(&value, shown).into())
                    })
                    .collect();
                json!({ "state": state })
            }
            Command::Count(prefix) => {
                let query = Query::new().prefix(prefix).keys_only();
                let keys = self.store.query(query).await?;
                let count = keys.try_fold(0u64, async |count, _| Ok(count + 1)).await?;
                json!({ "count": count })
            }
            Command::Heads => self.heads(),
            Command::Peers => {
                let peers = self.node.peers().await?;
                json!({ "peers": peers.iter().map(ToString::to_string).collect::<Vec<_>>() })
            }
            Command::Dial(address) => {
                self.node.dial(address).await?;
                done
            }
            Command::HangUp => {
                self.node.hang_up().await?;
                done
            }
            Command::Block(cid) => {
                let block = self.store.block(&cid).await?;
                json!({ "block": block.map(|block| HEXLOWER.encode(block.bytes())) })
            }
            Command::Add(subject, stat, n) => {
                self.counters()?.add(&subject, &stat, n).await?;
                done
            }
            Command::Subtract(subject, stat, n) => {
                self.counters()?.subtract(&subject, &stat, n).await?;
                done
            }
            Command::Total(subject, stat) => {
                json!({ "total": self.counters()?.get(&subject, &stat).await? })
            }
            Command::Stats => self.stats(),
            Command::Sync(seconds) => {
                self.store
                    .wait_for_sync(Peers::Any, Duration::from_secs(seconds))
                    .await?;
                done
            }
            Command::Dot => json!({ "dot": self.dot().await? }),
            Command::Watch(_) => return Err("watching needs a prompt".into()),
            Command::Help => {
                let help: Map<String, Value> = HELP
                    .iter()
                    .map(|(command, what)| ((*command).to_owned(), (*what).into()))
                    .collect();
                json!({ "help": help })
            }
            Command::Quit => done,
        })
    }

    fn counters(&self) -> Result<&StatsStore> {
        let none = "nobody counts here: start the node with --count-as";
        self.counters.as_ref().ok_or_else(|| none.into())
    }

    fn heads(&self) -> Value {
        let heads = self.store.heads();
        let status = self.store.sync_status();
        let missing: Vec<String> = status.unserved.iter().map(ToString::to_string).collect();
        json!({
            "heads": heads.iter().map(|head| head.cid.to_string()).collect::<Vec<_>>(),
            "height": heads.iter().map(|head| head.priority).max().unwrap_or_default(),
            "digest": HEXLOWER.encode(&self.store.digests().state),
            "pending": status.pending,
            "wanted": status.wanted,
            "missing": missing,
        })
    }

    fn stats(&self) -> Value {
        let (info, status) = (self.store.info(), self.store.sync_status());
        let traffic: Map<String, Value> = self
            .node
            .traffic()
            .into_iter()
            .map(|(peer, traffic)| {
                let of = json!({
                    "blocks in": traffic.blocks_in,
                    "bytes in": traffic.bytes_in,
                    "blocks out": traffic.blocks_out,
                    "bytes out": traffic.bytes_out,
                });
                (peer.to_string(), of)
            })
            .collect();
        json!({
            "keys": info.keys,
            "blocks": info.blocks,
            "hidden versions": info.hidden_versions,
            "sync": status.to_string(),
            "traffic": traffic,
        })
    }

    /// The merged blocks, each with an arrow to those it builds on.
    async fn dot(&self) -> Result<String> {
        let mut text = String::from("digraph history {\n");
        let mut blocks = std::pin::pin!(self.store.traverse(Cursor::default()));
        while let Some(block) = blocks.next().await.transpose()? {
            let (cid, node) = (block.block.cid(), &block.node);
            let changes = node.delta.puts.len() + node.delta.deletes.len();
            let label = format!("{} changes, priority {}", changes, node.delta.priority);
            writeln!(text, "  \"{cid}\" [label=\"{label}\"]")?;
            for link in &node.links {
                writeln!(text, "  \"{cid}\" -> \"{link}\"")?;
            }
        }
        text.push('}');
        Ok(text)
    }
}

fn show(value: &[u8], shown: Shown) -> String {
    match shown {
        Shown::Text => String::from_utf8_lossy(value).into_owned(),
        Shown::Hex => HEXLOWER.encode(value),
    }
}
