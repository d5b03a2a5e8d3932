use proptest::prelude::*;

use super::*;
use crate::wal::RECORD_OVERHEAD;

/// A batch of the partition in a simulated WAL, where others' records lie between.
#[derive(Clone, Copy, Debug)]
struct Placed {
    batch: Indexed,
    records: i64,
}

/// Places batches of `bytes`, each after `gap` bytes of others, in files of 1 MiB.
fn place(batches: &[(u32, u32, i64)]) -> Vec<Placed> {
    const FILE: u64 = 1 << 20;
    let (mut file, mut position, mut offset) = (1, 4_096u64, 0);
    let mut placed = Vec::new();
    for (number, (bytes, gap, timestamp)) in (1u64..).zip(batches) {
        position += u64::from(*gap);
        let len = bytes + 20;
        if position + u64::from(len) + RECORD_OVERHEAD as u64 > FILE {
            (file, position) = (file + 1, 4_096);
        }
        let location = Location { file: FileNumber(file), position, len };
        let records = i64::from(bytes % 7) + 1;
        let batch = Indexed {
            base_offset: offset,
            max_timestamp: *timestamp,
            append_time_ms: number as i64,
            bytes: *bytes,
            lsn: Lsn(number),
            location,
        };
        placed.push(Placed { batch, records });
        position = location.end();
        offset += records;
    }
    placed
}

fn indexed(placed: &[Placed]) -> (Index, i64) {
    let mut index = Index::default();
    for placed in placed {
        index.push(&placed.batch);
    }
    (index, placed.last().map_or(0, |last| last.batch.base_offset + last.records))
}

fn batches() -> impl Strategy<Value = Vec<(u32, u32, i64)>> {
    let bytes = prop_oneof![61..300u32, 1_000..20_000u32, 60_000..90_000u32];
    let gap = prop_oneof![Just(0u32), 0..500u32, 0..200_000u32, 250_000..400_000u32];
    prop::collection::vec((bytes, gap, -1..50i64), 1..80)
}

proptest! {
    #[test]
    fn every_offset_is_in_the_stretch_that_holds_its_bytes(
        batches in batches(),
        skip in 0..400i64,
    ) {
        let placed = place(&batches);
        let (index, end) = indexed(&placed);
        let from = skip % end;
        let stretches: Vec<_> = index.from(from, end).collect();
        prop_assert!(stretches[0].base_offset <= from && from < stretches[0].end_offset);
        prop_assert_eq!(stretches.last().unwrap().end_offset, end);
        for pair in stretches.windows(2) {
            prop_assert_eq!(pair[0].end_offset, pair[1].base_offset);
        }
        for stretch in &stretches {
            let held: Vec<_> = placed
                .iter()
                .map(|placed| placed.batch)
                .filter(|b| (stretch.base_offset..stretch.end_offset).contains(&b.base_offset))
                .collect();
            let (first, last) = (held[0], held[held.len() - 1]);
            prop_assert!(held.iter().all(|batch| batch.location.file == stretch.file));
            prop_assert_eq!(u64::from(stretch.start), first.location.position);
            prop_assert_eq!(u64::from(stretch.end), last.location.end());
            prop_assert_eq!(stretch.bytes, held.iter().map(|batch| batch.bytes).sum::<u32>());
            let ends =
                held.windows(2).map(|pair| (pair[0].location.end(), pair[1].location.position));
            let holes = ends.map(|(end, start)| (end as u32, start as u32));
            let holes: Vec<_> = holes.filter(|(end, start)| start - end >= HOLE_BYTES).collect();
            prop_assert_eq!(index.holes(stretch), holes);
            let greatest = held.iter().map(|batch| batch.max_timestamp).max();
            prop_assert_eq!(Some(stretch.max_timestamp), greatest);
        }
    }

    #[test]
    fn trimming_keeps_what_holds_the_log_start(
        batches in batches(),
        starts in [0..200i64, 0..400i64],
    ) {
        let placed = place(&batches);
        let (mut index, end) = indexed(&placed);
        let whole: Vec<_> = index.from(0, end).collect();
        for start in starts {
            index.trim(start.min(end), end);
        }
        let start = starts_max(starts).min(end);
        let kept: Vec<_> = index.from(0, end).collect();
        let expected: Vec<_> = whole.into_iter().filter(|s| s.end_offset > start).collect();
        prop_assert_eq!(&kept, &expected);
        prop_assert_eq!(index.bytes(), kept.iter().map(|s| u64::from(s.bytes)).sum::<u64>());
        prop_assert_eq!(index.first_offset(), kept.first().map(|s| s.base_offset));
        for stretch in &kept {
            let oldest = index.oldest_from(stretch.base_offset, end);
            prop_assert_eq!(oldest.map(|(file, _)| file), Some(stretch.file));
        }
        prop_assert_eq!(index.oldest_from(end, end), None);
        for file in kept.iter().map(|s| s.file).chain([FileNumber(u64::MAX)]) {
            let mut left = index.clone();
            left.forget_files(file, start, end);
            prop_assert_eq!(&left, &index, "nothing of it is in the bucket");
            left.forget_files(file, end, end);
            let rest: Vec<_> = left.from(0, end).collect();
            let behind: Vec<_> = kept.iter().filter(|s| s.file >= file).copied().collect();
            prop_assert_eq!(left.bytes(), behind.iter().map(|s| u64::from(s.bytes)).sum::<u64>());
            prop_assert_eq!(rest, behind);
        }
    }

    #[test]
    fn look_ups_by_time_pass_over_nothing_that_counts(
        batches in batches(),
        timestamp in -1..60i64,
    ) {
        let (index, end) = indexed(&place(&batches));
        let found: Vec<_> = index.since(timestamp, end).collect();
        let expected: Vec<_> =
            index.from(0, end).filter(|s| s.max_timestamp >= timestamp).collect();
        prop_assert_eq!(found, expected);
    }

    /// DESIGN D12 and issue 3: memory is bounded by bytes, whatever the batches are.
    #[test]
    fn an_entry_stands_for_four_kibibytes_or_is_the_last_of_its_file(batches in batches()) {
        let (index, _) = indexed(&place(&batches));
        for run in index.runs() {
            let (_, full) = run.entries.split_last().unwrap();
            prop_assert!(full.iter().all(|entry| entry.bytes >= ENTRY_BYTES));
        }
    }
}

fn starts_max(starts: [i64; 2]) -> i64 {
    starts[0].max(starts[1])
}

#[test]
fn an_entry_has_32_bytes() {
    assert_eq!(size_of::<Entry>(), 32);
}

#[test]
fn an_entry_of_many_bytes_spans_at_most_64_kibibytes() {
    let placed = place(&[(16_384, 0, 0); 20]);
    let (index, end) = indexed(&placed);
    for stretch in index.from(0, end) {
        assert!(stretch.end - stretch.start <= ENTRY_SPAN);
    }
    assert_eq!(index.from(0, end).count(), 7);
}
