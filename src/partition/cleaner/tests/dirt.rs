//! Which partition is cleaned, and up to where.

use super::*;
use crate::partition::{TierKind, TierRef};
use crate::tier::{ObjectId, ObjectRef};

const ANY: CompactionLimits =
    CompactionLimits { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX };

/// Sections of ten offsets and of so many bytes, appended at 1,000, 2,000 and so on, of which the
/// first few are compacted.
fn refs(bytes: &[u64], compacted: usize) -> Vec<TierRef> {
    let section = |(index, bytes): (usize, &u64)| TierRef {
        object: ObjectRef {
            id: ObjectId { incarnation: [1; 16], sequence: index as u64 },
            bytes: bytes + 500,
            end_bytes: 400,
        },
        start_offset: 10 * index as i64,
        end_offset: 10 * (index as i64 + 1),
        bytes: *bytes,
        max_timestamp: 77,
        append_time_ms: 1_000 * (index as i64 + 1),
        kind: if index < compacted { TierKind::Compacted } else { TierKind::Pack },
    };
    bytes.iter().enumerate().map(section).collect()
}

fn dirt(refs: &[TierRef], limits: CompactionLimits) -> Dirt {
    Dirt::of(refs, None, i64::MAX, 10_000, limits).unwrap()
}

#[test]
fn what_begins_the_log_and_is_compacted_is_clean() {
    let of = |compacted, resumed| {
        let refs = refs(&[100, 200, 300], compacted);
        let dirt = Dirt::of(&refs, resumed, i64::MAX, 10_000, ANY).unwrap();
        (dirt.first_dirty, dirt.first_uncleanable, dirt.clean_bytes, dirt.dirty_bytes)
    };
    assert_eq!(of(0, None), (0, 30, 0, 600));
    assert_eq!(of(1, None), (10, 30, 100, 500));
    assert_eq!(of(3, None), (30, 30, 600, 0));
    // A pass was cut within a section, which is still dirty.
    assert_eq!(of(1, Some(15)), (15, 30, 100, 500));
    // It was cut elsewhere, and what lay there has changed since.
    for stale in [0, 9, 20, 25, 99] {
        assert_eq!(of(1, Some(stale)), of(1, None), "{stale}");
    }
    assert_eq!(Dirt::of(&[], Some(5), i64::MAX, 10_000, ANY), None);
    // The log start has moved; what is compacted behind dirt is not clean.
    let mut refs = refs(&[100, 200, 300], 3);
    refs[1].kind = TierKind::Segment;
    let later = Dirt::of(&refs[1..], None, i64::MAX, 10_000, ANY).unwrap();
    assert_eq!((later.first_dirty, later.clean_bytes, later.dirty_bytes), (10, 0, 500));
}

#[test]
fn nothing_is_cleaned_at_or_past_the_last_stable_offset() {
    let refs = refs(&[100, 200, 300], 0);
    let at = |last_stable| Dirt::of(&refs, None, last_stable, 10_000, ANY).unwrap();
    assert_eq!((at(30).first_uncleanable, at(30).dirty_bytes), (30, 600));
    assert_eq!((at(29).first_uncleanable, at(29).dirty_bytes), (20, 300));
    assert_eq!((at(0).first_uncleanable, at(0).dirty_bytes), (0, 0));
    assert!(!at(0).is_due(CompactionLimits { min_dirty_ratio: 0.0, ..ANY }));
}

#[test]
fn nothing_is_cleaned_within_the_min_compaction_lag() {
    let refs = refs(&[100, 200, 300], 0);
    let end = |min_lag_ms| dirt(&refs, CompactionLimits { min_lag_ms, ..ANY }).first_uncleanable;
    assert_eq!((end(0), end(7_000), end(7_001)), (30, 30, 20));
    assert_eq!((end(9_000), end(9_001), end(i64::MAX)), (10, 0, 0));
}

#[test]
fn a_partition_is_due_above_the_ratio_or_when_its_records_wait_too_long() {
    let refs = |compacted| refs(&[100, 100, 0], compacted);
    let half = dirt(&refs(1), ANY);
    assert!((half.ratio() - 0.5).abs() < f64::EPSILON);
    assert!(!half.is_due(ANY));
    assert!(half.is_due(CompactionLimits { min_dirty_ratio: 0.49, ..ANY }));
    let lag = |max_lag_ms| CompactionLimits { max_lag_ms, ..ANY };
    // The oldest of what is dirty was appended 8,000 ago.
    assert!(!dirt(&refs(1), lag(8_000)).is_due(lag(8_000)));
    let late = dirt(&refs(1), lag(7_999));
    assert_eq!(late.overdue_ms, 1);
    assert!(late.is_due(lag(7_999)));
    // What is clean waits for nothing.
    assert!(!dirt(&refs(3), lag(1)).is_due(lag(1)));
}

#[test]
fn the_filthiest_is_cleaned_first() {
    let of = |compacted| dirt(&refs(&[100, 100, 100], compacted), ANY);
    let chosen = Dirt::filthiest([("a", of(1)), ("b", of(0)), ("c", of(2))]);
    assert_eq!(chosen.map(|(name, _)| name), Some("b"));
    assert_eq!(Dirt::filthiest::<()>([]), None);
}
