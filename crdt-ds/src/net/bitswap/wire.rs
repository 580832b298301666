//! The little of protobuf's wire format that bitswap needs.

use std::fmt;

/// Bytes that are no protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A variable-length integer of more than 64 bits.
    #[error("an integer in the message has more than 64 bits")]
    Overlong,
    /// A field whose type is none of protobuf's.
    #[error("the message has a field of an unknown type")]
    UnknownType,
}

/// A field: its number, and its bytes if it is length-delimited, else its value if it is a varint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) bytes: Option<&'a [u8]>,
    pub(super) varint: u64,
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Field({}, {:?} bytes)",
            self.number,
            self.bytes.map(<[u8]>::len)
        )
    }
}

/// The fields of a message, in the order of its bytes; the first fault ends it.
#[derive(Debug, Clone)]
pub(super) struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
        let (head, tail) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let (value, len) = read_varint(self.0)?.ok_or(WireError::Truncated)?;
        self.take(len as u64)?;
        Ok(value)
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.varint()?;
        let (number, mut bytes, mut varint) = (key >> 3, None, 0);
        match key & 7 {
            0 => varint = self.varint()?,
            1 => drop(self.take(8)?),
            2 => {
                let len = self.varint()?;
                bytes = Some(self.take(len)?);
            }
            5 => drop(self.take(4)?),
            _ => return Err(WireError::UnknownType),
        }
        Ok(Field {
            number,
            bytes,
            varint,
        })
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The varint at the start of `bytes` and its length; `None` if `bytes` ends before it does.
pub(super) fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        // The tenth byte has room for one bit.
        if at > 9 || (at == 9 && *byte > 1) {
            return Err(WireError::Overlong);
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    Ok(None)
}

pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a varint field; zero, being proto3's default, is left out.
pub(super) fn put_varint_field(number: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        put_varint(number << 3, out);
        put_varint(value, out);
    }
}

/// Writes a length-delimited field.
pub(super) fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
