//! What real networks hold beside good blocks.

use super::Notes;
use crate::convergence::{Judged, converge, until, until_value};
use crate::failure::Failure;
use crate::lab::{Lab, connect};
use crate::model::put_delta;
use crate::node::{Kind, Node, Settings};
use cid::Cid;
use std::collections::BTreeSet;
use std::time::Duration;

/// The multicodec of DAG-CBOR.
const DAG_CBOR: u64 = 0x71;

const WANTED_LIMIT: Duration = Duration::from_secs(60);

/// Go writes above holes, so there are blocks whose links nobody can serve any more.
pub(super) async fn hole(lab: &Lab) -> Result<Notes, Failure> {
    let newest_first = Settings::default().rust_flags(&["--newest-first"]);
    let (mut go, mut ours) = lab.pair_with(Kind::Go, Kind::Rust, &newest_first).await?;
    go.tell("put /ordinary 1").await?;
    until_value(&mut ours, "/ordinary", Some("1")).await?;

    let lost_delta = put_delta("/lost", "found", 1);
    let lost = go.raw_block(&[], &lost_delta).await?;
    let above = go.raw_block(&[lost], &put_delta("/above", "1", 2)).await?;
    let top = go.raw_block(&[above], &put_delta("/top", "1", 3)).await?;
    go.tell(&format!("forget {lost}")).await?;
    go.tell(&format!("announce {top}")).await?;

    until_value(&mut ours, "/top", Some("1")).await?;
    until_value(&mut ours, "/above", Some("1")).await?;
    until_wanted(&mut ours, &[lost]).await?;
    if let Some(value) = ours.get("/lost").await? {
        return Err(Failure::Wrong(format!(
            "the lost block's key holds {value:?}"
        )));
    }
    // The hole does not keep ours from writing, nor from being heard.
    ours.tell("put /on-top 1").await?;
    until_value(&mut go, "/on-top", Some("1")).await?;

    // It turns up after all.
    go.raw_block(&[], &lost_delta).await?;
    until_value(&mut ours, "/lost", Some("found")).await?;
    until_wanted(&mut ours, &[]).await?;
    Ok(Notes::new())
}

async fn until_wanted(node: &mut Node, expected: &[Cid]) -> Result<(), Failure> {
    let expected: BTreeSet<Cid> = expected.iter().copied().collect();
    until(WANTED_LIMIT, async || {
        let wanted = node.wanted().await?;
        Ok((wanted != expected).then(|| format!("wanted: {wanted:?}, not {expected:?}")))
    })
    .await
}

/// A node that writes the other format shares a topic with a Go network by mistake.
pub(super) async fn stray_dag_cbor(lab: &Lab) -> Result<Notes, Failure> {
    let (mut go, mut ours) = lab.pair(Kind::Go, Kind::Rust).await?;
    go.tell("put /before 1").await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;

    let dag_cbor = Settings {
        rust_flags: vec!["--format", "dag-cbor"],
        ..Settings::default()
    };
    let mut stray = lab.start(Kind::Rust, &dag_cbor).await?;
    connect(&mut stray, &mut go).await?;
    connect(&mut stray, &mut ours).await?;
    stray.tell("put /stray 1").await?;
    let Some(head) = stray.heads().await?.pop_first() else {
        return Err(Failure::Wrong(
            "the stray node wrote, and has no head".to_owned(),
        ));
    };
    // Whatever gossip did with it: this surely reaches both.
    go.tell(&format!("announce {head}")).await?;
    // And one that nobody has. Go's blockstore knows blocks by multihash alone.
    let forgotten = go.raw_block(&[], b"nobody has this").await?;
    go.tell(&format!("forget {forgotten}")).await?;
    go.tell(&format!(
        "announce {}",
        Cid::new_v1(DAG_CBOR, *forgotten.hash())
    ))
    .await?;

    go.tell("put /after-from-go 1").await?;
    ours.tell("put /after-from-ours 1").await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    for node in [&mut go, &mut ours] {
        until_value(node, "/after-from-go", Some("1")).await?;
        until_value(node, "/after-from-ours", Some("1")).await?;
        if node.get("/stray").await?.is_some() {
            return Err(Failure::Wrong(format!(
                "{} merged the other format",
                node.kind
            )));
        }
    }
    until_value(&mut stray, "/stray", Some("1")).await?;
    Ok(Notes::new())
}
