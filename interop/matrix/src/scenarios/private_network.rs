//! A network behind a pre-shared key, as ipfs-cluster runs it.

use super::Notes;
use crate::convergence::{Judged, converge, until_value};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::node::{Kind, Settings};

pub(super) async fn pre_shared_key(lab: &Lab) -> Result<Notes, Failure> {
    let psk = lab.fresh_path("swarm.key")?;
    let digits = "0123456789abcdef".repeat(4);
    std::fs::write(&psk, format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n"))?;

    let private = Settings {
        psk: Some(psk),
        ..Settings::default()
    };
    let (mut go, mut ours) = lab.pair_with(Kind::Go, lab.ours, &private).await?;
    go.tell("put /from-go 1").await?;
    ours.tell("put /from-ours 1").await?;
    until_value(&mut ours, "/from-go", Some("1")).await?;
    until_value(&mut go, "/from-ours", Some("1")).await?;

    let mut go_outsider = lab.start(Kind::Go, &Settings::default()).await?;
    let mut our_outsider = lab.start(lab.ours, &Settings::default()).await?;
    for (outsider, member) in [(&mut go_outsider, &ours), (&mut our_outsider, &go)] {
        match outsider.tell(&format!("dial {}", member.address)).await {
            Ok(()) | Err(Failure::Reply { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    go.tell("put /from-go 2").await?;
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    for (node, peers) in [
        (&mut go_outsider, 0),
        (&mut our_outsider, 0),
        (&mut go, 1),
        (&mut ours, 1),
    ] {
        let found = node.peers().await?;
        if found != peers {
            let kind = node.kind;
            return Err(Failure::Wrong(format!(
                "a {kind} node has {found} peers, not {peers}"
            )));
        }
    }
    Ok(Notes::new())
}
