//! A node under test: a process that is told what to do line by line.

use crate::failure::Failure;
use cid::Cid;
use data_encoding::HEXLOWER;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a node may take to answer one command. The slowest is a thousand puts.
const REPLY_LIMIT: Duration = Duration::from_secs(120);

/// How long the Go node tries to fetch a block before it gives up the branch.
const GO_FETCH_TIMEOUT_SECS: &str = "10";

/// Visible keys and values.
pub(crate) type State = BTreeMap<String, Vec<u8>>;

/// Which implementation a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Go,
    Rust,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Go => "Go",
            Kind::Rust => "Rust",
        })
    }
}

/// The programs to start, and where their stores and logs go.
pub(crate) struct Programs {
    pub(crate) go: PathBuf,
    pub(crate) rust: PathBuf,
    pub(crate) logs: PathBuf,
}

/// What a node is started with, beside what all of them are.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A folder for the store; without it the store is in memory.
    pub(crate) disk: Option<PathBuf>,
    /// The file of a pre-shared key.
    pub(crate) psk: Option<PathBuf>,
    /// The node id that it counts under.
    pub(crate) count_as: Option<&'static str>,
    /// Flags of the Rust node alone.
    pub(crate) rust_flags: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            disk: None,
            psk: None,
            count_as: None,
            rust_flags: vec!["--format", "dag-pb"],
        }
    }
}

impl Settings {
    /// Adds a flag of the Rust node, which a Go node goes without.
    pub(crate) fn rust_flags(mut self, flags: &[&'static str]) -> Self {
        self.rust_flags.extend(flags);
        self
    }
}

/// A running node. Dropping it kills the process.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// The multiaddr to dial it at, with its peer id.
    pub(crate) address: String,
    child: Child,
    commands: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Node {
    /// Starts a node on a free loopback port and waits until it listens.
    pub(crate) async fn start(
        programs: &Programs,
        kind: Kind,
        settings: &Settings,
    ) -> Result<Node, Failure> {
        let mut command = programs.command(kind, settings);
        let log = tempfile::Builder::new()
            .prefix(&format!("{kind}-"))
            .suffix(".log")
            .disable_cleanup(true)
            .tempfile_in(&programs.logs)?;
        let start_error = |program: &std::ffi::OsStr, source| Failure::Start {
            program: program.to_string_lossy().into_owned(),
            source,
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.into_file())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| start_error(command.as_std().get_program(), source))?;
        let (Some(commands), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            let source = std::io::Error::other("its pipes are not there");
            return Err(start_error(command.as_std().get_program(), source));
        };
        let replies = BufReader::new(output).lines();
        let mut node = Node {
            kind,
            address: String::new(),
            child,
            commands,
            replies,
        };
        let greeting = node.reply("(start)").await?;
        node.address = greeting
            .get("listening")
            .and_then(Value::as_array)
            .and_then(|addresses| addresses.first())
            .and_then(Value::as_str)
            .ok_or_else(|| node.unexpected("(start)", greeting.clone()))?
            .to_owned();
        Ok(node)
    }

    /// Sends a command and returns its answer, an `error` excepted.
    pub(crate) async fn ask(&mut self, command: &str) -> Result<Value, Failure> {
        let line = format!("{command}\n");
        if let Err(source) = self.commands.write_all(line.as_bytes()).await {
            return Err(Failure::Pipe {
                node: self.kind.to_string(),
                source,
            });
        }
        let reply = self.reply(command).await?;
        if reply.get("error").is_some() {
            return Err(self.unexpected(command, reply));
        }
        Ok(reply)
    }

    /// Sends a command whose answer says no more than that it is done.
    pub(crate) async fn tell(&mut self, command: &str) -> Result<(), Failure> {
        self.ask(command).await.map(drop)
    }

    async fn reply(&mut self, command: &str) -> Result<Value, Failure> {
        let read = tokio::time::timeout(REPLY_LIMIT, self.replies.next_line()).await;
        let node = self.kind.to_string();
        let command = command.chars().take(80).collect();
        match read {
            Ok(Ok(Some(line))) => serde_json::from_str(&line).map_err(|_| Failure::Reply {
                node,
                command,
                reply: Value::String(line),
            }),
            Ok(Ok(None)) => Err(Failure::Ended { node, command }),
            Ok(Err(source)) => Err(Failure::Pipe { node, source }),
            Err(_) => Err(Failure::NoReply {
                node,
                command,
                seconds: REPLY_LIMIT.as_secs(),
            }),
        }
    }

    fn unexpected(&self, command: &str, reply: Value) -> Failure {
        let command = command.chars().take(80).collect();
        Failure::Reply {
            node: self.kind.to_string(),
            command,
            reply,
        }
    }

    /// A string field of a reply, `None` when it is null.
    async fn text(&mut self, command: &str, field: &str) -> Result<Option<String>, Failure> {
        let reply = self.ask(command).await?;
        match reply.get(field) {
            Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            _ => Err(self.unexpected(command, reply)),
        }
    }

    /// A list of strings in a reply.
    async fn texts(&mut self, command: &str, field: &str) -> Result<Vec<String>, Failure> {
        let reply = self.ask(command).await?;
        let list = reply.get(field).and_then(Value::as_array);
        list.and_then(|list| {
            list.iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect()
        })
        .ok_or_else(|| self.unexpected(command, reply.clone()))
    }

    pub(crate) async fn get(&mut self, key: &str) -> Result<Option<String>, Failure> {
        self.text(&format!("get {key}"), "value").await
    }

    /// How many keys it has below a prefix.
    pub(crate) async fn count(&mut self, prefix: &str) -> Result<u64, Failure> {
        self.number(&format!("count {prefix}"), "count").await
    }

    /// What all nodes counted, as far as this one knows.
    pub(crate) async fn total(&mut self, subject: &str, stat: &str) -> Result<u64, Failure> {
        self.number(&format!("total {subject} {stat}"), "total")
            .await
    }

    async fn number(&mut self, command: &str, field: &str) -> Result<u64, Failure> {
        let reply = self.ask(command).await?;
        let number = reply.get(field).and_then(Value::as_u64);
        number.ok_or_else(|| self.unexpected(command, reply))
    }

    pub(crate) async fn state(&mut self) -> Result<State, Failure> {
        let reply = self.ask("listhex").await?;
        let hex_state = reply.get("state").and_then(Value::as_object);
        hex_state
            .and_then(|entries| {
                let decode = |value: &Value| HEXLOWER.decode(value.as_str()?.as_bytes()).ok();
                entries
                    .iter()
                    .map(|(key, value)| Some((key.clone(), decode(value)?)))
                    .collect()
            })
            .ok_or_else(|| self.unexpected("listhex", reply.clone()))
    }

    pub(crate) async fn heads(&mut self) -> Result<BTreeSet<Cid>, Failure> {
        self.cids("heads").await
    }

    /// The blocks that this (Rust) node lacks and knows of.
    pub(crate) async fn wanted(&mut self) -> Result<BTreeSet<Cid>, Failure> {
        self.cids("missing").await
    }

    async fn cids(&mut self, field: &str) -> Result<BTreeSet<Cid>, Failure> {
        let texts = self.texts("heads", field).await?;
        texts.iter().map(|text| parse_cid(text)).collect()
    }

    /// A block's bytes from the node's own store.
    pub(crate) async fn block(&mut self, cid: &Cid) -> Result<Option<Vec<u8>>, Failure> {
        let Some(hex) = self.text(&format!("block {cid}"), "block").await? else {
            return Ok(None);
        };
        let bytes = HEXLOWER
            .decode(hex.as_bytes())
            .map_err(|error| Failure::Block {
                cid: cid.to_string(),
                reason: error.to_string(),
            })?;
        Ok(Some(bytes))
    }

    /// Makes a Go node store a block of ours, and says which it is.
    pub(crate) async fn raw_block(&mut self, links: &[Cid], data: &[u8]) -> Result<Cid, Failure> {
        let links = match links {
            [] => "-".to_owned(),
            _ => links
                .iter()
                .map(Cid::to_string)
                .collect::<Vec<_>>()
                .join(","),
        };
        let command = format!("rawblock {links} {}", HEXLOWER.encode(data));
        let text = self.text(&command, "cid").await?.unwrap_or_default();
        parse_cid(&text)
    }

    pub(crate) async fn peers(&mut self) -> Result<usize, Failure> {
        Ok(self.texts("peers", "peers").await?.len())
    }

    /// Kills the node's process (SIGKILL), and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        let node = self.kind.to_string();
        let killed = self.child.kill().await;
        killed.map_err(|source| Failure::Pipe { node, source })
    }

    /// Ends the node as a user would, and waits until it is gone.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        self.tell("quit").await?;
        let node = self.kind.to_string();
        let ended = tokio::time::timeout(REPLY_LIMIT, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::Wrong(format!("{node} quit with {status}"))),
            Ok(Err(source)) => Err(Failure::Pipe { node, source }),
            Err(_) => Err(Failure::NoReply {
                node,
                command: "quit".to_owned(),
                seconds: REPLY_LIMIT.as_secs(),
            }),
        }
    }
}

impl Programs {
    fn command(&self, kind: Kind, settings: &Settings) -> Command {
        let (program, persistent) = match kind {
            Kind::Go => (&self.go, "pebble"),
            Kind::Rust => (&self.rust, "fjall"),
        };
        let mut command = Command::new(program);
        // Bursts of announcements get lost, as on any gossip: rebroadcasts make good for them.
        command.args(["--topic", "interop", "--rebroadcast", "1"]);
        match kind {
            Kind::Go => command.args(["--fetch-timeout", GO_FETCH_TIMEOUT_SECS]),
            Kind::Rust => command.arg("--json").args(&settings.rust_flags),
        };
        match &settings.disk {
            Some(dir) => command
                .arg("--store")
                .arg(format!("{persistent}:{}", dir.display())),
            None => command.args(["--store", "memory"]),
        };
        if let Some(psk) = &settings.psk {
            command.arg("--psk").arg(psk);
        }
        if let Some(node) = settings.count_as {
            command.args(["--count-as", node]);
        }
        command
    }
}

fn parse_cid(text: &str) -> Result<Cid, Failure> {
    Cid::try_from(text).map_err(|error| Failure::Block {
        cid: text.to_owned(),
        reason: error.to_string(),
    })
}
