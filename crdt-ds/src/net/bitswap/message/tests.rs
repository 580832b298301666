//! Against an encoder of another make: prost, with the schema of the bitswap spec.

use proptest::prelude::*;
use prost::Message as _;

use super::*;

#[derive(Clone, PartialEq, prost::Message)]
struct PbMessage {
    #[prost(message, optional, tag = "1")]
    wantlist: Option<PbWantlist>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    blocks: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    payload: Vec<PbBlock>,
    #[prost(message, repeated, tag = "4")]
    presences: Vec<PbPresence>,
    #[prost(int32, tag = "5")]
    pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbWantlist {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<PbEntry>,
    #[prost(bool, tag = "2")]
    full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbEntry {
    #[prost(bytes = "vec", tag = "1")]
    block: Vec<u8>,
    #[prost(int32, tag = "2")]
    priority: i32,
    #[prost(bool, tag = "3")]
    cancel: bool,
    #[prost(int32, tag = "4")]
    want_type: i32,
    #[prost(bool, tag = "5")]
    send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbBlock {
    #[prost(bytes = "vec", tag = "1")]
    prefix: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbPresence {
    #[prost(bytes = "vec", tag = "1")]
    cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    kind: i32,
}

fn block(format: Format, data: &[u8]) -> Block {
    Block::new(format, Bytes::copy_from_slice(data)).unwrap()
}

/// The message of a frame, read by prost.
fn read(frame: &[u8]) -> PbMessage {
    PbMessage::decode_length_delimited(frame).unwrap()
}

/// What a message of ours comes to when it is read again.
fn reread(bytes: &[u8]) -> Result<Message, WireError> {
    let mut message = Message::default();
    for part in Parts::new(bytes) {
        match part? {
            Part::Wantlist(list) => {
                message.full |= list.is_full()?;
                for entry in list.entries() {
                    message.wants.push(entry?);
                }
            }
            Part::Block(format, data) => message.blocks.extend(hash(format, data)),
            Part::Presence(cid, presence) => message.presences.push((cid, presence)),
            Part::Foreign => {}
        }
    }
    Ok(message)
}

fn sample() -> Message {
    let a = block(Format::DagCbor, b"a");
    let b = block(Format::DagPb, b"bb");
    Message {
        full: true,
        wants: vec![
            WantEntry {
                cid: *a.cid(),
                kind: WantKind::Block,
                cancel: false,
                send_dont_have: true,
            },
            WantEntry {
                cid: *b.cid(),
                kind: WantKind::Have,
                cancel: true,
                send_dont_have: false,
            },
        ],
        presences: vec![(*a.cid(), Presence::Have), (*b.cid(), Presence::DontHave)],
        blocks: vec![a, b],
    }
}

#[test]
fn what_we_write_reads_as_the_schema_says() {
    let message = sample();
    let pb = read(&message.encode(Version::V1_2));
    let list = pb.wantlist.unwrap();
    assert!(list.full);
    assert_eq!(list.entries[0].block, message.blocks[0].cid().to_bytes());
    assert_eq!(
        (list.entries[0].want_type, list.entries[0].cancel),
        (0, false)
    );
    assert!(list.entries[0].send_dont_have);
    assert_eq!(
        (list.entries[1].want_type, list.entries[1].cancel),
        (1, true)
    );
    assert_eq!(pb.payload[0].prefix, [1, 0x71, 0x12, 32]);
    assert_eq!(pb.payload[1].prefix, [1, 0x70, 0x12, 32]);
    assert_eq!(pb.payload[1].data, b"bb");
    assert!(pb.blocks.is_empty());
    assert_eq!((pb.presences[0].kind, pb.presences[1].kind), (0, 1));
}

#[test]
fn an_older_version_hears_only_what_it_knows() {
    let pb = read(&sample().encode(Version::V1_1));
    assert!(pb.presences.is_empty());
    assert_eq!(pb.payload.len(), 2);
    assert!(!pb.wantlist.unwrap().entries[0].send_dont_have);

    let mut message = sample();
    message.wants[1].cancel = false;
    let pb = read(&message.encode(Version::V1_0));
    assert_eq!(pb.blocks, [b"a".to_vec(), b"bb".to_vec()]);
    assert!(pb.payload.is_empty());
    let wants = pb.wantlist.unwrap().entries;
    assert_eq!(
        wants.len(),
        1,
        "a want-have would be taken for a want-block"
    );
}

#[test]
fn a_foreign_encoder_is_understood() {
    let wanted = block(Format::DagPb, b"x");
    let pb = PbMessage {
        wantlist: Some(PbWantlist {
            entries: vec![PbEntry {
                block: wanted.cid().to_bytes(),
                priority: i32::MIN,
                want_type: 1,
                ..PbEntry::default()
            }],
            full: false,
        }),
        blocks: vec![b"x".to_vec()],
        payload: vec![PbBlock {
            prefix: vec![1, 0x55, 0x12, 32],
            data: b"raw".to_vec(),
        }],
        presences: vec![PbPresence {
            cid: b"no cid".to_vec(),
            kind: 0,
        }],
        pending_bytes: -7,
    };
    let message = reread(&pb.encode_to_vec()).unwrap();
    assert_eq!(message.wants[0].cid, *wanted.cid());
    assert_eq!(message.wants[0].kind, WantKind::Have);
    assert_eq!(message.blocks, [wanted]);
    assert!(message.presences.is_empty());
}

#[test]
fn a_fault_ends_the_message_and_what_came_before_counts() {
    let mut bytes = sample().encode(Version::V1_2);
    let (_, prefix) = super::super::wire::read_varint(&bytes).unwrap().unwrap();
    bytes.drain(..prefix);
    bytes.truncate(bytes.len() - 1);
    let parts: Vec<_> = Parts::new(&bytes).collect();
    assert!(matches!(parts.first(), Some(Ok(Part::Wantlist(_)))));
    assert_eq!(parts.last(), Some(&Err(WireError::Truncated)));
    assert_eq!(parts.iter().filter(|part| part.is_err()).count(), 1);
}

#[test]
fn a_million_empty_entries_are_walked_without_a_list() {
    let list: Vec<u8> = [0x0a, 0x00].repeat(1_000_000);
    assert_eq!(Wantlist(&list).entries().count(), 0);
}

proptest! {
    #[test]
    fn any_bytes_end_in_parts_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = reread(&bytes);
    }

    #[test]
    fn what_we_write_we_read(
        data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..8),
        full in any::<bool>(),
    ) {
        let blocks: Vec<Block> = data.iter().map(|d| block(Format::DagCbor, d)).collect();
        let message = Message {
            full,
            wants: blocks
                .iter()
                .map(|b| WantEntry {
                    cid: *b.cid(),
                    kind: WantKind::Block,
                    cancel: b.bytes().is_empty(),
                    send_dont_have: true,
                })
                .collect(),
            presences: blocks.iter().map(|b| (*b.cid(), Presence::Have)).collect(),
            blocks,
        };
        let frame = message.encode(Version::V1_2);
        let (len, prefix) = super::super::wire::read_varint(&frame).unwrap().unwrap();
        prop_assert_eq!(len as usize, frame.len() - prefix);
        prop_assert_eq!(reread(&frame[prefix..]).unwrap(), message);
    }
}
