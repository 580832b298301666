//! DAG-CBOR, our own format: one [map](https://ipld.io/specs/codecs/dag-cbor/spec/) of one-letter
//! keys. There is one way to write a block, and nothing else is read.
//!
//! | key | value |
//! |---|---|
//! | `a` | author, only in a signed block |
//! | `d` | deletes: a map from key to the ids of versions, 32 bytes each, ascending, in one byte string |
//! | `g` | DAG name, at most 256 bytes |
//! | `l` | links: a list of IPLD links, ascending by the bytes of the CID |
//! | `n` | network id, at most 64 bytes |
//! | `p` | puts: a map from key to value |
//! | `q` | sequence, from 1 |
//! | `s` | signature, only in a signed block |
//! | `t` | priority, at most 2^62 - 1 |
//! | `v` | version of the format: 1 |
//! | `w` | writer, 16 bytes |
//!
//! Every version of the format is a map that has `l` and `v` as here, so that a program which does
//! not know the version can tell so, and what the block waits for.

use std::cmp::Ordering;

use bytes::Bytes;
use cid::Cid;
use datastore_core::Key;
use serde::Deserialize;

use super::cbor::{self, Reader};
use super::multiformats::{CidBytes, block_cid, cid_bytes};
use super::{
    Block, BlockError, DagName, Deletes, Delta, Format, MAX_PRIORITY, Node, Origin, Put, Signature,
    VersionId, WriterId, size,
};

/// The version of the format that this program writes and reads.
pub const VERSION: u64 = 1;

/// The most bytes that a network id may have.
pub const MAX_NETWORK_BYTES: usize = 64;

/// Fields of a block that is not signed.
const FIELDS: u64 = 9;
/// Bytes of a [`VersionId`].
pub(super) const ID_LEN: usize = 32;

/// The block of these links and this delta. Links, puts and deletes may come in any order.
///
/// # Errors
/// [`BlockError::ForeignCid`] for a link that names no block of ours. [`BlockError::Unwritable`] for a
/// key that is put twice, a sequence of 0, a priority above [`MAX_PRIORITY`], a DAG name above
/// [`DagName::MAX_BYTES`] or a network id above [`MAX_NETWORK_BYTES`]. [`BlockError::TooLarge`].
pub fn encode(origin: &Origin, links: &[Cid], delta: &Delta) -> Result<Block, BlockError> {
    let bytes = write(origin, links, delta, None, None)?;
    Block::new(Format::DagCbor, bytes.into())
}

/// As [`encode`], but signed: the signature is over [`signed_bytes`].
///
/// # Errors
/// As [`encode`]; and [`BlockError::Unwritable`] if author or signature is empty.
pub fn encode_signed(
    origin: &Origin,
    links: &[Cid],
    delta: &Delta,
    signature: &Signature,
) -> Result<Block, BlockError> {
    if signature.author.is_empty() || signature.signature.is_empty() {
        return Err(BlockError::unwritable("its author or signature is empty"));
    }
    let Signature { author, signature } = signature;
    let bytes = write(origin, links, delta, Some(author), Some(signature))?;
    Block::new(Format::DagCbor, bytes.into())
}

/// What an author signs: the block as it will be, without the field of the signature.
///
/// # Errors
/// As [`encode`].
pub fn signed_bytes(
    origin: &Origin,
    links: &[Cid],
    delta: &Delta,
    author: &[u8],
) -> Result<Vec<u8>, BlockError> {
    write(origin, links, delta, Some(author), None)
}

fn write(
    origin: &Origin,
    links: &[Cid],
    delta: &Delta,
    author: Option<&[u8]>,
    signature: Option<&[u8]>,
) -> Result<Vec<u8>, BlockError> {
    check_bounds(
        &origin.network,
        origin.sequence,
        delta.dag_name.as_str(),
        delta.priority,
    )
    .map_err(BlockError::unwritable)?;
    let links = sorted_links(links)?;
    let puts = sorted_puts(&delta.puts)?;
    let deletes = sorted_deletes(&delta.deletes);
    let keys_deleted = deletes.chunk_by(|a, b| a.0 == b.0);

    let signature_len = [author, signature]
        .iter()
        .flatten()
        .map(|s| 3 + s.len() + 8)
        .sum::<usize>();
    let mut out = Vec::with_capacity(size::dag_cbor_len(links.len(), delta) + signature_len);
    let fields = FIELDS + u64::from(author.is_some()) + u64::from(signature.is_some());
    cbor::write_head(&mut out, cbor::MAP, fields);
    if let Some(author) = author {
        write_letter(&mut out, b'a');
        cbor::write_bytes(&mut out, author);
    }
    write_letter(&mut out, b'd');
    cbor::write_head(&mut out, cbor::MAP, keys_deleted.clone().count() as u64);
    for ids in keys_deleted {
        if let Some((key, _)) = ids.first() {
            cbor::write_text(&mut out, key.as_str());
        }
        cbor::write_head(&mut out, cbor::BYTES, (ids.len() * ID_LEN) as u64);
        for (_, id) in ids {
            out.extend_from_slice(&id.0);
        }
    }
    write_letter(&mut out, b'g');
    cbor::write_text(&mut out, delta.dag_name.as_str());
    write_letter(&mut out, b'l');
    cbor::write_head(&mut out, cbor::LIST, links.len() as u64);
    for link in &links {
        cbor::write_link(&mut out, link);
    }
    write_letter(&mut out, b'n');
    cbor::write_text(&mut out, &origin.network);
    write_letter(&mut out, b'p');
    cbor::write_head(&mut out, cbor::MAP, puts.len() as u64);
    for put in puts {
        cbor::write_text(&mut out, put.key.as_str());
        cbor::write_bytes(&mut out, &put.value);
    }
    write_letter(&mut out, b'q');
    cbor::write_head(&mut out, cbor::UNSIGNED, origin.sequence);
    if let Some(signature) = signature {
        write_letter(&mut out, b's');
        cbor::write_bytes(&mut out, signature);
    }
    write_letter(&mut out, b't');
    cbor::write_head(&mut out, cbor::UNSIGNED, delta.priority);
    write_letter(&mut out, b'v');
    cbor::write_head(&mut out, cbor::UNSIGNED, VERSION);
    write_letter(&mut out, b'w');
    cbor::write_bytes(&mut out, &origin.writer.0);
    Ok(out)
}

fn write_letter(out: &mut Vec<u8>, letter: u8) {
    out.extend_from_slice(&[cbor::TEXT << 5 | 1, letter]);
}

/// What holds for the scalars of every block.
fn check_bounds(
    network: &str,
    sequence: u64,
    dag_name: &str,
    priority: u64,
) -> Result<(), &'static str> {
    if network.len() > MAX_NETWORK_BYTES {
        Err("its network id has more than 64 bytes")
    } else if sequence == 0 {
        Err("its sequence is 0")
    } else if dag_name.len() > DagName::MAX_BYTES {
        Err("its DAG name has more than 256 bytes")
    } else if priority > MAX_PRIORITY {
        Err("its priority is above 2^62 - 1")
    } else {
        Ok(())
    }
}

/// DAG-CBOR's order of a map's keys: the shorter first, equally long ones by bytes.
fn key_order(a: &Key, b: &Key) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn sorted_links(links: &[Cid]) -> Result<Vec<CidBytes>, BlockError> {
    let mut sorted = links.iter().map(cid_bytes).collect::<Result<Vec<_>, _>>()?;
    sorted.sort_unstable();
    sorted.dedup();
    Ok(sorted)
}

fn sorted_puts(puts: &[Put]) -> Result<Vec<&Put>, BlockError> {
    let mut sorted: Vec<&Put> = puts.iter().collect();
    sorted.sort_unstable_by(|a, b| key_order(&a.key, &b.key));
    if sorted.is_sorted_by(|a, b| a.key != b.key) {
        Ok(sorted)
    } else {
        Err(BlockError::unwritable("it puts a key twice"))
    }
}

/// The deletes one by one, those of a key together.
fn sorted_deletes(deletes: &[Deletes]) -> Vec<(&Key, VersionId)> {
    let mut sorted: Vec<_> = deletes
        .iter()
        .flat_map(|deletes| deletes.ids.iter().map(|id| (&deletes.key, *id)))
        .collect();
    sorted.sort_unstable_by(|a, b| key_order(a.0, b.0).then_with(|| a.1.cmp(&b.1)));
    sorted.dedup();
    sorted
}

/// What a DAG-CBOR block says, if it was made for `network`.
///
/// # Errors
/// [`BlockError::Malformed`], [`BlockError::UnknownVersion`], [`BlockError::OtherNetwork`].
pub fn decode(block: &Block, network: &str) -> Result<Node, BlockError> {
    let (node, block_network) =
        read(block.bytes()).map_err(|reason| match Preamble::of(block) {
            Ok(Preamble { v, .. }) if v > VERSION => BlockError::UnknownVersion {
                cid: *block.cid(),
                version: v,
            },
            _ => block.malformed(reason),
        })?;
    if block_network != network {
        return Err(BlockError::OtherNetwork {
            cid: *block.cid(),
            network: block_network.into(),
        });
    }
    Ok(node)
}

/// The links of a block whose version this program does not know: what it waits for, besides an
/// upgrade.
///
/// # Errors
/// [`BlockError::Malformed`] if it is no DAG-CBOR block of any version.
pub fn links_of_unknown(block: &Block) -> Result<Vec<Cid>, BlockError> {
    Preamble::of(block).map(|preamble| preamble.l)
}

/// What every version of the format has.
#[derive(Deserialize)]
struct Preamble {
    v: u64,
    l: Vec<Cid>,
}

impl Preamble {
    fn of(block: &Block) -> Result<Self, BlockError> {
        if Format::of(block.cid())? != Format::DagCbor {
            return Err(block.malformed("only DAG-CBOR blocks have a version"));
        }
        let preamble: Self = serde_ipld_dagcbor::from_slice(block.bytes())
            .map_err(|_| block.malformed("dag-cbor: no map with a version and links"))?;
        let links = preamble
            .l
            .iter()
            .map(cid_bytes)
            .collect::<Result<Vec<_>, _>>();
        match links {
            Ok(links) if links.is_sorted_by(|a, b| a < b) => Ok(preamble),
            _ => Err(block.malformed(LINKS)),
        }
    }
}

const LINKS: &str = "dag-cbor: its links are not sorted, or one is not to a block of ours";
const KEYS: &str = "dag-cbor: the keys of its puts or deletes are not sorted, or one comes twice";

/// Reads the one form that [`write`] gives.
fn read(bytes: &Bytes) -> Result<(Node, &str), &'static str> {
    let mut reader = Reader::of(bytes);
    let signed = match reader.head(cbor::MAP)? {
        FIELDS => false,
        fields if fields == FIELDS + 2 => true,
        _ => return Err("dag-cbor: fields are missing or unknown"),
    };
    let author = read_signature_part(&mut reader, signed, b'a')?;
    reader.letter(b'd')?;
    let deletes = read_deletes(&mut reader, bytes)?;
    reader.letter(b'g')?;
    let dag_name = reader.text()?;
    reader.letter(b'l')?;
    let links = read_links(&mut reader)?;
    reader.letter(b'n')?;
    let network = reader.text()?;
    reader.letter(b'p')?;
    let puts = read_puts(&mut reader, bytes)?;
    reader.letter(b'q')?;
    let sequence = reader.head(cbor::UNSIGNED)?;
    let signature = read_signature_part(&mut reader, signed, b's')?;
    reader.letter(b't')?;
    let priority = reader.head(cbor::UNSIGNED)?;
    reader.letter(b'v')?;
    if reader.head(cbor::UNSIGNED)? != VERSION {
        return Err("dag-cbor: its version is unknown");
    }
    reader.letter(b'w')?;
    let writer = reader
        .bytes()?
        .try_into()
        .map_err(|_| "dag-cbor: its writer has not 16 bytes")?;
    reader.end()?;
    check_bounds(network, sequence, dag_name, priority)?;

    let dag_name = if dag_name.is_empty() {
        DagName::default()
    } else {
        DagName::new(dag_name)
    };
    let node = Node {
        links,
        foreign_links: Vec::new(),
        delta: Delta {
            priority,
            dag_name,
            puts,
            deletes,
        },
        origin: Some(Origin {
            network: network.to_owned(),
            writer: WriterId(writer),
            sequence,
        }),
        signature: author.zip(signature).map(|(author, signature)| Signature {
            author: bytes.slice_ref(author),
            signature: bytes.slice_ref(signature),
        }),
    };
    Ok((node, network))
}

fn read_signature_part<'a>(
    reader: &mut Reader<'a>,
    signed: bool,
    letter: u8,
) -> Result<Option<&'a [u8]>, &'static str> {
    if !signed {
        return Ok(None);
    }
    reader.letter(letter)?;
    match reader.bytes()? {
        [] => Err("dag-cbor: its author or signature is empty"),
        part => Ok(Some(part)),
    }
}

fn read_links(reader: &mut Reader<'_>) -> Result<Vec<Cid>, &'static str> {
    let mut last: Option<&CidBytes> = None;
    let mut links = Vec::new();
    for _ in 0..reader.head(cbor::LIST)? {
        let link = reader.link()?;
        if last.is_some_and(|last| last >= link) {
            return Err(LINKS);
        }
        links.push(block_cid(link).ok_or(LINKS)?);
        last = Some(link);
    }
    Ok(links)
}

fn read_puts(reader: &mut Reader<'_>, block: &Bytes) -> Result<Vec<Put>, &'static str> {
    let mut puts: Vec<Put> = Vec::new();
    for _ in 0..reader.head(cbor::MAP)? {
        let key = read_key(reader, block, puts.last().map(|put| &put.key))?;
        puts.push(Put {
            key,
            value: block.slice_ref(reader.bytes()?),
        });
    }
    Ok(puts)
}

fn read_deletes(reader: &mut Reader<'_>, block: &Bytes) -> Result<Vec<Deletes>, &'static str> {
    let mut deletes: Vec<Deletes> = Vec::new();
    for _ in 0..reader.head(cbor::MAP)? {
        let key = read_key(reader, block, deletes.last().map(|deletes| &deletes.key))?;
        let (ids, rest) = reader.bytes()?.as_chunks::<ID_LEN>();
        if ids.is_empty() || !rest.is_empty() || !ids.is_sorted_by(|a, b| a < b) {
            return Err("dag-cbor: the ids of a delete are cut off, unsorted or none");
        }
        deletes.push(Deletes {
            key,
            ids: ids.iter().copied().map(VersionId).collect(),
        });
    }
    Ok(deletes)
}

/// A clean key that comes after `last`.
fn read_key(
    reader: &mut Reader<'_>,
    block: &Bytes,
    last: Option<&Key>,
) -> Result<Key, &'static str> {
    let text = reader.text()?;
    let key = Key::from_utf8(block.slice_ref(text.as_bytes())).map_err(|_| UNCLEAN)?;
    if key.as_bytes() != text.as_bytes() {
        return Err(UNCLEAN);
    }
    if last.is_some_and(|last| key_order(last, &key).is_ge()) {
        return Err(KEYS);
    }
    Ok(key)
}

const UNCLEAN: &str = "dag-cbor: a key is not clean";
