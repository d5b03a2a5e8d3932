//! Which partition is cleaned, and up to where.

use super::*;

const ANY: CompactionLimits =
    CompactionLimits { min_dirty_ratio: 0.5, min_lag_ms: 0, max_lag_ms: i64::MAX };

/// Spans of ten offsets and of so many bytes, with timestamps 1,000, 2,000 and so on.
fn spans(bytes: &[u64]) -> Vec<Span> {
    let span = |(index, bytes): (i64, &u64)| Span {
        start_offset: 10 * index,
        end_offset: 10 * (index + 1),
        bytes: *bytes,
        max_timestamp: 1_000 * (index + 1),
        append_time_ms: 1_000 * (index + 1),
    };
    (0..).zip(bytes).map(span).collect()
}

fn dirt(spans: &[Span], cleaned: Option<i64>, limits: CompactionLimits) -> Dirt {
    Dirt::of(spans, cleaned, i64::MAX, 10_000, limits).unwrap()
}

#[test]
fn bytes_are_clean_below_the_end_of_the_last_cleaning() {
    let spans = spans(&[100, 200, 300]);
    let of = |cleaned| {
        let dirt = dirt(&spans, cleaned, ANY);
        (dirt.first_dirty, dirt.first_uncleanable, dirt.clean_bytes, dirt.dirty_bytes)
    };
    assert_eq!(of(None), (0, 30, 0, 600));
    assert_eq!(of(Some(10)), (10, 30, 100, 500));
    // A span that was cleaned in part is dirty.
    assert_eq!(of(Some(15)), (15, 30, 100, 500));
    assert_eq!(of(Some(30)), (30, 30, 600, 0));
    // The log start moved past it, or it is of another log.
    assert_eq!(of(Some(31)), (0, 30, 0, 600));
    let later = Dirt::of(&spans[1..], Some(5), i64::MAX, 10_000, ANY).unwrap();
    assert_eq!((later.first_dirty, later.clean_bytes), (10, 0));
    assert_eq!(Dirt::of(&[], Some(5), i64::MAX, 10_000, ANY), None);
}

#[test]
fn nothing_is_cleaned_at_or_past_the_last_stable_offset() {
    let spans = spans(&[100, 200, 300]);
    let at = |last_stable| Dirt::of(&spans, None, last_stable, 10_000, ANY).unwrap();
    assert_eq!((at(30).first_uncleanable, at(30).dirty_bytes), (30, 600));
    assert_eq!((at(29).first_uncleanable, at(29).dirty_bytes), (20, 300));
    assert_eq!((at(0).first_uncleanable, at(0).dirty_bytes), (0, 0));
    assert!(!at(0).is_due(CompactionLimits { min_dirty_ratio: 0.0, ..ANY }));
}

#[test]
fn nothing_is_cleaned_within_the_min_compaction_lag() {
    let mut spans = spans(&[100, 200, 300]);
    let lag = |min_lag_ms| CompactionLimits { min_lag_ms, ..ANY };
    let end = |spans: &[Span], min_lag_ms| dirt(spans, None, lag(min_lag_ms)).first_uncleanable;
    assert_eq!(end(&spans, 7_000), 30);
    assert_eq!(end(&spans, 7_001), 20);
    assert_eq!(end(&spans, 9_001), 0);
    assert_eq!(end(&spans, i64::MAX), 0);
    // A timestamp ahead of the clock is not held against a topic without a lag.
    spans[1].max_timestamp = 99_000;
    assert_eq!((end(&spans, 0), end(&spans, 1)), (30, 10));
    // Without timestamps the time of the append counts.
    spans[1].max_timestamp = -1;
    assert_eq!((end(&spans, 8_000), end(&spans, 8_001)), (20, 10));
}

#[test]
fn a_partition_is_due_above_the_ratio_or_when_its_records_wait_too_long() {
    let spans = spans(&[100, 100, 0]);
    let half = dirt(&spans, Some(10), ANY);
    assert!((half.ratio() - 0.5).abs() < f64::EPSILON);
    assert!(!half.is_due(ANY));
    assert!(half.is_due(CompactionLimits { min_dirty_ratio: 0.49, ..ANY }));
    let lag = |max_lag_ms| CompactionLimits { max_lag_ms, ..ANY };
    // The dirty span's records are 8,000 old.
    assert!(!dirt(&spans, Some(10), lag(8_000)).is_due(lag(8_000)));
    let late = dirt(&spans, Some(10), lag(7_999));
    assert_eq!(late.overdue_ms, 1);
    assert!(late.is_due(lag(7_999)));
    // What is clean waits for nothing, and neither do spans without bytes.
    assert!(!dirt(&spans, Some(20), lag(1)).is_due(lag(1)));
}

#[test]
fn the_filthiest_is_cleaned_first() {
    let of = |cleaned| dirt(&spans(&[100, 100, 100]), Some(cleaned), ANY);
    let chosen = Dirt::filthiest([("a", of(10)), ("b", of(0)), ("c", of(20))]);
    assert_eq!(chosen.map(|(name, _)| name), Some("b"));
    assert_eq!(Dirt::filthiest::<()>([]), None);
}
