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

    for kind in [Kind::Go, lab.ours] {
        let mut outsider = lab.start(kind, &Settings::default()).await?;
        for member in [&mut go, &mut ours] {
            if outsider
                .tell(&format!("dial {}", member.address))
                .await
                .is_ok()
            {
                let member = member.kind;
                return Err(Failure::Wrong(format!(
                    "{member} let a {kind} node in without the key"
                )));
            }
        }
    }
    converge(&mut [&mut go, &mut ours], Judged::All).await?;
    Ok(Notes::new())
}
