//! Announcements, as go-ds-crdt sends them and as it takes them.

use bytes::Bytes;
use crdt_ds::block::{DagName, Format, VersionId};
use crdt_ds::sync::{AnnouncedHead, Announcement, AnnouncementError, AnnouncementLimits};

use super::fixtures::{cid, hex, json};
use super::go_vectors::{REPLAYS, steps};

const LIMITS: AnnouncementLimits = AnnouncementLimits {
    max_payload_bytes: 60 * 1024,
    max_block_bytes: 16 * 1024,
};

fn decode(payload: impl Into<Bytes>) -> Result<Announcement, AnnouncementError> {
    Announcement::decode(&payload.into(), &LIMITS)
}

fn is_malformed(payload: impl Into<Bytes>) -> bool {
    matches!(decode(payload), Err(AnnouncementError::Malformed { .. }))
}

fn head(digest: u8, name: &str, block: Option<usize>) -> AnnouncedHead {
    AnnouncedHead {
        cid: VersionId([digest; 32]).cid(Format::DagPb),
        dag_name: DagName::new(name),
        block: block.map(|len| vec![digest; len].into()),
    }
}

/// The field of a head with these fields, shorter than 128 bytes together.
fn raw_head(fields: &[&[u8]]) -> Vec<u8> {
    let fields = fields.concat();
    [&[0x0a, fields.len() as u8][..], &fields].concat()
}

fn cid_field(cid: &[u8]) -> Vec<u8> {
    [&[0x0a, cid.len() as u8][..], cid].concat()
}

#[test]
fn what_go_announces_is_read_and_written_byte_for_byte() {
    let mut payloads = Vec::new();
    for step in steps() {
        let announcement = decode(hex(&step["broadcast_hex"])).unwrap();
        assert_eq!(announcement.heads.len(), 1);
        // A step without effect of its own repeats the announcement of the last.
        if step["name"] != "replica 1 after receiving replica 2's head: two heads, banana wins" {
            assert_eq!(
                announcement.heads[0].cid,
                cid(&step["cid"]),
                "{}",
                step["name"]
            );
        }
        let name = step["dag_name"].as_str().unwrap_or_default();
        assert_eq!(announcement.heads[0].dag_name.as_str(), name);
        payloads.push(hex(&step["broadcast_hex"]));
    }
    for file in REPLAYS {
        payloads.extend(
            json(file)["broadcasts_hex"]
                .as_array()
                .unwrap()
                .iter()
                .map(hex),
        );
    }
    assert!(payloads.len() > 800, "{}", payloads.len());
    for payload in payloads {
        assert_eq!(decode(payload.clone()).unwrap().encode(&LIMITS), [payload]);
    }
}

#[test]
fn a_bare_cid_is_a_head_of_the_unnamed_dag() {
    let v1 = head(1, "", None);
    let expected = Announcement {
        heads: vec![v1.clone()],
    };
    assert_eq!(decode(v1.cid.to_bytes()).unwrap(), expected);
    assert_eq!(decode(v1.cid.hash().to_bytes()).unwrap(), expected);
}

#[test]
fn unknown_fields_of_a_head_are_skipped() {
    let cid = cid_field(&head(1, "", None).cid.to_bytes());
    let payload = raw_head(&[b"\x1a\x01x", &cid, b"\x20\x01", b"\x12\x01a", b"\x7a\x02xy"]);
    let expected = AnnouncedHead {
        block: Some("xy".into()),
        ..head(1, "a", None)
    };
    assert_eq!(decode(payload).unwrap().heads, [expected]);
}

#[test]
fn garbage_is_a_typed_error() {
    let cid = cid_field(&head(1, "", None).cid.to_bytes());
    let good = raw_head(&[&cid]);
    assert!(decode(good.clone()).is_ok());
    assert_eq!(decode(Bytes::new()).unwrap().heads, []);
    assert!(is_malformed(b"garbage".to_vec()));
    assert!(
        is_malformed([good.clone(), b"\x12\x01x".to_vec()].concat()),
        "a top-level field"
    );
    let mut in_another_field = good.clone();
    in_another_field[0] = 0x12;
    assert!(
        is_malformed([good.clone(), in_another_field].concat()),
        "a head in another field"
    );
    assert!(
        is_malformed([good.clone(), b"\x08\x01".to_vec()].concat()),
        "a head that is a number"
    );
    assert!(is_malformed(good[..good.len() - 1].to_vec()), "cut off");
    assert!(is_malformed(raw_head(&[])), "a head without a CID");
    assert!(
        is_malformed(raw_head(&[&cid, b"\x12\x01\xff"])),
        "a name that is not UTF-8"
    );
    let long = [head(1, "", None).cid.to_bytes(), vec![0]].concat();
    assert!(
        is_malformed(raw_head(&[&cid_field(&long)])),
        "a byte after the CID"
    );
    assert!(is_malformed(long), "a byte after a bare CID");
}

#[test]
fn a_cid_that_no_block_of_ours_can_have_is_told_apart() {
    let raw = [&[1, 0x55, 0x12, 0x20][..], &[1; 32]].concat();
    let foreign = AnnouncementError::ForeignCid {
        cid: raw.clone().into(),
    };
    assert_eq!(decode(raw.clone()).unwrap_err(), foreign);
    assert_eq!(decode(raw_head(&[&cid_field(&raw)])).unwrap_err(), foreign);
}

#[test]
fn a_payload_above_the_limit_is_refused_unread() {
    let error = decode(vec![0xff; LIMITS.max_payload_bytes + 1]).unwrap_err();
    assert!(matches!(error, AnnouncementError::TooLarge { .. }));
}

#[test]
fn heads_are_split_at_the_size_of_a_payload() {
    let heads: Vec<_> = (0..=99).map(|digest| head(digest, "name", None)).collect();
    let limits = AnnouncementLimits {
        max_payload_bytes: 500,
        ..LIMITS
    };
    let payloads = Announcement {
        heads: heads.clone(),
    }
    .encode(&limits);
    // Ten heads of 46 bytes each.
    assert_eq!(payloads.len(), 10);
    assert!(payloads.iter().all(|payload| payload.len() == 460));
    let read: Vec<_> = payloads
        .iter()
        .flat_map(|payload| Announcement::decode(payload, &limits).unwrap().heads)
        .collect();
    assert_eq!(read, heads);
    assert_eq!(Announcement::default().encode(&limits), Vec::<Bytes>::new());
}

#[test]
fn a_block_rides_along_where_it_fits() {
    let rides = |len: usize, limits: AnnouncementLimits| {
        let payloads = Announcement {
            heads: vec![head(1, "n", Some(len))],
        }
        .encode(&limits);
        let [payload] = &payloads[..] else {
            panic!("{} payloads", payloads.len())
        };
        assert!(payload.len() <= limits.max_payload_bytes);
        Announcement::decode(payload, &limits).unwrap().heads[0]
            .block
            .is_some()
    };
    let small = AnnouncementLimits {
        max_payload_bytes: 1000,
        max_block_bytes: 2000,
    };
    assert!(rides(0, LIMITS));
    assert!(rides(16 * 1024, LIMITS));
    assert!(!rides(16 * 1024 + 1, LIMITS));
    // Head, CID, name and block have 3 + 38 + 3 + 3 bytes beside the block's own.
    assert!(rides(953, small));
    assert!(!rides(954, small));
}

#[test]
fn a_head_that_fits_no_payload_is_left_out_and_the_others_are_not() {
    let limits = AnnouncementLimits {
        max_payload_bytes: 100,
        ..LIMITS
    };
    let heads = vec![
        head(1, "", None),
        head(2, &"n".repeat(100), None),
        head(3, "", None),
    ];
    let payloads = Announcement {
        heads: heads.clone(),
    }
    .encode(&limits);
    let read = Announcement::decode(&payloads[0], &limits).unwrap();
    assert_eq!(payloads.len(), 1);
    assert_eq!(read.heads, [heads[0].clone(), heads[2].clone()]);
}
