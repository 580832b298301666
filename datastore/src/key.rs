use std::borrow::{Borrow, Cow};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::{Error, Result};

/// A cleaned, `/`-separated UTF-8 path: the name of a value.
///
/// Cleaned as [go-datastore](https://github.com/ipfs/go-datastore) does it, by the rules of Go's
/// `path.Clean` on the rooted path: it begins with `/`, has no empty, `.` or `..` namespace, and
/// ends in `/` only if it is the root. Any other character may occur, `\0` included. There is no
/// limit on its length here; a backend may have one.
///
/// Held in [`Bytes`]: a clone is cheap, and stripping a prefix is a slice.
///
/// Ordered by bytes, which is the order in which stores scan: `/a-b` comes before `/a/b`.
/// (go-datastore's `Key.Less` compares namespace by namespace instead, and disagrees there.)
///
/// ```
/// use datastore_core::Key;
///
/// assert_eq!(Key::new("a//b/"), Key::new("/a/b"));
/// assert_eq!(Key::new("/a/../b/./c").as_str(), "/b/c");
/// assert_eq!(Key::new(""), Key::root());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(
    // INVARIANT: clean, and valid UTF-8.
    Bytes,
);

impl Key {
    /// The key of a path, which is cleaned.
    pub fn new(path: impl AsRef<str>) -> Self {
        Self(match clean(path.as_ref().as_bytes()) {
            Cow::Borrowed(clean) => Bytes::copy_from_slice(clean),
            Cow::Owned(clean) => clean.into(),
        })
    }

    /// The root, `/`: an ancestor of every other key.
    pub const fn root() -> Self {
        Self(Bytes::from_static(b"/"))
    }

    /// The key of a path in UTF-8, which is cleaned. Bytes that are clean already are not copied, so
    /// the key keeps alive the buffer that they are a slice of; use `Key::try_from(&bytes[..])` for
    /// a copy where that buffer is large.
    ///
    /// # Errors
    /// [`InvalidKey`](Error::InvalidKey) if the bytes are not UTF-8.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::from_utf8("a/b".into())?, Key::new("/a/b"));
    /// assert!(Key::from_utf8(vec![b'/', 0xff].into()).is_err());
    /// # Ok::<(), datastore_core::Error>(())
    /// ```
    pub fn from_utf8(path: Bytes) -> Result<Self> {
        check_utf8(&path)?;
        let cleaned = match clean(&path) {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some(clean.into()),
        };
        Ok(Self(cleaned.unwrap_or(path)))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        // By the invariant this never falls back. The check is why the methods below work on bytes.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The path in UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path in UTF-8, as a shared buffer.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The length of the path in bytes. Never zero: the root has one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Its namespaces, the parts between slashes, from the root down. The root has none.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// let key = Key::new("/Comedy/MontyPython/Actor:JohnCleese");
    /// assert_eq!(key.list().collect::<Vec<_>>(), ["Comedy", "MontyPython", "Actor:JohnCleese"]);
    /// assert_eq!(Key::root().list().count(), 0);
    /// ```
    pub fn list(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.as_str()
            .split('/')
            .filter(|namespace| !namespace.is_empty())
    }

    /// Its first namespace; empty for the root.
    pub fn root_namespace(&self) -> &str {
        self.list().next().unwrap_or_default()
    }

    /// Its last namespace; empty for the root.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/Comedy/Actor:JohnCleese").base_namespace(), "Actor:JohnCleese");
    /// ```
    pub fn base_namespace(&self) -> &str {
        self.list().next_back().unwrap_or_default()
    }

    /// The type: what stands before the last `:` of its last namespace; empty if there is none.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/Comedy/Actor:JohnCleese").type_(), "Actor");
    /// assert_eq!(Key::new("/Comedy").type_(), "");
    /// ```
    pub fn type_(&self) -> &str {
        self.base_namespace()
            .rsplit_once(':')
            .map_or("", |(type_, _)| type_)
    }

    /// The name: what stands after the last `:` of its last namespace, or all of that.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/Comedy/Actor:JohnCleese").name(), "JohnCleese");
    /// assert_eq!(Key::new("/Comedy").name(), "Comedy");
    /// ```
    pub fn name(&self) -> &str {
        let base = self.base_namespace();
        base.rsplit_once(':').map_or(base, |(_, name)| name)
    }

    /// The instance of this type that has a name.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// let key = Key::new("/Comedy/Actor").instance("JohnCleese");
    /// assert_eq!(key, Key::new("/Comedy/Actor:JohnCleese"));
    /// ```
    #[must_use]
    pub fn instance(&self, name: &str) -> Self {
        self.joined(b":", name.as_bytes())
    }

    /// The path of its type: the parent, and the type.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/Comedy/Actor:JohnCleese").path(), Key::new("/Comedy/Actor"));
    /// ```
    #[must_use]
    pub fn path(&self) -> Self {
        self.parent().child_str(self.type_())
    }

    /// The key without its last namespace; the root for the root.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/a/b").parent(), Key::new("/a"));
    /// assert_eq!(Key::root().parent(), Key::root());
    /// ```
    #[must_use]
    pub fn parent(&self) -> Self {
        let end = self
            .0
            .iter()
            .rposition(|&byte| byte == b'/')
            .unwrap_or_default();
        Self(self.0.slice(..end.max(1)))
    }

    /// `other` below this key.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/a").child(&Key::new("/b/c")), Key::new("/a/b/c"));
    /// assert_eq!(Key::new("/a").child(&Key::root()), Key::new("/a"));
    /// ```
    #[must_use]
    pub fn child(&self, other: &Key) -> Self {
        if self.is_root() {
            other.clone()
        } else if other.is_root() {
            self.clone()
        } else {
            // Two clean paths make a clean one.
            Self([self.as_bytes(), other.as_bytes()].concat().into())
        }
    }

    /// The path `path` below this key. Cleaned as a whole, so `..` leads upwards.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/a").child_str("b"), Key::new("/a/b"));
    /// assert_eq!(Key::new("/a").child_str("../b"), Key::new("/b"));
    /// ```
    #[must_use]
    pub fn child_str(&self, path: &str) -> Self {
        self.joined(b"/", path.as_bytes())
    }

    fn joined(&self, separator: &[u8], rest: &[u8]) -> Self {
        let joined = [self.as_bytes(), separator, rest].concat();
        let cleaned = match clean(&joined) {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some(clean),
        };
        Self(cleaned.unwrap_or(joined).into())
    }

    /// Whether `other` lies strictly below this key.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert!(Key::new("/a").is_ancestor_of(&Key::new("/a/b")));
    /// assert!(!Key::new("/a").is_ancestor_of(&Key::new("/ab")));
    /// assert!(!Key::new("/a").is_ancestor_of(&Key::new("/a")));
    /// ```
    pub fn is_ancestor_of(&self, other: &Key) -> bool {
        if self.is_root() {
            return !other.is_root();
        }
        other
            .0
            .strip_prefix(self.as_bytes())
            .is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether it lies strictly below `other`.
    pub fn is_descendant_of(&self, other: &Key) -> bool {
        other.is_ancestor_of(self)
    }

    /// Whether it has exactly one namespace.
    pub fn is_top_level(&self) -> bool {
        !self.is_root() && self.0.iter().filter(|&&byte| byte == b'/').count() == 1
    }

    /// The key with its namespaces in reverse order.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// assert_eq!(Key::new("/a/b/c").reverse(), Key::new("/c/b/a"));
    /// ```
    #[must_use]
    pub fn reverse(&self) -> Self {
        let mut path = Vec::with_capacity(self.len());
        for namespace in self.list().rev() {
            path.push(b'/');
            path.extend_from_slice(namespace.as_bytes());
        }
        if path.is_empty() {
            Self::root()
        } else {
            Self(path.into())
        }
    }

    /// What is left of the key below `prefix`: the root if they are equal, `None` if it is neither
    /// `prefix` nor a descendant of it. A slice, not a copy.
    ///
    /// ```
    /// use datastore_core::Key;
    ///
    /// let key = Key::new("/a/b/c");
    /// assert_eq!(key.strip_prefix(&Key::new("/a")), Some(Key::new("/b/c")));
    /// assert_eq!(key.strip_prefix(&key), Some(Key::root()));
    /// assert_eq!(key.strip_prefix(&Key::new("/a/b/cd")), None);
    /// ```
    pub fn strip_prefix(&self, prefix: &Key) -> Option<Self> {
        if prefix.is_root() {
            Some(self.clone())
        } else if prefix.is_ancestor_of(self) {
            Some(Self(self.0.slice(prefix.len()..)))
        } else {
            (self == prefix).then(Self::root)
        }
    }
}

/// Go's `path.Clean`, for the path rooted at `/`. Borrowed if it is clean already.
fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    let is_clean = match path {
        b"/" => true,
        // Most paths have no namespace that begins with a dot, which is seen without a look at each.
        [b'/', rest @ ..] if !rest.ends_with(b"/") && !has_odd_namespace(path, rest) => true,
        [b'/', namespaces @ ..] => namespaces
            .split(|&byte| byte == b'/')
            .all(|namespace| !matches!(namespace, b"" | b"." | b"..")),
        _ => false,
    };
    if is_clean {
        return Cow::Borrowed(path);
    }
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for namespace in path.split(|&byte| byte == b'/') {
        match namespace {
            b"" | b"." => {}
            b".." => {
                let end = cleaned
                    .iter()
                    .rposition(|&byte| byte == b'/')
                    .unwrap_or_default();
                cleaned.truncate(end);
            }
            _ => {
                cleaned.push(b'/');
                cleaned.extend_from_slice(namespace);
            }
        }
    }
    if cleaned.is_empty() {
        cleaned.push(b'/');
    }
    Cow::Owned(cleaned)
}

/// Whether a namespace is empty or begins with a dot; `rest` is the path without its first byte.
fn has_odd_namespace(path: &[u8], rest: &[u8]) -> bool {
    // Without a branch, so that many bytes are compared at a time.
    path.iter().zip(rest).fold(false, |found, (&byte, &next)| {
        found | ((byte == b'/') & ((next == b'/') | (next == b'.')))
    })
}

fn check_utf8(path: &[u8]) -> Result<&str> {
    str::from_utf8(path).map_err(|error| Error::InvalidKey {
        valid_up_to: error.valid_up_to(),
    })
}

impl Default for Key {
    /// The root.
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.as_str())
    }
}

impl From<&str> for Key {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

impl From<String> for Key {
    /// Not copied if it is clean already.
    fn from(path: String) -> Self {
        let cleaned = match clean(path.as_bytes()) {
            Cow::Borrowed(_) => None,
            Cow::Owned(clean) => Some(clean),
        };
        Self(cleaned.unwrap_or_else(|| path.into_bytes()).into())
    }
}

impl FromStr for Key {
    type Err = Infallible;

    fn from_str(path: &str) -> Result<Self, Infallible> {
        Ok(Self::new(path))
    }
}

impl TryFrom<&[u8]> for Key {
    type Error = Error;

    /// The key of a path in UTF-8, copied; see [`Key::from_utf8`].
    fn try_from(path: &[u8]) -> Result<Self> {
        check_utf8(path).map(Self::new)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// `Eq`, `Ord` and `Hash` are those of the bytes, so a map of keys can be asked for byte bounds.
impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, cleaned) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            (".", "/"),
            ("..", "/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("a", "/a"),
            ("a//b/", "/a/b"),
            ("/a/../b/./c", "/b/c"),
            ("/a/b/../../c", "/c"),
            ("/a/..", "/"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            ("/a/b..", "/a/b.."),
            ("/ a /\0", "/ a /\0"),
            ("/ünï/códe/../🦀/", "/ünï/🦀"),
            ("/a:b:c", "/a:b:c"),
        ] {
            assert_eq!(Key::new(path).as_str(), cleaned, "{path:?}");
            assert_eq!(Key::from(path.to_owned()).as_str(), cleaned, "{path:?}");
            assert_eq!(
                Key::try_from(path.as_bytes()).unwrap().as_str(),
                cleaned,
                "{path:?}"
            );
            let bytes = Bytes::copy_from_slice(path.as_bytes());
            assert_eq!(Key::from_utf8(bytes).unwrap().as_str(), cleaned, "{path:?}");
        }
    }

    #[test]
    fn clean_bytes_are_not_copied_and_a_stripped_prefix_is_a_slice() {
        let bytes = Bytes::from_static(b"/a/b/c");
        let key = Key::from_utf8(bytes.clone()).unwrap();
        assert_eq!(key.as_bytes().as_ptr(), bytes.as_ptr());
        let stripped = key.strip_prefix(&Key::new("/a")).unwrap();
        assert_eq!(stripped.as_bytes().as_ptr(), bytes[2..].as_ptr());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let error = Key::from_utf8(Bytes::from_static(b"/ab\xff")).unwrap_err();
        assert!(
            matches!(error, Error::InvalidKey { valid_up_to: 3 }),
            "{error}"
        );
    }

    #[test]
    fn types_names_and_instances_are_those_of_go_datastore() {
        let actor = Key::new("/Comedy/MontyPython/Actor");
        let cleese = actor.instance("JohnCleese");
        assert_eq!(cleese.as_str(), "/Comedy/MontyPython/Actor:JohnCleese");
        assert_eq!((cleese.type_(), cleese.name()), ("Actor", "JohnCleese"));
        assert_eq!(cleese.path(), actor);
        assert_eq!(actor.path(), Key::new("/Comedy/MontyPython"));
        let nested = Key::new("/a:b:c");
        assert_eq!((nested.type_(), nested.name()), ("a:b", "c"));
        assert_eq!((nested.root_namespace(), Key::root().name()), ("a:b:c", ""));
    }

    #[test]
    fn ancestry_goes_by_namespace_and_order_by_bytes() {
        let (a, a_dash, a_b) = (Key::new("/a"), Key::new("/a-"), Key::new("/a/b"));
        assert!(a < a_dash && a_dash < a_b);
        assert!(a.is_ancestor_of(&a_b) && !a.is_ancestor_of(&a_dash) && !a.is_ancestor_of(&a));
        assert!(a_b.is_descendant_of(&Key::root()) && !Key::root().is_ancestor_of(&Key::root()));
        assert!(a.is_top_level() && !a_b.is_top_level() && !Key::root().is_top_level());
        assert_eq!(a_dash.strip_prefix(&a), None);
        assert_eq!(a_b.strip_prefix(&Key::root()), Some(a_b.clone()));
        assert_eq!(a.parent(), Key::root());
        assert_eq!(Key::root().reverse(), Key::root());
        assert_eq!(Key::root().child_str("x/../y"), Key::new("/y"));
    }
}
