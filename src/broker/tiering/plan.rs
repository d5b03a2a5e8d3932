//! What goes to the bucket, and in which objects.

use crate::partition::Untiered;

/// A partition with so many bytes gets an object of its own.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;
/// No section is planned larger, so that a log that has waited long goes in several objects.
pub(super) const SEGMENT_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 256 << 20 };
/// Small partitions go together when they have so many bytes.
const PACK_BYTES: u64 = 128 << 20;
/// A pack is not planned larger.
const PACK_BYTES_MAX: u64 = 256 << 20;
/// Nor of more partitions, for its footer has a row of each.
const PACK_SECTIONS_MAX: usize = 50_000;

/// What decides how long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Now on the log clock.
    pub(super) now_ms: i64,
    /// How much the write-ahead log may hold: a third of it may be what the bucket has not.
    pub(super) wal_bytes: u64,
    /// How long the oldest may wait.
    pub(super) max_age_ms: i64,
}

/// The objects to make now, each by what is in it. Their number depends on bytes and time, not on
/// how many partitions there are.
pub(super) fn objects(waiting: &[Untiered], limits: &Limits) -> Vec<Vec<usize>> {
    let bytes = |at: &usize| waiting.get(*at).map_or(0, |untiered| untiered.bytes);
    let is_pressed = waiting.iter().map(|it| it.bytes).sum::<u64>() >= limits.wal_bytes / 3;
    let (large, mut small): (Vec<usize>, Vec<usize>) =
        (0..waiting.len()).partition(|at| bytes(at) >= SEGMENT_BYTES);
    let mut objects: Vec<_> = large.into_iter().map(|at| vec![at]).collect();
    let since = |at: &usize| waiting.get(*at).map_or(limits.now_ms, |untiered| untiered.since_ms);
    let oldest_ms = small.iter().map(since).min().unwrap_or(limits.now_ms);
    let is_due = limits.now_ms.saturating_sub(oldest_ms) >= limits.max_age_ms;
    let is_enough = small.iter().map(bytes).sum::<u64>() >= PACK_BYTES;
    // Under pressure too: a small partition may be the one that keeps the oldest file.
    if small.is_empty() || !(is_due || is_enough || is_pressed) {
        return objects;
    }
    let first = |at: &usize| {
        let span = waiting.get(*at).and_then(|untiered| untiered.spans.first());
        span.map(|span| (span.file, span.start))
    };
    // What has waited longest goes first, and may be all that goes.
    small.sort_by_key(first);
    let (mut pack, mut packed) = (Vec::new(), 0);
    for at in small {
        let is_full = packed + bytes(&at) > PACK_BYTES_MAX || pack.len() >= PACK_SECTIONS_MAX;
        if !pack.is_empty() && is_full {
            objects.push(std::mem::take(&mut pack));
            packed = 0;
        }
        packed += bytes(&at);
        pack.push(at);
    }
    objects.push(pack);
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::WalSpan;
    use crate::wal::FileNumber;

    const MIB: u64 = 1 << 20;

    /// The objects of partitions that have so many MiB each and have waited so many seconds, at
    /// these places of the log.
    fn made(waiting: &[(u64, i64, u64)], wal_mib: u64) -> Vec<Vec<usize>> {
        let untiered = |(mib, waited_s, file): &(u64, i64, u64)| Untiered {
            from: 0,
            to: 1,
            bytes: mib * MIB,
            since_ms: -1_000 * waited_s,
            spans: vec![WalSpan { file: FileNumber(*file), start: 0, end: 1 }],
        };
        let waiting: Vec<_> = waiting.iter().map(untiered).collect();
        let limits = Limits { now_ms: 0, wal_bytes: wal_mib * MIB, max_age_ms: 600_000 };
        objects(&waiting, &limits)
    }

    #[test]
    fn nothing_goes_before_it_is_enough_or_old_or_in_the_way() {
        assert_eq!(made(&[], 1_000), Vec::<Vec<usize>>::new());
        assert_eq!(made(&[(63, 599, 1), (60, 1, 1)], 1_000), Vec::<Vec<usize>>::new());
        assert_eq!(made(&[(63, 600, 1), (60, 1, 1)], 1_000), [[0, 1]]);
        assert_eq!(made(&[(63, 1, 1), (60, 1, 1)], 369), [[0, 1]]);
    }

    #[test]
    fn who_has_enough_goes_alone_and_does_not_take_the_others_along() {
        assert_eq!(made(&[(1, 1, 1), (64, 1, 1), (300, 1, 1)], 4_000), [[1], [2]]);
        assert_eq!(made(&[(1, 601, 1), (64, 1, 1)], 4_000), [[1], [0]]);
    }

    #[test]
    fn the_number_of_packs_follows_from_their_bytes() {
        let many: Vec<_> = (0..1_000).map(|at| (1, 1, 1_000 - at)).collect();
        let packs = made(&many, 100_000);
        assert_eq!(packs.len(), 4);
        assert!(packs.iter().all(|pack| pack.len() <= 256));
        assert_eq!(packs[0][..3], [999, 998, 997], "what lies in the oldest files goes first");
        let few: Vec<_> = (0..100).map(|_| (1, 601, 1)).collect();
        assert_eq!(made(&few, 100_000).len(), 1);
    }
}
