//! A map that is cheap to copy: an image of 100,000 topics is copied for every change of one.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;

/// How many shards a map has. A copy takes this many reference counts, and the first change after
/// it copies one shard.
const SHARDS: usize = 256;

/// A hash map in shards that copies share until one of them changes.
#[derive(Debug, Clone)]
pub(super) struct Shards<K, V> {
    shards: Arc<[Arc<HashMap<K, V>>]>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(shard_of(key))?.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        let index = shard_of(&key);
        if self.shard(index).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = self.shard(shard_of(key)).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    fn shard(&mut self, index: usize) -> &mut HashMap<K, V> {
        let shards = Arc::make_mut(&mut self.shards);
        Arc::make_mut(shards.get_mut(index).expect("an index is below the number of shards"))
    }
}

/// The hash only spreads keys over shards; inside one the map's own seeded hasher guards against
/// chosen keys.
fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    hash as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_change_of_a_copy_copies_one_shard() {
        let mut map = Shards::default();
        for key in 0..10_000 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.insert(10_000, 0);
        let shared = before.shards.iter().zip(map.shards.iter());
        assert_eq!(shared.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        assert_eq!((before.len(), map.len()), (10_000, 10_001));
        assert_eq!(before.get(&10_000), None);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_hash_map(
            steps in proptest::collection::vec((any::<bool>(), 0..20u8, any::<u8>()), 0..100),
        ) {
            let mut model = HashMap::new();
            let mut map = Shards::default();
            for (insert, key, value) in steps {
                if insert {
                    model.insert(key, value);
                    map.insert(key, value);
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.values().count(), model.len());
            }
        }
    }
}
