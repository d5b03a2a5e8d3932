//! When an object of the garbage may be deleted, and what an orphan is (DESIGN §6).
//!
//! An object goes when three things hold: the record that dropped it is synced, so that no restart
//! refers to it again; a checkpoint without it is in the bucket, so that no restore does; and 15
//! min have passed, so that who read the view before is done. Time only delays: it is counted from
//! when this run first saw the object, on the monotonic clock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use crate::clock::Instant;
use crate::partition::Garbage;
use crate::tier::{ObjectId, ObjectRef};
use crate::wal::Lsn;

/// How long readers may still want what nobody refers to any more.
pub const DELETE_DELAY: Duration = Duration::from_mins(15);

/// How far the log and the bucket's checkpoints are.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The last record that was given out.
    pub reserved: Lsn,
    /// Records up to here are synced.
    pub synced: Lsn,
    /// Records up to here are in a checkpoint of the bucket.
    pub checkpointed: Lsn,
}

/// The garbage that this run has seen.
#[derive(Debug)]
pub struct Waiting {
    delay: Duration,
    seen: HashMap<ObjectId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    dropped: Lsn,
    /// What must be synced, and in a checkpoint.
    needs: Lsn,
    at: Instant,
}

/// What a look at the garbage found.
#[derive(Debug, PartialEq, Eq)]
pub struct Looked {
    /// What may be deleted, the first `limit` of it.
    pub due: Vec<ObjectRef>,
    /// A checkpoint must cover records up to here before all that was seen can go.
    pub needs: Lsn,
}

impl Default for Waiting {
    fn default() -> Self {
        Self::after(DELETE_DELAY)
    }
}

impl Waiting {
    /// Nothing was seen; what will be may go after `delay`.
    pub fn after(delay: Duration) -> Self {
        Self { delay, seen: HashMap::new() }
    }

    /// Looks at the garbage of this moment. Returns at most `limit` objects.
    pub fn look(
        &mut self,
        garbage: &[Garbage],
        now: Instant,
        progress: Progress,
        limit: usize,
    ) -> Looked {
        let present: HashSet<_> = garbage.iter().map(|garbage| garbage.object.id).collect();
        self.seen.retain(|id, _| present.contains(id));
        let mut looked = Looked { due: Vec::new(), needs: Lsn::ZERO };
        for Garbage { object, dropped } in garbage {
            // No record of its own says that it went: whatever did is in the log by now.
            let needs = if *dropped == Lsn::ZERO { progress.reserved } else { *dropped };
            let fresh = Seen { dropped: *dropped, needs, at: now };
            let seen = self.seen.entry(object.id).or_insert(fresh);
            if seen.dropped != *dropped {
                // It came into use meanwhile and was dropped again.
                *seen = fresh;
            }
            looked.needs = looked.needs.max(seen.needs);
            let is_due = seen.needs <= progress.synced
                && seen.needs <= progress.checkpointed
                && now.saturating_duration_since(seen.at) >= self.delay;
            if is_due && looked.due.len() < limit {
                looked.due.push(*object);
            }
        }
        looked
    }
}

/// Whose objects may be swept.
#[derive(Debug)]
pub struct Writers {
    /// The bits of this run.
    pub own: [u8; 16],
    /// The smallest sequence of this run that is in flight, or the next if none is.
    pub smallest_in_flight: u64,
    /// Those of earlier runs of this data directory, and of the one that it replaced.
    pub earlier: BTreeSet<[u8; 16]>,
}

impl Writers {
    /// Whether an object was certainly written by a run that will not refer to it any more: then it
    /// is an orphan if nobody refers to it.
    pub fn may_sweep(&self, id: ObjectId) -> bool {
        if id.incarnation == self.own {
            return id.sequence < self.smallest_in_flight;
        }
        self.earlier.contains(&id.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn garbage(sequence: u64, dropped: u64) -> Garbage {
        let id = ObjectId { incarnation: [7; 16], sequence };
        Garbage { object: ObjectRef { id, bytes: 1, end_bytes: 1 }, dropped: Lsn(dropped) }
    }

    fn progress(reserved: u64, synced: u64, checkpointed: u64) -> Progress {
        Progress { reserved: Lsn(reserved), synced: Lsn(synced), checkpointed: Lsn(checkpointed) }
    }

    fn due(looked: &Looked) -> Vec<u64> {
        looked.due.iter().map(|object| object.id.sequence).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_goes_when_record_checkpoint_and_time_allow_it_and_not_before() {
        let start = Clock::manual(0).now();
        let late = start + DELETE_DELAY;
        let early = late - Duration::from_millis(1);
        for (now, synced, checkpointed, goes) in [
            (late, 5, 5, true),
            (late, 4, 5, false),
            (late, 5, 4, false),
            (early, 5, 5, false),
            (late + DELETE_DELAY, 9, 9, true),
        ] {
            let mut waiting = Waiting::default();
            let list = [garbage(1, 5)];
            assert!(waiting.look(&list, start, progress(9, 9, 9), 10).due.is_empty());
            let looked = waiting.look(&list, now, progress(9, synced, checkpointed), 10);
            assert_eq!(due(&looked) == [1], goes, "{synced} {checkpointed}");
            assert_eq!(looked.needs, Lsn(5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_without_a_record_waits_for_a_checkpoint_after_it_was_seen() {
        let start = Clock::manual(0).now();
        let late = start + DELETE_DELAY;
        let mut waiting = Waiting::default();
        let list = [garbage(1, 0)];
        assert_eq!(waiting.look(&list, start, progress(8, 8, 7), 10).needs, Lsn(8));
        assert!(waiting.look(&list, late, progress(20, 20, 7), 10).due.is_empty());
        assert_eq!(due(&waiting.look(&list, late, progress(20, 20, 8), 10)), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_into_use_and_was_dropped_again_waits_anew() {
        let start = Clock::manual(0).now();
        let late = start + DELETE_DELAY;
        let mut waiting = Waiting::default();
        waiting.look(&[garbage(1, 5)], start, progress(9, 9, 9), 10);
        assert!(waiting.look(&[garbage(1, 8)], late, progress(9, 9, 9), 10).due.is_empty());
        // The same when it was seen in use.
        waiting.look(&[], late, progress(9, 9, 9), 10);
        assert!(waiting.look(&[garbage(1, 8)], late, progress(9, 9, 9), 10).due.is_empty());
        let later = late + DELETE_DELAY;
        assert_eq!(due(&waiting.look(&[garbage(1, 8)], later, progress(9, 9, 9), 10)), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_go_at_once_than_asked_for() {
        let start = Clock::manual(0).now();
        let list: Vec<_> = (0..10).map(|sequence| garbage(sequence, 1)).collect();
        let mut waiting = Waiting::default();
        waiting.look(&list, start, progress(9, 9, 9), 3);
        let looked = waiting.look(&list, start + DELETE_DELAY, progress(9, 9, 9), 3);
        assert_eq!(due(&looked), [0, 1, 2]);
    }

    #[test]
    fn only_runs_that_have_ended_and_finished_uploads_are_swept() {
        let earlier = [[1; 16]].into();
        let writers = Writers { own: [2; 16], smallest_in_flight: 5, earlier };
        let may = |incarnation: u8, sequence| {
            writers.may_sweep(ObjectId { incarnation: [incarnation; 16], sequence })
        };
        assert!(may(1, 0) && may(1, u64::MAX));
        assert!(may(2, 4) && !may(2, 5) && !may(2, 6));
        assert!(!may(3, 0));
    }
}
