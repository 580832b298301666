//! DAG names: each has its own heads, whoever links whom; keys are shared by all.

use crdt_ds::block::{Block, DagName, Format};
use crdt_ds::datastore::Datastore;

use super::fixtures::{
    FORMATS, alone, heads, id, key, made, node, orders, put, replicas_in_every_order, value,
};

/// Case 32.
#[tokio::test]
async fn a_block_of_ours_links_to_heads_of_its_own_name() {
    for format in FORMATS {
        let store = alone(format).await;
        let unnamed = put(&store, "/a", "1").await;
        let dag = store.dag(DagName::new("likes"));
        let like = dag.put(&key("/b"), "2".into()).await.unwrap().cid.unwrap();
        let above = dag.put(&key("/c"), "3".into()).await.unwrap().cid.unwrap();
        let second = put(&store, "/d", "4").await;
        assert_eq!(node(&store, &like).await.links, [], "{format}");
        assert_eq!(node(&store, &above).await.links, [like], "{format}");
        assert_eq!(node(&store, &second).await.links, [unnamed], "{format}");
        if format == Format::DagPb {
            let priority = node(&store, &second).await.delta.priority;
            assert_eq!(priority, 2, "heights are of a name");
        }
    }
}

/// Cases 32 and 46: blocks as the Go release makes them, unnamed and above the heads of all names.
#[tokio::test]
async fn a_link_from_another_name_removes_no_head() {
    for format in FORMATS {
        let like = made(format).named("likes").put("/l", "1").block();
        let view = made(format).named("views").put("/v", "1").block();
        let unnamed = made(format)
            .priority(2)
            .above(&[&like, &view])
            .put("/u", "1")
            .block();
        let next = made(format)
            .named("likes")
            .priority(3)
            .above(&[&like, &unnamed])
            .put("/n", "1")
            .block();
        let blocks = [like.clone(), view.clone(), unnamed.clone(), next.clone()];
        let mut expected = [*view.cid(), *unnamed.cid(), *next.cid()];
        expected.sort();
        for store in replicas_in_every_order(format, &blocks).await {
            let mut heads = heads(&store);
            heads.sort();
            assert_eq!(heads, expected, "{format}");
            assert_eq!(store.sync_status().gaps, 0, "{format}");
        }
    }
}

/// Case 46: two names link to a gap of a third; then of one of them.
#[tokio::test]
async fn a_gap_that_fills_late_is_a_head_unless_its_own_name_links_to_it() {
    for format in FORMATS {
        for (name, is_head) in [("a", false), ("b", false), ("c", true), ("", true)] {
            let late = made(format).named(name).put("/late", "1").block();
            let a = made(format).named("a").priority(2).above(&[&late]);
            let b = made(format).named("b").priority(2).above(&[&late]);
            let blocks = [
                late.clone(),
                a.put("/a", "1").block(),
                b.put("/b", "1").block(),
            ];
            for store in replicas_in_every_order(format, &blocks).await {
                let shown = heads(&store).contains(late.cid());
                assert_eq!(shown, is_head, "{format}, name {name:?}");
                assert_eq!(heads(&store).len(), 2 + usize::from(is_head));
            }
        }
    }
}

async fn write_in_one_group(
    format: Format,
    writes: &[(&'static str, Option<&'static str>)],
) -> (crdt_ds::CrdtDatastore, u64) {
    let store = alone(format).await;
    put(&store, "/k", "before").await;
    let before = store.cursor().sequence();
    // Queued without a pause in between, they are one group.
    let mut queued = Vec::new();
    for (name, value) in writes {
        let dag = store.dag(DagName::new(*name));
        queued.push(async move {
            match value {
                Some(value) => dag.put(&key("/k"), (*value).into()).await,
                None => dag.delete(&key("/k")).await,
            }
            .unwrap()
        });
    }
    futures::future::join_all(queued).await;
    let blocks = store.cursor().sequence() - before;
    (store, blocks)
}

/// Case 56.
#[tokio::test]
async fn of_writes_of_one_key_under_several_names_in_one_group_the_last_wins() {
    for format in FORMATS {
        let writes = [("a", Some("1")), ("b", Some("2")), ("a", Some("3"))];
        // In DAG-PB a height under another name may hide it, as in Go: so over a fresh key.
        for names in orders(&["a", "b"]) {
            let store = alone(format).await;
            let queued =
                [(names[0], "1"), (names[1], "2"), (names[0], "3")].map(|(name, value)| {
                    let dag = store.dag(DagName::new(name));
                    async move { dag.put(&key("/k"), value.into()).await.unwrap() }
                });
            futures::future::join_all(queued).await;
            assert_eq!(value(&store, "/k").await.as_deref(), Some("3"), "{format}");
            assert_eq!(store.versions(&key("/k")).await.unwrap().len(), 1);
            assert_eq!(store.info().blocks, 1, "{format}: more than one group");
        }
        if format == Format::DagCbor {
            let (store, _) = write_in_one_group(format, &writes).await;
            assert_eq!(value(&store, "/k").await.as_deref(), Some("3"));
        }
    }
}

/// Case 56.
#[tokio::test]
async fn a_put_and_a_delete_under_two_names_in_one_group_leave_nothing() {
    for format in FORMATS {
        for (first, second) in [("a", "b"), ("b", "a")] {
            let writes = [(first, Some("1")), (second, None)];
            let (store, blocks) = write_in_one_group(format, &writes).await;
            assert_eq!(blocks, 1, "{format}: the delete alone");
            assert!(!store.has(&key("/k")).await.unwrap(), "{format}");
            let (store, _) =
                write_in_one_group(format, &[(first, None), (second, Some("1"))]).await;
            assert_eq!(value(&store, "/k").await.as_deref(), Some("1"), "{format}");
            assert_eq!(store.versions(&key("/k")).await.unwrap().len(), 1);
        }
    }
}

/// Keys are shared by all names: a delete under one ends the versions of all.
#[tokio::test]
async fn a_delete_ends_the_versions_of_all_names() {
    for format in FORMATS {
        let like: Block = made(format).named("likes").put("/k", "1").block();
        let view = made(format).named("views").put("/k", "2").block();
        let store = alone(format).await;
        store
            .import(vec![like.clone(), view.clone()])
            .await
            .unwrap();
        let delete = store.delete(&key("/k")).await.unwrap().cid.unwrap();
        let deletes = node(&store, &delete).await.delta.deletes;
        let mut ids = deletes[0].ids.clone();
        ids.sort();
        let mut expected = [id(like.cid()), id(view.cid())];
        expected.sort();
        assert_eq!(ids, expected, "{format}");
        assert!(!store.has(&key("/k")).await.unwrap(), "{format}");
    }
}
