//! Waiting until nodes agree with each other, and with the model.

use crate::failure::Failure;
use crate::model::History;
use crate::node::{Kind, Node, State};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long nodes may take to get where they must get. Go fetches about 48 blocks a second, gives
/// up a fetch after 10 s, and goes on then: this is far above all of it.
const LIMIT: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(20);

/// Polls until `obstacle` finds none.
pub(crate) async fn until(
    limit: Duration,
    mut obstacle: impl AsyncFnMut() -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    while let Some(obstacle) = obstacle().await? {
        if Instant::now() >= deadline {
            return Err(Failure::Timeout {
                seconds: limit.as_secs(),
                obstacle,
            });
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Waits until `node` reads `value` under `key`.
pub(crate) async fn until_value(
    node: &mut Node,
    key: &str,
    value: Option<&str>,
) -> Result<(), Failure> {
    until(LIMIT, async || {
        let found = node.get(key).await?;
        let kind = node.kind;
        Ok((found.as_deref() != value)
            .then(|| format!("{kind} reads {found:?} under {key}, not {value:?}")))
    })
    .await
}

/// Waits until `node` has `count` keys below `prefix`.
pub(crate) async fn until_count(node: &mut Node, prefix: &str, count: u64) -> Result<(), Failure> {
    until(LIMIT, async || {
        let found = node.count(prefix).await?;
        let kind = node.kind;
        Ok((found != count).then(|| format!("{kind} has {found} of {count} keys below {prefix}")))
    })
    .await
}

/// Waits until `node` reads `total` of a stat.
pub(crate) async fn until_total(
    node: &mut Node,
    subject: &str,
    stat: &str,
    total: u64,
) -> Result<(), Failure> {
    until(LIMIT, async || {
        let found = node.total(subject, stat).await?;
        let kind = node.kind;
        Ok((found != total)
            .then(|| format!("{kind} reads {found} {stat} of {subject}, not {total}")))
    })
    .await
}

/// Waits until `node` has exactly, or at least, so many connections.
pub(crate) async fn until_peers(
    node: &mut Node,
    enough: impl Fn(usize) -> bool,
) -> Result<(), Failure> {
    until(LIMIT, async || {
        let peers = node.peers().await?;
        let kind = node.kind;
        Ok((!enough(peers)).then(|| format!("{kind} has {peers} peers")))
    })
    .await
}

/// Whose state is compared with the model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    All,
    Ours,
}

/// Waits until all nodes hold the same whole history, the judged ones have the model's state, and
/// the heads of ours are its tips. Returns how many blocks it has.
pub(crate) async fn converge(nodes: &mut [&mut Node], judged: Judged) -> Result<usize, Failure> {
    converge_within(LIMIT, nodes, judged).await
}

/// As [`converge`], within `limit`.
pub(crate) async fn converge_within(
    limit: Duration,
    nodes: &mut [&mut Node],
    judged: Judged,
) -> Result<usize, Failure> {
    let mut blocks = 0;
    until(limit, async || {
        let mut roots = BTreeSet::new();
        for node in nodes.iter_mut() {
            roots.extend(node.heads().await?);
        }
        for node in nodes.iter_mut() {
            let history = History::read(node, &roots).await?;
            let kind = node.kind;
            if let Some(cid) = history.missing.first() {
                let missing = history.missing.len();
                return Ok(Some(format!("{kind} lacks {missing} blocks, {cid} first")));
            }
            if kind == Kind::Go && judged == Judged::Ours {
                continue;
            }
            if let Some(difference) = difference(&node.state().await?, &history.state()) {
                return Ok(Some(format!("{kind} differs from the model: {difference}")));
            }
            // Go may keep ancestors as heads.
            if kind == Kind::Rust {
                let (heads, tips) = (node.heads().await?, history.tips());
                if heads != tips {
                    return Ok(Some(format!(
                        "{kind} has heads {heads:?}, the tips are {tips:?}"
                    )));
                }
            }
            blocks = history.len();
        }
        Ok(None)
    })
    .await?;
    Ok(blocks)
}

/// The first key on which two states differ.
fn difference(found: &State, expected: &State) -> Option<String> {
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let key = keys
        .into_iter()
        .find(|key| found.get(*key) != expected.get(*key))?;
    let show = |state: &State| match state.get(key) {
        Some(value) => format!("{:?}", String::from_utf8_lossy(value)),
        None => "nothing".to_owned(),
    };
    Some(format!(
        "{key} holds {}, not {}",
        show(found),
        show(expected)
    ))
}
