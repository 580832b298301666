//! Which version of a key wins, in whatever order blocks merge.

use crdt_ds::block::{self, Block};
use crdt_ds::datastore::Datastore;
use crdt_ds::sync::Hub;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::fixtures::{
    FORMATS, alone, assert_same, joined, key, made, put, replicas_in_every_order, synced, value,
};

/// Case 1.
#[tokio::test(start_paused = true)]
async fn a_put_survives_a_delete_that_did_not_see_it() {
    for format in FORMATS {
        let hub = Hub::new(1);
        let r0 = joined(format, &hub, "r0").await;
        let r1 = joined(format, &hub, "r1").await;
        hub.partition(&[&["r0"], &["r1"]]);
        put(&r0, "/k", "a").await;
        put(&r0, "/k", "b").await;
        r0.delete(&key("/k")).await.unwrap();
        put(&r1, "/k", "c").await;
        assert_eq!(value(&r0, "/k").await, None, "{format}");
        hub.heal();
        synced(&[&r0, &r1]).await;
        assert_same(&[&r0, &r1], format.name()).await;
        assert_eq!(value(&r0, "/k").await.as_deref(), Some("c"), "{format}");
    }
}

/// Case 2.
#[tokio::test]
async fn value_and_priority_are_always_of_one_write() {
    for format in FORMATS {
        for seed in 0..20 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut blocks: Vec<Block> = Vec::new();
            for priority in 1..=8 {
                for writer in ["a", "b", "c"] {
                    let value = format!("{writer}{priority}");
                    blocks.push(made(format).priority(priority).put("/k", &value).block());
                }
            }
            blocks.shuffle(&mut random);
            let store = alone(format).await;
            let mut merged = Vec::new();
            for block in blocks {
                store.import(vec![block.clone()]).await.unwrap();
                merged.push(block);
                let versions = store.versions(&key("/k")).await.unwrap();
                assert_eq!(versions.len(), merged.len(), "{format}, seed {seed}");
                for version in &versions {
                    let block = merged.iter().find(|block| *block.cid() == version.cid);
                    let delta = block::decode(block.unwrap(), "").unwrap().delta;
                    assert_eq!(
                        (delta.priority, &delta.puts[0].value),
                        (version.priority, &version.value),
                        "{format}, seed {seed}"
                    );
                }
                let best = versions.iter().map(|v| (v.priority, v.value.clone())).max();
                let visible = store.get(&key("/k")).await.unwrap();
                assert_eq!(visible, best.map(|(_, v)| v), "{format}, seed {seed}");
            }
        }
    }
}

/// Case 8.
#[tokio::test]
async fn an_empty_value_survives_a_tombstone_of_another_version() {
    for format in FORMATS {
        let x = made(format).put("/k", "x").block();
        let empty = made(format).put("/k", "").block();
        let delete = made(format)
            .priority(2)
            .above(&[&x])
            .delete("/k", &[&x])
            .block();
        for store in replicas_in_every_order(format, &[x, empty, delete]).await {
            assert_eq!(value(&store, "/k").await.as_deref(), Some(""), "{format}");
            assert!(store.has(&key("/k")).await.unwrap(), "{format}");
            assert_eq!(store.get_size(&key("/k")).await.unwrap(), Some(0));
        }
    }
}

/// Case 11.
#[tokio::test]
async fn of_equal_priorities_the_greater_value_by_bytes_wins() {
    for format in FORMATS {
        let longer = made(format).put("/k", "aa").block();
        let greater = made(format).put("/k", "b").block();
        let least = made(format).put("/k", "").block();
        for store in replicas_in_every_order(format, &[longer, greater, least]).await {
            assert_eq!(value(&store, "/k").await.as_deref(), Some("b"), "{format}");
        }
    }
}

/// What was hidden shows again in the order of rank: by priority, then by value, whatever the order in
/// which the versions came.
#[tokio::test]
async fn the_best_hidden_version_follows_the_visible_one() {
    for format in FORMATS {
        let low = made(format).put("/k", "z").block();
        let better = made(format).priority(2).put("/k", "b").block();
        let best = made(format).priority(2).put("/k", "c").block();
        let visible = made(format).priority(3).put("/k", "a").block();
        let delete = made(format).priority(4).delete("/k", &[&visible]).block();
        for store in replicas_in_every_order(format, &[low, better, best, visible, delete]).await {
            assert_eq!(value(&store, "/k").await.as_deref(), Some("c"), "{format}");
            assert_eq!(store.info().hidden_versions, 2, "{format}");
            let versions = store.versions(&key("/k")).await.unwrap();
            let values: Vec<&[u8]> = versions.iter().map(|v| &v.value[..]).collect();
            assert_eq!(values, [b"c", b"b", b"z"], "{format}");
        }
    }
}

/// The same for values too large to be kept in their rows.
#[tokio::test]
async fn a_large_hidden_value_is_read_from_its_block() {
    for format in FORMATS {
        let large = "large".repeat(2000);
        let hidden = made(format).put("/a", "1").put("/k", &large).block();
        let visible = made(format).priority(2).put("/k", "small").block();
        let delete = made(format).priority(3).delete("/k", &[&visible]).block();
        for store in replicas_in_every_order(format, &[hidden, visible, delete]).await {
            assert!(value(&store, "/k").await.as_deref() == Some(&large[..]));
            let size = store.get_size(&key("/k")).await.unwrap();
            assert_eq!(size, Some(large.len() as u64), "{format}");
        }
    }
}

/// Case 17.
#[tokio::test]
async fn a_block_whose_priority_is_not_above_its_links_merges_as_it_is() {
    for format in FORMATS {
        for priority in [0, 4, 5] {
            let link = made(format).priority(5).put("/k", "link").block();
            let above = made(format)
                .priority(priority)
                .above(&[&link])
                .put("/k", "above")
                .put("/only", "above")
                .block();
            for store in replicas_in_every_order(format, &[link, above.clone()]).await {
                assert_eq!(value(&store, "/k").await.as_deref(), Some("link"));
                assert_eq!(value(&store, "/only").await.as_deref(), Some("above"));
                assert_eq!(store.heads().len(), 1, "{format}");
                assert_eq!(store.heads()[0].cid, *above.cid(), "{format}");
                assert_eq!(store.heads()[0].priority, priority, "{format}");
            }
        }
    }
}

/// Case 52.
#[tokio::test]
async fn of_equal_puts_the_greatest_id_is_visible_everywhere() {
    for format in FORMATS {
        // In DAG-PB two such blocks are only different if something else in them is.
        let one = made(format).put("/k", "v").put("/1", "").block();
        let two = made(format).put("/k", "v").put("/2", "").block();
        let greatest = *one.cid().max(two.cid());
        for store in replicas_in_every_order(format, &[one, two]).await {
            let versions = store.versions(&key("/k")).await.unwrap();
            assert_eq!(versions[0].cid, greatest, "{format}");
        }
    }
}
