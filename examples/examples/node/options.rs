use std::path::PathBuf;

use clap::Parser;
use crdt_ds::block::Format;
use libp2p::Multiaddr;

/// A replica of a key-value store, in a network of others.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Where the data lies: `memory`, or `fjall:DIR`.
    #[arg(long, default_value = "memory", value_parser = store)]
    pub(crate) store: Store,
    /// How blocks are written: dag-cbor, or dag-pb for a network with go-ds-crdt nodes.
    #[arg(long, default_value = "dag-cbor", value_parser = format)]
    pub(crate) format: Format,
    /// The network that the store belongs to, for life.
    #[arg(long, default_value = "")]
    pub(crate) network: String,
    /// Where heads are announced; by default a topic that names the format and the network.
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// Where the replica's rows lie in the store.
    #[arg(long, default_value = "/crdt")]
    pub(crate) namespace: String,
    /// The DAG name to write under.
    #[arg(long, default_value = "")]
    pub(crate) dag: String,
    /// An address to listen on; more by repeating it.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/0")]
    pub(crate) listen: Vec<Multiaddr>,
    /// A node to be connected to, also again when the connection is lost; more by repeating it.
    #[arg(long)]
    pub(crate) dial: Vec<Multiaddr>,
    /// The file of the node's key, made if it is not there; by default a new key each time.
    #[arg(long)]
    pub(crate) identity: Option<PathBuf>,
    /// The file of a private network's key (`swarm.key`).
    #[arg(long)]
    pub(crate) psk: Option<PathBuf>,
    /// Find nodes in the local network.
    #[arg(long)]
    pub(crate) mdns: bool,
    /// How often, in seconds, heads are announced again that nobody else announced.
    #[arg(long)]
    pub(crate) rebroadcast: Option<u64>,
    /// Merge a foreign history newest first, as go-ds-crdt does.
    #[arg(long)]
    pub(crate) newest_first: bool,
    /// Count as this node, with `add` and `subtract`: in a store of dag-pb where the Warpnet app does. Of
    /// those that count in a network, no two have one name.
    #[arg(long, value_name = "NODE")]
    pub(crate) count_as: Option<String>,
    /// Speak JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn topic(&self) -> String {
        let default = || match self.network.as_str() {
            "" => format!("crdt-ds/{}", self.format),
            network => format!("crdt-ds/{}/{network}", self.format),
        };
        self.topic.clone().unwrap_or_else(default)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Store {
    Memory,
    Fjall(PathBuf),
}

fn store(text: &str) -> Result<Store, String> {
    match text.split_once(':') {
        None if text == "memory" => Ok(Store::Memory),
        Some(("fjall", dir)) if !dir.is_empty() => Ok(Store::Fjall(dir.into())),
        _ => Err("it is memory or fjall:DIR".to_owned()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    [Format::DagCbor, Format::DagPb]
        .into_iter()
        .find(|format| format.name() == text)
        .ok_or_else(|| "it is dag-cbor or dag-pb".to_owned())
}
