//! A fresh node gets a history that is already there.

use super::Notes;
use crate::convergence::{Judged, converge, until_count};
use crate::failure::Failure;
use crate::lab::{Lab, connect};
use crate::node::{Kind, Settings};

const DELTAS: u64 = 1_000;

pub(super) async fn links_first(lab: &Lab) -> Result<Notes, Failure> {
    joins(lab, Kind::Go, lab.ours, &Settings::default()).await
}

pub(super) async fn newest_first(lab: &Lab) -> Result<Notes, Failure> {
    let newest_first = Settings::default().rust_flags(&["--newest-first"]);
    joins(lab, Kind::Go, lab.ours, &newest_first).await
}

pub(super) async fn go_joins(lab: &Lab) -> Result<Notes, Failure> {
    joins(lab, lab.ours, Kind::Go, &Settings::default()).await
}

async fn joins(
    lab: &Lab,
    member: Kind,
    newcomer: Kind,
    newcomer_settings: &Settings,
) -> Result<Notes, Failure> {
    let mut member = lab.start(member, &Settings::default()).await?;
    member.tell(&format!("putn /history {DELTAS}")).await?;
    let mut newcomer = lab.start(newcomer, newcomer_settings).await?;
    connect(&mut newcomer, &mut member).await?;
    until_count(&mut newcomer, "/history", DELTAS).await?;
    converge(&mut [&mut member, &mut newcomer], Judged::All).await?;
    // It builds on what it got, and is heard.
    newcomer.tell("put /history/new 1").await?;
    until_count(&mut member, "/history", DELTAS + 1).await?;
    converge(&mut [&mut member, &mut newcomer], Judged::All).await?;
    Ok(Notes::new())
}

pub(super) async fn through_ours(lab: &Lab) -> Result<Notes, Failure> {
    let (mut writer, mut ours) = lab.pair(Kind::Go, lab.ours).await?;
    writer.tell("putn /legacy 50").await?;
    until_count(&mut ours, "/legacy", 50).await?;
    converge(&mut [&mut writer, &mut ours], Judged::All).await?;
    writer.stop().await?;

    let mut reader = lab.start(Kind::Go, &Settings::default()).await?;
    connect(&mut reader, &mut ours).await?;
    until_count(&mut reader, "/legacy", 50).await?;
    converge(&mut [&mut reader, &mut ours], Judged::All).await?;
    Ok(Notes::new())
}
