//! Changes travel, each way.

use super::Notes;
use crate::convergence::{Judged, converge, until_count, until_value};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::node::{Kind, Node, Settings};

pub(super) async fn changes(lab: &Lab, writer: Kind, reader: Kind) -> Result<Notes, Failure> {
    let (mut writer, mut reader) = lab.pair(writer, reader).await?;
    writer.tell("put /greeting hello").await?;
    until_value(&mut reader, "/greeting", Some("hello")).await?;
    writer.tell("put /greeting hello world").await?;
    until_value(&mut reader, "/greeting", Some("hello world")).await?;
    writer.tell("del /greeting").await?;
    until_value(&mut reader, "/greeting", None).await?;
    writer.tell("put /greeting again").await?;
    until_value(&mut reader, "/greeting", Some("again")).await?;
    writer.tell("batch /a=1 /b=2 /a/c=3 -/greeting").await?;
    until_value(&mut reader, "/a/c", Some("3")).await?;
    converge(&mut [&mut writer, &mut reader], Judged::All).await?;
    until_value(&mut reader, "/greeting", None).await?;

    // Not only to whoever listens: the other way on the same connection.
    reader.tell("del /a").await?;
    until_value(&mut writer, "/a", None).await?;
    until_value(&mut writer, "/a/c", Some("3")).await?;
    converge(&mut [&mut writer, &mut reader], Judged::All).await?;
    Ok(Notes::new())
}

pub(super) async fn bulk(lab: &Lab, writer: Kind, reader: Kind) -> Result<Notes, Failure> {
    let (mut writer, mut reader) = lab.pair(writer, reader).await?;
    writer.tell("putn /bulk 500").await?;
    until_count(&mut reader, "/bulk", 500).await?;
    let blocks = converge(&mut [&mut writer, &mut reader], Judged::All).await?;
    if blocks != 500 {
        return Err(Failure::Wrong(format!("500 puts made {blocks} blocks")));
    }
    Ok(Notes::new())
}

pub(super) async fn same_keys(lab: &Lab) -> Result<Notes, Failure> {
    let (mut go, mut ours) = lab.pair(Kind::Go, lab.ours).await?;
    let (from_go, from_ours) = tokio::join!(
        write_round_robin(&mut go, "one"),
        write_round_robin(&mut ours, "two")
    );
    from_go.and(from_ours)?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    Ok(Notes::new())
}

/// 100 puts over 10 keys.
async fn write_round_robin(node: &mut Node, writer: &str) -> Result<(), Failure> {
    for i in 0..100 {
        node.tell(&format!("put /shared/{} {writer}-{i}", i % 10))
            .await?;
    }
    Ok(())
}

pub(super) async fn dag_name(lab: &Lab) -> Result<Notes, Failure> {
    let mut go = lab.start(Kind::Go, &Settings::default()).await?;
    let mut plain = lab.start(Kind::Rust, &Settings::default()).await?;
    let named = Settings::default().rust_flags(&["--dag", "photos"]);
    let mut named = lab.start(Kind::Rust, &named).await?;
    crate::lab::connect(&mut plain, &mut go).await?;
    crate::lab::connect(&mut named, &mut go).await?;

    named.tell("put /named 1").await?;
    until_value(&mut go, "/named", Some("1")).await?;
    until_value(&mut plain, "/named", Some("1")).await?;
    // Go builds on the named head with a block that has no name.
    go.tell("put /unnamed 2").await?;
    until_value(&mut named, "/unnamed", Some("2")).await?;
    // The next put must build on it: a concurrent one would be lower, and lose.
    until_value(&mut plain, "/unnamed", Some("2")).await?;
    plain.tell("put /unnamed 3").await?;
    named.tell("put /named 4").await?;
    until_value(&mut go, "/named", Some("4")).await?;
    until_value(&mut go, "/unnamed", Some("3")).await?;
    converge(&mut [&mut go, &mut plain, &mut named], Judged::All).await?;
    Ok(Notes::new())
}
