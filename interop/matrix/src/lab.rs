//! Where scenarios get their nodes from.

use crate::convergence::until_peers;
use crate::failure::Failure;
use crate::node::{Kind, Node, Programs, Settings};
use std::path::PathBuf;
use tempfile::TempDir;

/// Starts nodes for scenarios, and keeps the files that they need.
pub(crate) struct Lab {
    programs: Programs,
    files: TempDir,
    /// What stands against Go: ours, or Go itself to see what the scenarios do to it.
    pub(crate) ours: Kind,
    /// The seed of the randomised scenarios.
    pub(crate) seed: u64,
}

impl Lab {
    pub(crate) fn new(
        go: PathBuf,
        rust: PathBuf,
        ours: Kind,
        seed: u64,
    ) -> Result<Lab, std::io::Error> {
        let files = tempfile::Builder::new().prefix("interop-").tempdir()?;
        let programs = Programs {
            go,
            rust,
            logs: files.path().to_owned(),
        };
        Ok(Lab {
            programs,
            files,
            ours,
            seed,
        })
    }

    /// Keeps the nodes' logs when the lab ends, and says where they are.
    pub(crate) fn keep_logs(self) -> PathBuf {
        self.files.keep()
    }

    /// A path that no other scenario uses.
    pub(crate) fn fresh_path(&self, name: &str) -> Result<PathBuf, Failure> {
        let dir = tempfile::Builder::new()
            .disable_cleanup(true)
            .tempdir_in(self.files.path())?;
        Ok(dir.path().join(name))
    }

    pub(crate) async fn start(&self, kind: Kind, settings: &Settings) -> Result<Node, Failure> {
        Node::start(&self.programs, kind, settings).await
    }

    /// Two connected nodes with memory stores.
    pub(crate) async fn pair(&self, first: Kind, second: Kind) -> Result<(Node, Node), Failure> {
        self.pair_with(first, second, &Settings::default()).await
    }

    /// Two connected nodes; the second dialled the first.
    pub(crate) async fn pair_with(
        &self,
        first: Kind,
        second: Kind,
        settings: &Settings,
    ) -> Result<(Node, Node), Failure> {
        let mut first = self.start(first, settings).await?;
        let mut second = self.start(second, settings).await?;
        connect(&mut second, &mut first).await?;
        Ok((first, second))
    }
}

/// Connects two nodes, and waits until both say so.
pub(crate) async fn connect(dialler: &mut Node, listener: &mut Node) -> Result<(), Failure> {
    let before = listener.peers().await?;
    dialler.tell(&format!("dial {}", listener.address)).await?;
    until_peers(dialler, |peers| peers > 0).await?;
    until_peers(listener, |peers| peers > before).await
}

/// Cuts two nodes off, each from everybody.
pub(crate) async fn partition(nodes: &mut [&mut Node]) -> Result<(), Failure> {
    for node in nodes.iter_mut() {
        node.tell("hangup").await?;
    }
    for node in nodes.iter_mut() {
        until_peers(node, |peers| peers == 0).await?;
    }
    Ok(())
}

/// Connects two nodes that were cut off. A Go node refuses whoever comes until it dials, so the first
/// dial may fail.
pub(crate) async fn heal(first: &mut Node, second: &mut Node) -> Result<(), Failure> {
    match first.tell(&format!("dial {}", second.address)).await {
        Ok(()) => {
            until_peers(first, |peers| peers > 0).await?;
            until_peers(second, |peers| peers > 0).await
        }
        Err(Failure::Reply { .. }) => connect(second, first).await,
        Err(failure) => Err(failure),
    }
}
