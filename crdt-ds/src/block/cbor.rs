//! CBOR as DAG-CBOR restricts it: definite lengths, shortest heads.
//! (<https://ipld.io/specs/codecs/dag-cbor/spec/>, RFC 8949 section 4.2.1)

use super::multiformats::{CID_LEN, CidBytes};

pub(super) const UNSIGNED: u8 = 0;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const LIST: u8 = 4;
pub(super) const MAP: u8 = 5;

/// What stands before the bytes of a CID: tag 42, a byte string, and the zero of the identity
/// multibase.
const LINK_HEAD: [u8; 5] = [0xd8, 42, 0x58, CID_LEN as u8 + 1, 0];

/// Bytes of a link to a block of ours.
pub(super) const LINK_LEN: usize = LINK_HEAD.len() + CID_LEN;

/// Bytes of an item's head.
pub(super) fn head_len(argument: u64) -> usize {
    match argument {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// Bytes of a byte or text string.
pub(super) fn string_len(len: usize) -> usize {
    head_len(len as u64) + len
}

pub(super) fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let be = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | argument as u8),
        24..0x100 => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&be);
        }
    }
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn write_link(out: &mut Vec<u8>, cid: &CidBytes) {
    out.extend_from_slice(&LINK_HEAD);
    out.extend_from_slice(cid);
}

/// Reads items that are expected, one after the other. Whatever else stands there is an error.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The argument of an item of this major type: a number, or a length.
    pub(super) fn head(&mut self, major: u8) -> Result<u64, &'static str> {
        let &[first] = self.array()?;
        if first >> 5 != major {
            return Err("dag-cbor: an item is not of the type expected");
        }
        let argument = match first & 31 {
            small @ 0..24 => return Ok(small.into()),
            24 => u8::from_be_bytes(*self.array()?).into(),
            25 => u16::from_be_bytes(*self.array()?).into(),
            26 => u32::from_be_bytes(*self.array()?).into(),
            27 => u64::from_be_bytes(*self.array()?),
            _ => return Err("dag-cbor: a length is indefinite"),
        };
        if head_len(argument) != 1 + (1 << ((first & 31) - 24)) {
            return Err("dag-cbor: a number is not in its shortest form");
        }
        Ok(argument)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let len = self.head(BYTES)?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, &'static str> {
        let len = self.head(TEXT)?;
        str::from_utf8(self.take(len)?).map_err(|_| "dag-cbor: a text is not UTF-8")
    }

    /// A map's key that is one character.
    pub(super) fn letter(&mut self, letter: u8) -> Result<(), &'static str> {
        if *self.array()? == [TEXT << 5 | 1, letter] {
            Ok(())
        } else {
            Err("dag-cbor: a field is missing, unknown or out of order")
        }
    }

    /// The CID of a link as long as those of our blocks.
    pub(super) fn link(&mut self) -> Result<&'a CidBytes, &'static str> {
        if *self.array()? == LINK_HEAD {
            self.array()
        } else {
            Err("dag-cbor: a link is not to a block of ours")
        }
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), &'static str> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err("dag-cbor: bytes follow the block")
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const TRUNCATED: &str = "dag-cbor: the block is cut off";
