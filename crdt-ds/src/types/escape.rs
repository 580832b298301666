use std::fmt::Write;

use crate::{Error, Result};

/// The most bytes that an id (of a subject, a stat, a node, a member) may have, before it is escaped.
/// With three of them escaped at three bytes for one a key still fits
/// [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES).
pub const MAX_ID_BYTES: usize = 1024;

/// An id as one namespace of a key: it holds no `/` and no `:`, is neither `.` nor `..`, and two ids
/// never become one. `%`, `/`, `:` and control characters are written as `%` and two hexadecimal
/// digits, and so are the dots of `.` and `..`; all else stays as it is.
///
/// # Errors
/// [`Error::EmptyName`]; [`Error::NameTooLong`] above [`MAX_ID_BYTES`]. `what` says in the error which
/// id it was.
///
/// ```
/// use crdt_ds::types::escape;
///
/// assert_eq!(escape("node", "12D3KooW")?, "12D3KooW");
/// assert_eq!(escape("node", "../a:b")?, "..%2Fa%3Ab");
/// assert_eq!(escape("node", "..")?, "%2E%2E");
/// assert!(escape("node", "").is_err());
/// # Ok::<(), crdt_ds::Error>(())
/// ```
pub fn escape(what: &'static str, id: &str) -> Result<String> {
    if id.is_empty() {
        return Err(Error::EmptyName { what });
    }
    if id.len() > MAX_ID_BYTES {
        return Err(Error::NameTooLong {
            what,
            size: id.len(),
            limit: MAX_ID_BYTES,
        });
    }
    let dots = matches!(id, "." | "..");
    let is_special = |byte: u8| matches!(byte, b'%' | b'/' | b':') || byte.is_ascii_control();
    if !dots && !id.bytes().any(is_special) {
        return Ok(id.to_owned());
    }
    let mut escaped = String::with_capacity(id.len() + 8);
    for c in id.chars() {
        if dots || u8::try_from(c).is_ok_and(is_special) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{:02X}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Ok(escaped)
}

/// The id that [`escape`] made this of; `None` if it made it of none.
pub fn unescape(escaped: &str) -> Option<String> {
    let mut id = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            id.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            id.push(byte);
        }
    }
    let id = String::from_utf8(id).ok()?;
    (escape("id", &id).ok()? == escaped).then_some(id)
}

#[cfg(test)]
mod tests {
    use datastore_core::Key;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_that_is_empty_or_long_is_an_error() {
        assert!(matches!(
            escape("x", ""),
            Err(Error::EmptyName { what: "x" })
        ));
        assert!(escape("x", &"é".repeat(MAX_ID_BYTES / 2)).is_ok());
        let long = "a".repeat(10 * 1024);
        assert!(matches!(
            escape("x", &long),
            Err(Error::NameTooLong { size: 10_240, .. })
        ));
    }

    #[test]
    fn what_no_escape_made_is_not_unescaped() {
        for text in [
            "", "a/b", "a:b", "%", "%2", "%zz", "%+1", "%41", "%2e", ".", "..", "%FF",
        ] {
            assert_eq!(unescape(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_id_is_one_namespace_and_comes_back(id in "[a-c/:%.\u{0}é]{1,12}") {
            let escaped = escape("x", &id).unwrap();
            let key = Key::new("/a").child_str(&escaped);
            prop_assert_eq!(key.list().collect::<Vec<_>>(), ["a", escaped.as_str()]);
            prop_assert_eq!(key.type_(), "");
            prop_assert_eq!(unescape(&escaped), Some(id));
        }
    }
}
