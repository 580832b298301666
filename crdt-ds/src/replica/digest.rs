//! Digests by which replicas know whether they are in sync.

use cid::Cid;
use datastore_core::Key;
use sha2::{Digest, Sha256};

/// The state digest: a sum of hashes, one for each visible key and its value, so that the order of
/// changes does not matter. It tells equal states from different ones; it does not prove anything
/// about a peer that lies. For that there is the history digest.
///
/// A term is SHA-256 of (the key's length as 8 bytes big-endian, the key, the value); the sum is of
/// 256-bit big-endian integers, modulo 2^256.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct StateDigest([u8; 32]);

impl StateDigest {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn term(key: &Key, value: &[u8]) -> [u8; 32] {
        Sha256::new()
            .chain_update((key.len() as u64).to_be_bytes())
            .chain_update(key.as_bytes())
            .chain_update(value)
            .finalize()
            .into()
    }

    pub(crate) fn add(&mut self, term: [u8; 32]) {
        let mut carry = 0;
        for (sum, byte) in self.0.iter_mut().zip(term).rev() {
            let total = u16::from(*sum) + u16::from(byte) + carry;
            [_, *sum] = total.to_be_bytes();
            carry = total >> 8;
        }
    }

    pub(crate) fn subtract(&mut self, term: [u8; 32]) {
        // Minus x is (not x) plus one.
        let mut one = [0; 32];
        if let Some(last) = one.last_mut() {
            *last = 1;
        }
        self.add(term.map(|byte| !byte));
        self.add(one);
    }
}

/// The history digest of a DAG name: SHA-256 of its sorted heads and the gaps that its merged blocks
/// link to, each list preceded by its length as 8 bytes big-endian, each CID by its length as one
/// byte. Links pin everything below a head, so equal digests mean equal merged blocks.
pub(crate) fn history_digest<'a>(
    heads: impl ExactSizeIterator<Item = &'a Cid>,
    gaps: impl ExactSizeIterator<Item = &'a Cid>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut list = |length: usize, cids: &mut dyn Iterator<Item = &'a Cid>| {
        hash.update((length as u64).to_be_bytes());
        for cid in cids {
            let bytes = cid.to_bytes();
            hash.update([bytes.len() as u8]);
            hash.update(&bytes);
        }
    };
    let (mut heads, mut gaps) = (heads, gaps);
    list(heads.len(), &mut heads);
    list(gaps.len(), &mut gaps);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_can_be_subtracted_in_any_order() {
        let terms: Vec<[u8; 32]> = (0..20u8)
            .map(|n| StateDigest::term(&Key::new("/k"), &[n]))
            .collect();
        let mut sum = StateDigest::default();
        terms.iter().for_each(|term| sum.add(*term));
        let mut backwards = StateDigest::default();
        terms.iter().rev().for_each(|term| backwards.add(*term));
        assert_eq!(sum, backwards);
        terms.iter().for_each(|term| sum.subtract(*term));
        assert_eq!(sum, StateDigest::default());
    }
}
