//! Nodes that cannot reach each other for a while.

use super::Notes;
use crate::convergence::{Judged, converge, until_value};
use crate::failure::Failure;
use crate::lab::{self, Lab, connect};
use crate::node::{Kind, Settings};

pub(super) async fn heals(lab: &Lab) -> Result<Notes, Failure> {
    let (mut go, mut ours) = lab.pair(Kind::Go, lab.ours).await?;
    go.tell("batch /from-go=1 /from-ours=1 /both=1 /kept=1")
        .await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;

    lab::partition(&mut [&mut go, &mut ours]).await?;
    go.tell("put /both go").await?;
    go.tell("put /from-go 2").await?;
    go.tell("del /from-ours").await?;
    ours.tell("put /both ours").await?;
    ours.tell("put /from-ours 2").await?;
    ours.tell("del /from-go").await?;
    // The greatest height wins: this side wrote more.
    ours.tell("put /both ours again").await?;
    until_value(&mut go, "/both", Some("go")).await?;

    lab::heal(&mut go, &mut ours).await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    for node in [&mut go, &mut ours] {
        until_value(node, "/both", Some("ours again")).await?;
        // A concurrent put survives a delete.
        until_value(node, "/from-go", Some("2")).await?;
        until_value(node, "/from-ours", Some("2")).await?;
    }
    Ok(Notes::new())
}

pub(super) async fn restarts(lab: &Lab) -> Result<Notes, Failure> {
    let on_disk = |name| {
        lab.fresh_path(name).map(|dir| Settings {
            disk: Some(dir),
            ..Settings::default()
        })
    };
    let (go_settings, our_settings) = (on_disk("go")?, on_disk("ours")?);
    let mut go = lab.start(Kind::Go, &go_settings).await?;
    let mut ours = lab.start(lab.ours, &our_settings).await?;
    connect(&mut ours, &mut go).await?;
    go.tell("putn /before 20").await?;
    ours.tell("put /both 1").await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;

    // Right behind a write, and with no chance to close.
    ours.tell("put /last-before-the-kill 1").await?;
    ours.kill().await?;
    go.tell("put /while-ours-was-away 1").await?;
    go.tell("del /before/7").await?;
    let mut ours = lab.start(lab.ours, &our_settings).await?;
    connect(&mut ours, &mut go).await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    until_value(&mut go, "/last-before-the-kill", Some("1")).await?;

    go.stop().await?;
    ours.tell("put /while-go-was-away 1").await?;
    ours.tell("put /both 2").await?;
    let mut go = lab.start(Kind::Go, &go_settings).await?;
    connect(&mut go, &mut ours).await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    until_value(&mut go, "/while-go-was-away", Some("1")).await?;
    until_value(&mut ours, "/before/7", None).await?;
    Ok(Notes::new())
}
