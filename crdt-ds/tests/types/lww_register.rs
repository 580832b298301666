use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crdt_ds::sync::Hub;
use crdt_ds::types::LwwRegister;
use datastore_core::Key;

use crate::{FORMATS, replica, synced};

#[tokio::test]
async fn the_latest_write_wins_whichever_side_wrote_more() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let (a, b) = (
            replica(&hub, "a", format).await,
            replica(&hub, "b", format).await,
        );
        let time = Arc::new(AtomicU64::new(100));
        let clock: crdt_ds::Clock = {
            let time = time.clone();
            Arc::new(move || time.load(Ordering::Relaxed))
        };
        let open = |store| LwwRegister::with_clock(store, Key::new("/seen"), clock.clone());
        let (ours, theirs) = (open(a.clone()), open(b.clone()));
        hub.partition(&[&["a"], &["b"]]);
        for n in 0..5 {
            // The busier side, so the higher DAG.
            time.store(100 + n, Ordering::Relaxed);
            ours.set(format!("busy {n}").into()).await.unwrap();
        }
        time.store(200, Ordering::Relaxed);
        theirs.set("later".into()).await.unwrap();
        hub.heal();
        synced(&[a, b]).await;
        for register in [&ours, &theirs] {
            assert_eq!(
                register.get().await.unwrap().as_deref(),
                Some(&b"later"[..]),
                "{format}"
            );
            assert_eq!(register.time().await.unwrap(), Some(200));
        }
        // A write here is later than what it saw, though the clock fell back.
        time.store(5, Ordering::Relaxed);
        assert_eq!(ours.set("last".into()).await.unwrap(), 201);
        assert_eq!(ours.get().await.unwrap().as_deref(), Some(&b"last"[..]));
        ours.clear().await.unwrap();
        assert_eq!(ours.get().await.unwrap(), None);
    }
}
