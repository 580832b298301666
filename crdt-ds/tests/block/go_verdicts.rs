//! Odd and broken inputs, and what Go's code made of them: boxo's `merkledag.DecodeProtobuf`, then
//! `proto.Unmarshal` into go-ds-crdt's messages, then `cid.Cast`. We read alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use crdt_ds::block::{self, BlockError, DagName, Format, VersionId};
use crdt_ds::datastore::Key;
use crdt_ds::sync::{AnnouncedHead, Announcement, AnnouncementError, AnnouncementLimits};
use data_encoding::BASE32_NOPAD;
use serde_json::Value;

use super::fixtures::{block, hex, json};

/// The version of a DAG-PB block with this CID; `None` if no block of ours can have it.
fn dag_pb_id(cid: &[u8]) -> Option<VersionId> {
    let digest = cid.strip_prefix(&[1, 0x70, 0x12, 0x20])?;
    Some(VersionId(digest.try_into().ok()?))
}

/// The version that a tombstone's id names, which Go joins to a path.
fn tombstone_id(text: &str) -> Option<VersionId> {
    let path = Key::new(text);
    let multihash = BASE32_NOPAD.decode(&path.as_bytes()[1..]).ok()?;
    dag_pb_id(&[&[1, 0x70][..], &multihash].concat())
}

#[test]
fn blocks_are_refused_and_read_as_go_does() {
    let (mut read, mut refused) = (0, 0);
    for verdict in json("go/verdicts.json").as_array().unwrap() {
        let decoded = block::decode(&block(Format::DagPb, hex(&verdict["hex"])), "");
        let go = &verdict["block"];
        if go.is_null() {
            assert!(
                matches!(decoded, Err(BlockError::Malformed { .. })),
                "{verdict}"
            );
            refused += 1;
            continue;
        }
        let node = decoded.unwrap();
        read += 1;

        let mut links: Vec<Bytes> = Vec::new();
        for link in go["links_hex"].as_array().unwrap().iter().map(hex) {
            if !links.contains(&link) {
                links.push(link);
            }
        }
        let (ours, foreign): (Vec<Bytes>, _) = links
            .into_iter()
            .partition(|link| dag_pb_id(link).is_some());
        let ours: Vec<_> = ours
            .iter()
            .map(|link| dag_pb_id(link).unwrap().cid(Format::DagPb))
            .collect();
        assert_eq!(
            (node.links, node.foreign_links),
            (ours, foreign),
            "{verdict}"
        );

        let list = |name: &str| go["delta"][name].as_array().cloned().unwrap_or_default();
        let key = |element: &Value| Key::new(element["key"].as_str().unwrap());
        let mut puts: BTreeMap<Key, Bytes> = BTreeMap::new();
        for element in list("elements") {
            let value = element.get("value_hex").map(hex).unwrap_or_default();
            let greatest = puts.entry(key(&element)).or_default();
            *greatest = greatest.clone().max(value);
        }
        let deletes: Vec<_> = list("tombstones")
            .iter()
            .filter_map(|tombstone| {
                let id = tombstone.get("id")?.as_str().unwrap();
                Some((key(tombstone), tombstone_id(id)?))
            })
            .collect();
        let delta = node.delta;
        assert_eq!(
            delta.priority,
            go["delta"]["priority"].as_u64().unwrap_or_default()
        );
        assert_eq!(
            delta.dag_name.as_str(),
            go["delta"]["dag_name"].as_str().unwrap_or_default()
        );
        let one_a_key = delta.puts.len();
        let our_puts: BTreeMap<_, _> = delta
            .puts
            .into_iter()
            .map(|put| (put.key, put.value))
            .collect();
        assert_eq!(one_a_key, our_puts.len(), "{verdict}");
        assert_eq!(our_puts, puts, "{verdict}");
        let our_deletes: Vec<_> = delta
            .deletes
            .into_iter()
            .flat_map(|of_key| {
                of_key
                    .ids
                    .into_iter()
                    .map(move |id| (of_key.key.clone(), id))
            })
            .collect();
        assert_eq!(our_deletes, deletes, "{verdict}");
    }
    assert!(
        read > 100 && refused > 100,
        "{read} read, {refused} refused"
    );
}

#[test]
fn announcements_are_refused_and_read_as_go_does() {
    let (mut read, mut refused) = (0, 0);
    for verdict in json("go/verdicts.json").as_array().unwrap() {
        let payload = hex(&verdict["hex"]);
        let decoded = Announcement::decode(&payload, &AnnouncementLimits::default());
        let Some(go) = verdict["heads"].as_array() else {
            // Ours reads a bare CIDv1 too, which Go has forgotten.
            let bare_v1 = payload.first() == Some(&1)
                && !matches!(decoded, Err(AnnouncementError::Malformed { .. }));
            assert!(bare_v1 || decoded.is_err(), "{verdict}");
            refused += 1;
            continue;
        };
        let heads: Option<Vec<AnnouncedHead>> = go.iter().map(announced).collect();
        match (heads, decoded) {
            (Some(heads), Ok(mut announcement)) => {
                announcement
                    .heads
                    .iter_mut()
                    .for_each(|head| head.block = None);
                assert_eq!(announcement.heads, heads, "{verdict}");
                read += 1;
            }
            (None, Err(AnnouncementError::ForeignCid { .. })) => refused += 1,
            // Go takes a CIDv0 among heads for the old form, and forgets the heads; for us that form
            // is a CID and nothing else.
            (Some(heads), Err(AnnouncementError::Malformed { .. }))
                if heads.len() == 1 && payload.windows(2).any(|tag| tag == [0x12, 0x20]) =>
            {
                refused += 1;
            }
            (heads, decoded) => panic!("{verdict}: {heads:?}, {decoded:?}"),
        }
    }
    assert!(
        read >= 20 && refused > 100,
        "{read} read, {refused} refused"
    );
}

/// A head that Go read; `None` if no block of ours can have its CID.
fn announced(head: &Value) -> Option<AnnouncedHead> {
    let cid = hex(&head["cid_hex"]);
    let of_v0 = |multihash: &[u8]| dag_pb_id(&[&[1, 0x70][..], multihash].concat());
    let of_dag_cbor = |cid: &[u8]| of_v0(cid.strip_prefix(&[1, 0x71])?);
    let cid = dag_pb_id(&cid)
        .or_else(|| of_v0(&cid))
        .map(|id| id.cid(Format::DagPb))
        .or_else(|| of_dag_cbor(&cid).map(|id| id.cid(Format::DagCbor)))?;
    let dag_name = DagName::new(head["dag_name"].as_str().unwrap());
    Some(AnnouncedHead {
        cid,
        dag_name,
        block: None,
    })
}
