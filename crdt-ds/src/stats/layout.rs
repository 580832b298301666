use datastore_core::Key;

use super::Stat;
use super::count_cache::Countable;
use crate::types::{Encoding, Slot, Totals, escape, unescape};
use crate::{Error, Result};

/// Where counters lie in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `/{namespace}/{subject}/{stat}/{node}:{generation}` → up and down, 16 bytes; `…/{node}` → up,
    /// 8 bytes, is read too.
    #[default]
    Slots,
    /// `/STATS/{incr|decr}/{data key}/{node}/{generation}` → 8 bytes, big-endian: what the Warpnet app
    /// writes, for counts that agree with it, in a store that writes DAG-PB. The data keys of the four
    /// named stats are the app's; that of another is `/{namespace}/{stat}/{subject}`.
    IncrDecr,
}

const INCR: &str = "/STATS/incr";
const DECR: &str = "/STATS/decr";

/// The keys of a [`Layout`], for one node and generation.
#[derive(Debug, Clone)]
pub(super) struct KeySpace {
    pub(super) layout: Layout,
    /// Escaped.
    namespace: String,
    /// Escaped.
    pub(super) node: String,
    /// In hexadecimal.
    generation: String,
    /// What follows the counter in the key of a slot of [`Layout::Slots`].
    slot: String,
    root: Key,
}

impl KeySpace {
    pub(super) fn new(
        layout: Layout,
        namespace: &str,
        node: &str,
        generation: &[u8],
    ) -> Result<Self> {
        let namespace = escape("network namespace", namespace)?;
        let root = match layout {
            Layout::Slots => Key::new(&namespace),
            Layout::IncrDecr => Key::new("/STATS"),
        };
        let node = escape("node id", node)?;
        let generation = data_encoding::HEXLOWER.encode(generation);
        Ok(Self {
            layout,
            namespace,
            slot: format!("/{node}:{generation}"),
            node,
            generation,
            root,
        })
    }

    /// The counter of a stat; in [`Layout::IncrDecr`] its data key.
    pub(super) fn counter(&self, subject: &str, stat: &Stat) -> Result<Key> {
        let subject = escape("subject", subject)?;
        let name = escape("stat", stat.as_str())?;
        Ok(match self.layout {
            Layout::Slots => Key::from([self.root.as_str(), &subject, &name].join("/")),
            Layout::IncrDecr => self.data_root(stat, &name).child_str(&subject),
        })
    }

    fn data_root(&self, stat: &Stat, name: &str) -> Key {
        match stat {
            stat if *stat == Stat::LIKES => Key::new("/LIKES/INCR"),
            stat if *stat == Stat::RETWEETS => Key::new("/TWEETS/RETWEETSCOUNT"),
            stat if *stat == Stat::REPLIES => Key::new("/TWEETS/TWEETSCOUNT"),
            stat if *stat == Stat::VIEWS => Key::new("/TWEETS/VIEWS"),
            _ => Key::new(&self.namespace).child_str(name),
        }
    }

    /// Any other counter.
    pub(super) fn counter_at(&self, key: &Key) -> Result<Key> {
        if key.is_root() {
            return Err(Error::EmptyName {
                what: "counter's key",
            });
        }
        Ok(match self.layout {
            Layout::Slots => self.root.child(key),
            Layout::IncrDecr => key.clone(),
        })
    }

    /// Where what `amount` adds, or else subtracts, is written.
    pub(super) fn slot(&self, counter: &Key, amount: Totals) -> Slot {
        let key = match (self.layout, amount.down) {
            (Layout::Slots, _) => {
                return Slot {
                    key: Key::from([counter.as_str(), &self.slot].concat()),
                    encoding: Encoding::Both,
                };
            }
            (Layout::IncrDecr, 0) => Key::new(INCR),
            (Layout::IncrDecr, _) => Key::new(DECR),
        };
        let slot = key
            .child(counter)
            .child_str(&self.node)
            .child_str(&self.generation);
        self.slot_at(slot)
    }

    /// The slot at a key that [`slot`](Self::slot) gave.
    pub(super) fn slot_at(&self, key: Key) -> Slot {
        let encoding = match self.layout {
            Layout::Slots => Encoding::Both,
            Layout::IncrDecr if Key::new(DECR).is_ancestor_of(&key) => Encoding::Down,
            Layout::IncrDecr => Encoding::Up,
        };
        Slot { key, encoding }
    }

    /// The node, unescaped, whose slot lies at this key.
    pub(super) fn node_of(&self, slot: &Key) -> Option<String> {
        let name = match self.layout {
            Layout::Slots => {
                let name = slot.base_namespace();
                return unescape(name.rsplit_once(':').map_or(name, |(node, _)| node));
            }
            Layout::IncrDecr => slot.parent(),
        };
        unescape(name.base_namespace())
    }

    /// What to scan for a ranking by `stat`: slots of all its counters, and which it adds or subtracts.
    pub(super) fn rankings(&self, stat: &Stat) -> Result<Vec<Key>> {
        let name = escape("stat", stat.as_str())?;
        Ok(match self.layout {
            Layout::Slots => vec![self.root.clone()],
            Layout::IncrDecr => {
                let data = self.data_root(stat, &name);
                vec![Key::new(INCR).child(&data), Key::new(DECR).child(&data)]
            }
        })
    }

    /// The subject of a counter of `stat`.
    pub(super) fn subject_of(&self, counter: &Key, stat: &Stat) -> Option<String> {
        let name = escape("stat", stat.as_str()).ok()?;
        let (parent, subject, root) = match self.layout {
            Layout::Slots => {
                if counter.base_namespace() != name {
                    return None;
                }
                let subject = counter.parent();
                (subject.parent(), subject, self.root.clone())
            }
            Layout::IncrDecr => (
                counter.parent(),
                counter.clone(),
                self.data_root(stat, &name),
            ),
        };
        (parent == root).then(|| unescape(subject.base_namespace()))?
    }
}

impl Countable for KeySpace {
    fn root(&self) -> &Key {
        &self.root
    }

    fn parents_scanned(&self, counter: &Key) -> Vec<Key> {
        match self.layout {
            Layout::Slots => vec![counter.clone()],
            Layout::IncrDecr => vec![Key::new(INCR).child(counter), Key::new(DECR).child(counter)],
        }
    }

    fn counter_of(&self, slot: &Key) -> Option<Key> {
        match self.layout {
            Layout::Slots => {
                let counter = slot.parent();
                self.root.is_ancestor_of(&counter).then_some(counter)
            }
            Layout::IncrDecr => {
                let data = slot
                    .strip_prefix(&Key::new(INCR))
                    .or_else(|| slot.strip_prefix(&Key::new(DECR)))?;
                let counter = data.parent().parent();
                (!counter.is_root()).then_some(counter)
            }
        }
    }

    fn totals(&self, slot: &Key, value: &[u8]) -> Option<Totals> {
        match self.layout {
            Layout::Slots if slot.base_namespace().contains(':') => Encoding::Both.decode(value),
            Layout::Slots => Encoding::Up.decode(value),
            // The app reads the first 8 bytes of longer values.
            Layout::IncrDecr => {
                let (number, _) = value.split_at_checked(8)?;
                self.slot_at(slot.clone()).encoding.decode(number)
            }
        }
    }
}

/// Whose slot a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotOwner {
    /// It is no slot of this layout and namespace.
    NoSlot,
    /// The node's that has this id.
    Node(String),
}

/// Whose slot lies at `key`: a node writes and deletes only its own. For validators: a delta of an
/// author whose node id is another breaks the rule. A pure function of its arguments.
///
/// ```
/// use crdt_ds::datastore::Key;
/// use crdt_ds::stats::{Layout, SlotOwner, slot_owner};
///
/// let owner = |key: &str| slot_owner(Layout::Slots, "net", &Key::new(key));
/// assert_eq!(owner("/net/tweet/likes/alice:00ff"), SlotOwner::Node("alice".to_owned()));
/// assert_eq!(owner("/net/tweet/likes/alice"), SlotOwner::Node("alice".to_owned()));
/// assert_eq!(owner("/other/tweet/likes/alice:00ff"), SlotOwner::NoSlot);
/// ```
pub fn slot_owner(layout: Layout, namespace: &str, key: &Key) -> SlotOwner {
    let owner = || {
        let space = KeySpace::new(layout, namespace, "-", &[]).ok()?;
        space.counter_of(key)?;
        space.node_of(key)
    };
    owner().map_or(SlotOwner::NoSlot, SlotOwner::Node)
}
