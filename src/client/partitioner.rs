//! Which partition a record goes to, as Kafka's own producer decides (`BuiltInPartitioner`): by the
//! hash of its key, and without a key all to one partition until a batch's worth has gone there
//! (KIP-480, KIP-794).

use crate::clock::Random;

/// The seed that Kafka's producer hashes keys with.
const SEED: u32 = 0x9747_b28c;
const FACTOR: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// `MurmurHash2` as `org.apache.kafka.common.utils.Utils.murmur2` has it.
pub fn murmur2(bytes: &[u8]) -> u32 {
    // Java's lengths are of 32 bits.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = hash.wrapping_mul(FACTOR) ^ word.wrapping_mul(FACTOR);
    }
    for (at, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> 15)
}

/// The partition of a key on a topic with `count` partitions; 0 on one without any.
pub fn partition_of_key(key: &[u8], count: usize) -> i32 {
    let positive = (murmur2(key) & 0x7fff_ffff) as usize;
    positive.checked_rem(count).map_or(0, |index| i32::try_from(index).unwrap_or(0))
}

/// Where records without a key go.
#[derive(Debug)]
pub(super) struct Sticky {
    random: Random,
    /// How much goes to a partition before another is drawn.
    bytes_max: usize,
    current: Option<i32>,
    bytes: usize,
}

impl Sticky {
    pub(super) fn new(bytes_max: usize, random: Random) -> Self {
        Self { random, bytes_max, current: None, bytes: 0 }
    }

    /// The partition for the next record of so many bytes: one of those that have a leader, or of
    /// `all` if none has. Nothing on a topic without partitions.
    pub(super) fn next(&mut self, led: &[i32], all: &[i32], bytes: usize) -> Option<i32> {
        let among = if led.is_empty() { all } else { led };
        let stays = self.current.filter(|it| self.bytes < self.bytes_max && among.contains(it));
        let chosen = if let Some(current) = stays {
            current
        } else {
            self.bytes = 0;
            let drawn = self.random.below(among.len() as u64) as usize;
            *among.get(drawn)?
        };
        self.current = Some(chosen);
        self.bytes = self.bytes.saturating_add(bytes);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Key, `Utils.murmur2`, and `BuiltInPartitioner.partitionForKey` with 6 and 7 partitions:
    /// what kafka-clients 4.3 computes.
    const KAFKAS: &[(&[u8], i32, i32, i32)] = &[
        (b"", 275_646_681, 3, 2),
        (b"a", -1_563_381_124, 4, 5),
        (b"ab", 316_155_434, 2, 0),
        (b"abc", 479_470_107, 3, 4),
        (b"abcd", -1_323_649_548, 2, 5),
        (b"abcde", 461_995_741, 1, 4),
        (b"customer-42", -542_987_495, 3, 1),
        ("Gr\u{fc}\u{df}e".as_bytes(), 1_190_824_359, 3, 4),
        (&[0xff, 0x80, 0, 1, 2, 3, 4], 643_589_657, 5, 4),
        (b"a-little-bit-long-string", -985_981_536, 2, 1),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, 5, 3),
    ];

    #[test]
    fn a_key_goes_where_kafkas_producer_sends_it() {
        for (key, hash, of_six, of_seven) in KAFKAS {
            assert_eq!(murmur2(key) as i32, *hash, "{key:?}");
            assert_eq!(partition_of_key(key, 6), *of_six, "{key:?}");
            assert_eq!(partition_of_key(key, 7), *of_seven, "{key:?}");
        }
        assert_eq!(partition_of_key(b"abc", 0), 0);
    }

    #[test]
    fn records_without_a_key_stay_for_a_batch_and_spread_over_all() {
        let mut sticky = Sticky::new(100, Random::seeded(7));
        let all = [0, 1, 2];
        let drawn: Vec<i32> =
            (0..3_000).map(|_| sticky.next(&all, &all, 10).expect("there are some")).collect();
        for batch in drawn.chunks(10) {
            assert!(batch.iter().all(|it| it == &batch[0]), "{batch:?}");
        }
        let mut counts = BTreeMap::new();
        for partition in &drawn {
            *counts.entry(*partition).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|count| (700..1_300).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_partition_without_a_leader_is_left_and_none_is_better_than_nothing() {
        let mut sticky = Sticky::new(100, Random::seeded(1));
        assert_eq!(sticky.next(&[], &[], 1), None);
        assert_eq!(sticky.next(&[2], &[0, 1, 2], 1), Some(2));
        assert_eq!(sticky.next(&[1], &[0, 1, 2], 1), Some(1));
        assert!(sticky.next(&[], &[0, 1, 2], 1).is_some());
    }
}
