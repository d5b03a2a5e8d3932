//! The last offset of every key that a pass looks at (Kafka's `SkimpyOffsetMap`).

use std::fmt;

use super::sip::SipKey;
use crate::clock::Random;

/// What a key takes in the map beside the slots that stay free: the hash and the offset.
const SLOT_BYTES: usize = size_of::<Slot>();

/// The hash of a key, and its last offset plus one; 0 there is a free slot.
type Slot = [u64; 3];

/// Of so many slots one stays free: a search walks over the slots in a row that are taken, and
/// there are many of those in a table that is nearly full.
const FREE_SHARE: usize = 8;

/// The map takes no further key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// From keys to offsets, in a table of fixed size. The keys are not kept: 128 bits of a hash stand
/// for each, seeded with random bits, so that keys cannot be made to collide.
pub struct KeyMap {
    secret: SipKey,
    /// Open addressing: a key is in the first free slot at or behind the one that its hash names.
    slots: Vec<Slot>,
    len: usize,
}

impl fmt::Debug for KeyMap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is one, and the slots are many.
        out.debug_struct("KeyMap").field("len", &self.len).finish_non_exhaustive()
    }
}

impl KeyMap {
    /// An empty map of at most `bytes`, which the caller has charged; of two slots at the least,
    /// so that a pass always gets on.
    pub fn new(bytes: usize, random: &Random) -> Self {
        // Zeros come from the operating system as they are touched: an unused map costs nothing.
        let slots = vec![[0; 3]; (bytes / SLOT_BYTES).max(2)];
        Self { secret: SipKey::new(random.u128()), slots, len: 0 }
    }

    /// How many bytes a map for so many keys takes.
    pub fn bytes_for(keys: u64) -> u64 {
        let slots = keys.saturating_mul(FREE_SHARE as u64).div_ceil(FREE_SHARE as u64 - 1);
        slots.saturating_add(1).max(2).saturating_mul(SLOT_BYTES as u64)
    }

    /// The bytes of the table.
    pub fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    /// How many keys there is room for.
    pub fn capacity(&self) -> usize {
        (self.slots.len() - self.slots.len() / FREE_SHARE).min(self.slots.len() - 1)
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets every key.
    pub fn clear(&mut self) {
        if self.len > 0 {
            self.slots.fill([0; 3]);
            self.len = 0;
        }
    }

    /// Notes that the key's last record is at `offset`, which is not negative. A full map still
    /// takes keys that it has.
    pub(super) fn insert(&mut self, key: &[u8], offset: i64) -> Result<(), Full> {
        let full = self.len == self.capacity();
        let [first, second] = self.secret.hash(key);
        let at = self.find(first, second);
        let Some(slot) = self.slots.get_mut(at) else { return Err(Full) };
        if slot[2] == 0 {
            if full {
                return Err(Full);
            }
            self.len += 1;
        }
        *slot = [first, second, offset as u64 + 1];
        Ok(())
    }

    /// The key's last offset among those that were noted.
    pub(super) fn last_offset(&self, key: &[u8]) -> Option<i64> {
        let [first, second] = self.secret.hash(key);
        let slot = self.slots.get(self.find(first, second))?;
        slot[2].checked_sub(1).map(|offset| offset as i64)
    }

    /// The slot of a key: the one that has it, or the free one where it would be. There is always
    /// a free slot.
    fn find(&self, first: u64, second: u64) -> usize {
        // The hash as a fraction of 2^64, times the number of slots.
        let start = ((u128::from(first) * self.slots.len() as u128) >> 64) as usize;
        let is_it = |slot: &Slot| slot[2] == 0 || (slot[0] == first && slot[1] == second);
        let (before, behind) = self.slots.split_at(start);
        match behind.iter().position(is_it) {
            Some(at) => start + at,
            None => before.iter().position(is_it).unwrap_or(self.slots.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn map(slots: usize) -> KeyMap {
        KeyMap::new(slots * SLOT_BYTES, &Random::seeded(7))
    }

    #[test]
    fn ten_million_keys_take_less_than_28_bytes_each() {
        let bytes = KeyMap::bytes_for(10_000_000);
        assert!(bytes < 28 * 10_000_000);
        let slots = bytes as usize / SLOT_BYTES;
        assert!(slots - slots / FREE_SHARE >= 10_000_000);
        for keys in [0, 1, 2, 6, 7, 8, 9, 1_000] {
            let map = KeyMap::new(KeyMap::bytes_for(keys) as usize, &Random::seeded(1));
            assert!(map.capacity() as u64 >= keys, "{keys}");
            assert_eq!(map.bytes() as u64, KeyMap::bytes_for(keys));
        }
    }

    #[test]
    fn a_map_never_takes_more_bytes_than_it_was_given() {
        for bytes in [48, 71, 72, 1_000, 65_536] {
            assert!(KeyMap::new(bytes, &Random::seeded(3)).bytes() <= bytes);
        }
        assert_eq!(KeyMap::new(0, &Random::seeded(3)).capacity(), 1);
    }

    #[test]
    fn a_full_map_takes_only_keys_that_it_has() {
        let mut map = map(8);
        assert_eq!(map.capacity(), 7);
        for key in 0..7 {
            assert_eq!(map.insert(&[key], i64::from(key)), Ok(()));
        }
        assert_eq!(map.insert(&[7], 7), Err(Full));
        assert_eq!(map.insert(&[3], 8), Ok(()));
        assert_eq!((map.last_offset(&[3]), map.last_offset(&[7])), (Some(8), None));
        map.clear();
        assert!(map.is_empty());
        assert_eq!(map.last_offset(&[3]), None);
        assert_eq!(map.insert(&[7], 0), Ok(()));
        assert_eq!(map.last_offset(&[7]), Some(0));
    }

    proptest! {
        #[test]
        fn a_map_is_a_map(keys in prop::collection::vec(0..40u8, 0..200), slots in 2..64usize) {
            let (mut map, mut model) = (map(slots), HashMap::new());
            for (offset, key) in (0i64..).zip(keys) {
                let fits = model.contains_key(&key) || model.len() < map.capacity();
                prop_assert_eq!(map.insert(&[key], offset).is_ok(), fits);
                if fits {
                    model.insert(key, offset);
                }
            }
            prop_assert_eq!(map.len(), model.len());
            for key in 0..40 {
                prop_assert_eq!(map.last_offset(&[key]), model.get(&key).copied());
            }
        }
    }
}
