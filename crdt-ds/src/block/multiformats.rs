//! CIDs in binary: how they are told apart from what surrounds them, and which of them can name a
//! block of ours.

use cid::Cid;
use multihash::Multihash;

use super::id::SHA2_256;
use super::{BlockError, Format, VersionId};

/// Bytes of a CID that names a block of ours: version, codec, hash code, digest length, digest.
pub(crate) const CID_LEN: usize = 36;

/// A CID of a block of ours in binary. Their order as bytes is the order of links in a block.
pub(crate) type CidBytes = [u8; CID_LEN];

/// Digest length of SHA-256.
pub(crate) const DIGEST_LEN: u8 = 32;

/// The binary form of a CID that names a block of ours.
pub(crate) fn cid_bytes(cid: &Cid) -> Result<CidBytes, BlockError> {
    let format = Format::of(cid)?;
    let mut bytes = [0; CID_LEN];
    let (prefix, digest) = bytes.split_at_mut(4);
    prefix.copy_from_slice(&[1, format.codec() as u8, SHA2_256 as u8, DIGEST_LEN]);
    // `Format::of` has checked that the digest has 32 bytes.
    if let Some(id) = VersionId::of(cid) {
        digest.copy_from_slice(&id.0);
    }
    Ok(bytes)
}

/// The CID that these bytes are, all of them, if it can name a block of ours.
pub(crate) fn block_cid(bytes: &[u8]) -> Option<Cid> {
    let bytes: &CidBytes = bytes.try_into().ok()?;
    let (&[version, codec, hash, len], digest) = bytes.split_first_chunk::<4>()?;
    let format = Format::from_codec(codec.into())?;
    if (version, u64::from(hash), len) != (1, SHA2_256, DIGEST_LEN) {
        return None;
    }
    Some(Cid::new_v1(
        format.codec(),
        Multihash::wrap(SHA2_256, digest).ok()?,
    ))
}

/// The CID at the beginning of `bytes`, whatever its codec and hash, by go-cid's rules.
pub(crate) fn cid_prefix(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.len() > 2 && bytes.starts_with(&[SHA2_256 as u8, DIGEST_LEN]) {
        return bytes.get(..CIDV0_LEN);
    }
    let mut rest = bytes;
    if uvarint(&mut rest)? != 1 {
        return None;
    }
    let _codec = uvarint(&mut rest)?;
    let _hash = uvarint(&mut rest)?;
    let digest_len = usize::try_from(uvarint(&mut rest)?).ok()?;
    let end = (bytes.len() - rest.len()).checked_add(digest_len)?;
    bytes.get(..end)
}

/// Bytes of a CIDv0: a bare multihash.
pub(crate) const CIDV0_LEN: usize = 34;

/// The DAG-PB block that a CIDv0 names, as a CIDv1: the bytes, and so the hash, are the same.
pub(crate) fn cidv0_as_v1(bytes: &[u8]) -> Option<Cid> {
    let digest = bytes.strip_prefix(&[SHA2_256 as u8, DIGEST_LEN])?;
    Some(VersionId(digest.try_into().ok()?).cid(Format::DagPb))
}

/// A varint of the multiformats specification: at most nine bytes, in the shortest form.
fn uvarint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, &byte) in rest.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            if byte == 0 && i > 0 {
                return None;
            }
            *rest = rest.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}
