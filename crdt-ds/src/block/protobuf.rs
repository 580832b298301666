//! Protobuf's wire format, as lenient as Go's runtime: what Go skips is skipped, what Go refuses is
//! refused. (<https://protobuf.dev/programming-guides/encoding/>)

/// A field of a message.
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
}

/// What a field holds.
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-size numbers and groups, which no message of ours has.
    Other,
}

/// The fields of a message in the order of its bytes; ends after the first error.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// The most deeply nested group that Go skips.
const MAX_GROUPS: usize = 10_001;
/// The highest field number of a message.
const MAX_FIELD: u64 = (1 << 29) - 1;
/// The highest field number within a group that is skipped: Go is laxer there.
const MAX_FIELD_IN_GROUP: u64 = i32::MAX as u64;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, &'static str> {
        let (number, wire_type) = self.tag(MAX_FIELD)?;
        let value = if wire_type == GROUP {
            self.skip_group(number)?;
            Value::Other
        } else {
            self.value(wire_type)?
        };
        Ok(Field { number, value })
    }

    fn tag(&mut self, max_field: u64) -> Result<(u64, u64), &'static str> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > max_field {
            return Err("protobuf: a field number is out of range");
        }
        Ok((number, tag & 7))
    }

    fn value(&mut self, wire_type: u64) -> Result<Value<'a>, &'static str> {
        match wire_type {
            VARINT => Ok(Value::Varint(self.varint()?)),
            FIXED64 => self.take(8).map(|_| Value::Other),
            FIXED32 => self.take(4).map(|_| Value::Other),
            BYTES => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| TRUNCATED)?;
                Ok(Value::Bytes(self.take(len)?))
            }
            _ => Err("protobuf: a wire type is unknown or out of place"),
        }
    }

    /// Skips to the end of the group just begun. A stack of our own, so that nesting cannot overflow
    /// the thread's.
    fn skip_group(&mut self, number: u64) -> Result<(), &'static str> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, wire_type) = self.tag(MAX_FIELD_IN_GROUP)?;
            match wire_type {
                GROUP if open.len() == MAX_GROUPS => {
                    return Err("protobuf: groups are nested too deeply");
                }
                GROUP => open.push(number),
                END_GROUP if number == innermost => {
                    open.pop();
                }
                _ => {
                    self.value(wire_type)?;
                }
            }
        }
        Ok(())
    }

    /// A varint of at most 64 bits; longer forms than needed are accepted.
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.take(i + 1)?;
                return Ok(value);
            }
        }
        Err("protobuf: a varint is cut off or above 64 bits")
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(taken)
    }
}

const TRUNCATED: &str = "protobuf: a field is cut off";

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Bytes that a varint takes.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Bytes that a field of `len` bytes takes, for field numbers up to 15.
pub(crate) fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// As [`bytes_field_len`], but proto3 leaves out an empty scalar.
pub(crate) fn scalar_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { bytes_field_len(len) }
}

pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a number; `field` is at most 15.
pub(crate) fn write_number_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3 | VARINT as u8);
    write_varint(out, value);
}

/// Writes the head of a field of `len` bytes, which the caller appends; `field` is at most 15.
pub(crate) fn write_bytes_head(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(field << 3 | BYTES as u8);
    write_varint(out, len as u64);
}

pub(crate) fn write_bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    write_bytes_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// As [`write_bytes_field`], but proto3 leaves out an empty scalar.
pub(crate) fn write_scalar_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        write_bytes_field(out, field, bytes);
    }
}
