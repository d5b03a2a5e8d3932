//! Where each leader epoch's offsets start (Kafka's `LeaderEpochFileCache`).

/// Epochs and the first offset of each, both rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    starts: Vec<(i32, i64)>,
}

impl Epochs {
    /// A batch of `epoch` was appended at `offset`, or a restore opened the epoch there.
    ///
    /// Only a higher epoch opens an entry: epochs never go back. An epoch that starts there, too,
    /// has no record left and is forgotten (`LeaderEpochFileCache.assign`): whether the log start
    /// moved before or after this, the outcome is the same.
    pub(super) fn note(&mut self, epoch: i32, offset: i64) {
        if self.starts.last().is_some_and(|(last, _)| epoch <= *last) {
            return;
        }
        while self.starts.pop_if(|(_, start)| *start >= offset).is_some() {}
        self.starts.push((epoch, offset));
    }

    /// The epoch that offset `offset` was written in; `None` below the first known start.
    pub(super) fn epoch_of(&self, offset: i64) -> Option<i32> {
        let after = self.starts.partition_point(|(_, start)| *start <= offset);
        self.starts.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The largest epoch that is not above `epoch`, and where it ends: the start of the next one,
    /// or `end` for the newest (`LeaderEpochFileCache.endOffsetFor`). `current` is the leader's
    /// epoch: without a batch it starts at the log's end. `None` for an epoch above all.
    pub(super) fn end_offset(&self, epoch: i32, current: i32, end: i64) -> Option<(i32, i64)> {
        let newest = self.starts.last().map_or(current, |(last, _)| current.max(*last));
        if epoch == newest {
            return Some((epoch, end));
        }
        if epoch < 0 || epoch > newest {
            return None;
        }
        let higher = self.starts.partition_point(|(start, _)| *start <= epoch);
        let ends_at = self.starts.get(higher).map_or(end, |(_, offset)| *offset);
        let floor = higher.checked_sub(1).and_then(|at| self.starts.get(at));
        Some((floor.map_or(epoch, |(known, _)| *known), ends_at))
    }

    /// The log now starts at `log_start`: epochs that end at or below it are forgotten, and the one
    /// that holds it starts there (`LeaderEpochFileCache.truncateFromStart`).
    pub(super) fn trim(&mut self, log_start: i64) {
        let after = self.starts.partition_point(|(_, start)| *start <= log_start);
        self.starts.drain(..after.saturating_sub(1));
        if let Some((_, start)) = self.starts.first_mut() {
            *start = (*start).max(log_start);
        }
    }

    /// The log ends at `end` now: epochs that start there or behind are forgotten
    /// (`LeaderEpochFileCache.truncateFromEnd`).
    pub(super) fn cut(&mut self, end: i64) {
        while self.starts.pop_if(|(_, start)| *start >= end).is_some() {}
    }

    /// Every epoch with its start.
    pub(super) fn starts(&self) -> &[(i32, i64)] {
        &self.starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(3, 0), (3, 4), (7, 10), (5, 12), (9, 20)] {
            epochs.note(epoch, offset);
        }
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_starts() {
        let epochs = epochs();
        assert_eq!(epochs.starts(), [(3, 0), (7, 10), (9, 20)]);
        assert_eq!(epochs.end_offset(9, 9, 33), Some((9, 33)));
        assert_eq!(epochs.end_offset(7, 9, 33), Some((7, 20)));
        assert_eq!(epochs.end_offset(8, 9, 33), Some((7, 20)));
        assert_eq!(epochs.end_offset(3, 9, 33), Some((3, 10)));
        assert_eq!(epochs.end_offset(2, 9, 33), Some((2, 0)));
        assert_eq!(epochs.end_offset(10, 9, 33), None);
        assert_eq!(epochs.end_offset(-1, 9, 33), None);
    }

    #[test]
    fn the_current_epoch_without_a_batch_starts_at_the_end() {
        assert_eq!(epochs().end_offset(11, 11, 33), Some((11, 33)));
        assert_eq!(epochs().end_offset(10, 11, 33), Some((9, 33)));
        assert_eq!(Epochs::default().end_offset(4, 4, 0), Some((4, 0)));
        assert_eq!(Epochs::default().end_offset(2, 4, 0), Some((2, 0)));
    }

    #[test]
    fn trimming_keeps_the_epoch_that_holds_the_log_start() {
        let mut epochs = epochs();
        epochs.trim(15);
        assert_eq!(epochs.starts(), [(7, 15), (9, 20)]);
        epochs.trim(20);
        assert_eq!(epochs.starts(), [(9, 20)]);
        assert_eq!(epochs.epoch_of(19), None);
        assert_eq!(epochs.epoch_of(20), Some(9));
    }

    #[test]
    fn cutting_forgets_the_epochs_of_what_is_cut_off() {
        let mut epochs = epochs();
        epochs.cut(21);
        assert_eq!(epochs.starts(), [(3, 0), (7, 10), (9, 20)]);
        epochs.cut(20);
        assert_eq!(epochs.starts(), [(3, 0), (7, 10)]);
        epochs.cut(0);
        assert_eq!(epochs.starts(), []);
    }

    #[test]
    fn an_epoch_without_records_is_forgotten_whenever_the_log_start_moved() {
        let mut before = Epochs::default();
        before.note(3, 0);
        let mut after = before.clone();
        before.trim(2);
        before.note(4, 2);
        after.note(4, 2);
        after.trim(2);
        assert_eq!(before.starts(), [(4, 2)]);
        assert_eq!(after, before);
    }
}
