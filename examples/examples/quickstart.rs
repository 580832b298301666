//! Three replicas of one shopping list: they sync, are cut off from each other, write on, and agree
//! again. Exits with an error if they do not.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crdt_ds::CrdtDatastore;
use crdt_ds::datastore::{DatastoreExt, Key, Query};
use crdt_ds::sync::{Hub, Peers};
use data_encoding::HEXLOWER;
use datastore_backends::FjallDatastore;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hub = Hub::new(1); // a network inside this process; real ones have the same interface
    let replicas = [
        open(folder.path(), &hub, NAMES[0]).await?,
        open(folder.path(), &hub, NAMES[1]).await?,
        open(folder.path(), &hub, NAMES[2]).await?,
    ];
    let [alice, bob, carol] = &replicas;
    let [bread, eggs, milk] = ["/list/bread", "/list/eggs", "/list/milk"].map(Key::new);

    println!("1. Three replicas, each a folder on disk. Alice writes a list; all get it.");
    alice.put(&bread, "white".into()).await?;
    alice.put(&eggs, "six".into()).await?;
    alice.put(&milk, "1 litre".into()).await?;
    sync(&replicas).await?;
    show(&replicas).await?;

    println!("2. The network splits: alice | bob, carol. Everybody writes on.");
    hub.partition(&[&["alice"], &["bob", "carol"]]);
    println!("   alice  puts     milk = 2 litres, bread = rye");
    alice.put(&milk, "2 litres".into()).await?;
    alice.put(&bread, "rye".into()).await?;
    println!("   bob    deletes  bread, eggs");
    bob.delete(&bread).await?;
    bob.delete(&eggs).await?;
    println!("   carol  puts     milk = 3 litres");
    carol.put(&milk, "3 litres".into()).await?;
    sync(&replicas).await?;
    show(&replicas).await?;

    println!("3. The network heals, and all see the same:");
    println!("   eggs   are gone: whoever deletes, deletes what they saw.");
    println!("   bread  is rye: bob never saw the rye, so his delete does not touch it.");
    println!("   milk   was put twice, and the later put shows.");
    hub.heal();
    sync(&replicas).await?;
    show(&replicas).await?;

    println!("4. The other put of milk is not lost. Bob reads the versions, and settles it.");
    for (rank, version) in bob.versions(&milk).await?.iter().enumerate() {
        let seen = if rank == 0 { "visible" } else { "hidden" };
        println!("   {seen:7}  {}", String::from_utf8_lossy(&version.value));
    }
    bob.put(&milk, "5 litres".into()).await?;
    sync(&replicas).await?;
    show(&replicas).await?;

    println!("5. Digests, of the visible keys and of the history: equal on all, or we fail.");
    for (name, replica) in NAMES.iter().zip(&replicas) {
        let digests = replica.digests();
        let history = digests.histories.first().map(|(_, digest)| &digest[..8]);
        println!(
            "   {name:6} state {}…  history {}…  {} blocks",
            HEXLOWER.encode(&digests.state[..8]),
            HEXLOWER.encode(history.unwrap_or_default()),
            replica.info().blocks,
        );
    }
    let agree = bob.digests() == alice.digests() && carol.digests() == alice.digests();
    for replica in &replicas {
        replica.close().await?;
    }
    if !agree {
        return Err("the replicas do not agree".into());
    }
    println!("\nThe three agree.");
    Ok(())
}

async fn open(folder: &Path, hub: &Hub, name: &str) -> Result<CrdtDatastore> {
    let store = FjallDatastore::open(folder.join(name)).await?;
    let replica = CrdtDatastore::builder(store).transport(hub.join(name));
    Ok(replica.open().await?)
}

/// Waits until each replica has what all that it can reach have.
async fn sync(replicas: &[CrdtDatastore]) -> Result<()> {
    for replica in replicas.iter().filter(|r| r.sync_status().peers > 0) {
        replica.wait_for_sync(Peers::All, PATIENCE).await?;
    }
    Ok(())
}

/// Prints what each replica sees.
async fn show(replicas: &[CrdtDatastore]) -> Result<()> {
    println!();
    for (name, replica) in NAMES.iter().zip(replicas) {
        let list = Query::new().prefix(Key::new("/list"));
        let seen: Vec<String> = replica
            .query_all(list)
            .await?
            .iter()
            .map(|entry| {
                let value = entry.value.as_deref().unwrap_or_default();
                let item = entry.key.base_namespace();
                format!("{item} = {}", String::from_utf8_lossy(value))
            })
            .collect();
        println!("      {name:6} sees  {}", seen.join(", "));
    }
    println!();
    Ok(())
}
