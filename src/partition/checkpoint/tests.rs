use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::budget::Pool;
use crate::partition::producers::Sequenced;
use crate::partition::state::Appended;
use crate::partition::{TierChange, TierKind, TierRef};
use crate::tier::{ObjectId, ObjectRef};
use crate::wal::Location;

fn of() -> TopicPartition {
    let topic = TopicId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
    TopicPartition { topic, partition: 7 }
}

/// Room for all the producers of a test.
fn pool() -> BytePool {
    BytePool::new(Pool::Producers, 1 << 20)
}

/// A state that replay could have made, from (records, bytes, producer, epoch rise, timestamp).
fn state(batches: &[(i32, u32, i64, i32, i64)], log_start: i64) -> State {
    let (mut state, pool) = (State::new(3, &Arc::default()), pool());
    let mut position = 4_096;
    let mut sequences = [0; 8];
    for (lsn, (records, bytes, id, rise, max_timestamp)) in (1u64..).zip(batches) {
        let gap = if records % 3 == 0 { 40_000 } else { 300_000 };
        state.leader_epoch += rise;
        let base_offset = state.log_end();
        let file = FileNumber(1 + lsn / 10);
        let location = Location { file, position, len: bytes + 20 };
        position = if lsn % 10 == 9 { 4_096 } else { location.end() + gap };
        let base_sequence = sequences[*id as usize];
        sequences[*id as usize] += records;
        let producer = Sequenced {
            producer_id: *id,
            epoch: 0,
            base_sequence,
            last_sequence: base_sequence + records - 1,
        };
        let appended = Appended {
            base_offset,
            last_offset: base_offset + i64::from(*records) - 1,
            leader_epoch: state.leader_epoch,
            max_timestamp: *max_timestamp,
            append_time_ms: 1_000 + lsn as i64,
            bytes: *bytes,
            producer: (*id > 0).then_some(producer),
            lsn: Lsn(lsn),
            location,
        };
        state.replay(appended, 2_000 + lsn as i64, &pool);
    }
    state.start_at(log_start.min(state.log_end()), Lsn(batches.len() as u64));
    state
}

fn section(sequence: u64, start_offset: i64, end_offset: i64) -> TierRef {
    let id = ObjectId { incarnation: [1; 16], sequence };
    TierRef {
        object: ObjectRef { id, bytes: 900, end_bytes: 300 },
        start_offset,
        end_offset,
        bytes: 500,
        max_timestamp: -1,
        append_time_ms: 1_000,
        kind: TierKind::Pack,
    }
}

fn encoded(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, of(), 9_000, state, true);
    out
}

fn batches() -> impl Strategy<Value = Vec<(i32, u32, i64, i32, i64)>> {
    prop::collection::vec((1..9i32, 61..90_000u32, 0..8i64, 0..2i32, -1..99i64), 0..40)
}

proptest! {
    #[test]
    fn a_part_comes_back(batches in batches(), log_start in 0..150i64) {
        let before = state(&batches, log_start);
        let bytes = encoded(&before);
        let part = decode(&bytes, &pool(), &Arc::default()).unwrap();
        prop_assert_eq!((part.of, part.log_clock_ms), (of(), 9_000));
        prop_assert_eq!(&part.state.index, &before.index);
        prop_assert_eq!(part.forgotten, 0);
        prop_assert_eq!(part.state.producers.sorted(), before.producers.sorted());
        prop_assert_eq!(&part.state.epochs, &before.epochs);
        prop_assert_eq!(part.state.log_start(), before.log_start());
        prop_assert_eq!(part.state.high_watermark(), before.log_end());
        prop_assert_eq!(part.state.checkpointed, before.lsn);
        prop_assert_eq!(encoded(&part.state), bytes);
    }

    #[test]
    fn what_the_bucket_has_comes_back(
        batches in batches(),
        log_start in 0..150i64,
        ends in prop::collection::btree_set(1..200i64, 0..8),
    ) {
        let (mut before, objects) = (state(&batches, log_start), Arc::default());
        let mut start = 0;
        for (sequence, end) in (1..).zip(&ends) {
            let added = vec![section(sequence, start, *end)];
            let change = TierChange { removed: Vec::new(), added };
            before.apply_tier(&change, Lsn(100 + sequence), 3_000);
            start = *end;
        }
        let part = decode(&encoded(&before), &pool(), &objects).unwrap();
        prop_assert_eq!(part.state.latest_refs(), before.latest_refs());
        prop_assert_eq!(part.state.untiered(), before.untiered());
        prop_assert_eq!(part.state.tiered_end(), before.tiered_end());
        prop_assert_eq!(objects.used(), before.latest_refs().len());
        let mut bucket = Vec::new();
        encode(&mut bucket, of(), 9_000, &before, false);
        let part = decode(&bucket, &pool(), &objects).unwrap();
        prop_assert_eq!(part.state.latest_refs(), before.latest_refs());
        prop_assert_eq!(part.state.index.runs().len(), 0);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        batches in batches(),
        cut in 0..2_000usize,
        flips in prop::collection::vec((0..2_000usize, any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&state(&batches, 0));
        let cut = cut.min(bytes.len());
        let read = decode(&bytes[..cut], &pool(), &Arc::default());
        prop_assert_eq!(read.is_ok(), cut == bytes.len());
        for (at, flip) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        let _ = decode(&bytes, &pool(), &Arc::default());
    }
}

/// The bytes as the first release wrote them: a change here is a change of the format.
#[test]
fn a_part_is_what_the_first_release_wrote() {
    let state = state(&[(3, 100, 0, 0, 50), (2, 200, 5, 1, -1)], 2);
    let hex =
        encoded(&state).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let expected = [
        "0200",
        "00112233445566778899aabbccddeeff00000007",
        "0000000000000002",
        "0000000000002328",
        "00000004",
        "0000000000000002",
        "0000000000000005",
        "00000002",
        "000000030000000000000002",
        "000000040000000000000003",
        "00000001",
        "0000000000000005000000000000000007d200000002",
        "01",
        "00000000000000010000000000000004",
        "00000001ffffffffffffffff0000000000000002",
        "00000001",
        "0000000000000001000000000000000100000000000003ea",
        "00000001",
        "00000000000000000000000000000032",
    ];
    // Since when something is not in the bucket, and no references.
    let (hex, tier) = hex.split_at(hex.len() - 24);
    assert_eq!(tier, "00000000000003e900000000");
    let (hex, holes) = hex.split_at(hex.len() - 8);
    assert_eq!(holes, "00000000");
    let (head, tail) = hex.split_at(hex.len() - 24);
    assert_eq!(head, expected.concat());
    let [start, span, bytes] = [0, 8, 16].map(|at| u32::from_str_radix(&tail[at..at + 8], 16));
    assert_eq!((start, bytes), (Ok(4_096), Ok(300)));
    // Two records with what lies between: the WAL's record header is its own format.
    let header = crate::wal::RECORD_OVERHEAD as u32;
    assert_eq!(span, Ok(2 * header + 120 + 40_000 + 220));
}

#[test]
fn a_part_from_before_logs_went_to_the_bucket_is_read() {
    let before = state(&[(3, 100, 0, 0, 50), (2, 200, 5, 1, -1)], 2);
    let mut bytes = encoded(&before);
    // Without the time and the count of references.
    bytes.truncate(bytes.len() - 12);
    bytes[..2].copy_from_slice(&UNTIERED);
    let part = decode(&bytes, &pool(), &Arc::default()).unwrap();
    assert_eq!(part.state.untiered(), (before.untiered().0, 9_000));
    assert_eq!((part.state.tiered_end(), part.state.log_end()), (2, 5));
}

#[test]
fn another_major_version_is_refused_and_a_higher_minor_one_read() {
    let mut bytes = encoded(&state(&[(1, 100, 1, 0, 1)], 0));
    bytes.push(9);
    assert_eq!(
        decode(&bytes, &pool(), &Arc::default()).unwrap_err(),
        CheckpointError::Malformed { field: "end" }
    );
    bytes[1] = MINOR + 1;
    assert!(decode(&bytes, &pool(), &Arc::default()).is_ok());
    for version in [[1, 1], [3, 0]] {
        bytes[..2].copy_from_slice(&version);
        assert_eq!(
            decode(&bytes, &pool(), &Arc::default()).unwrap_err(),
            CheckpointError::Version { found: version[0] }
        );
    }
    assert!(decode(&Bytes::new(), &pool(), &Arc::default()).is_err());
}
