//! Names for the objects of this run of the broker.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::tier::ObjectId;

/// Gives out names, each once.
#[derive(Debug, Clone)]
pub(in crate::broker) struct ObjectNames {
    incarnation: [u8; 16],
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    in_flight: BTreeSet<u64>,
}

/// A name in use: nothing else has a say in the object before this is dropped.
#[derive(Debug)]
pub(in crate::broker) struct InFlight {
    id: ObjectId,
    state: Arc<Mutex<State>>,
}

impl ObjectNames {
    /// Names of the run with these random bits.
    pub(in crate::broker) fn new(incarnation: [u8; 16]) -> Self {
        Self { incarnation, state: Arc::default() }
    }

    /// A name that nothing ever had.
    pub(in crate::broker) fn next(&self) -> InFlight {
        let mut state = lock(&self.state);
        let sequence = state.next;
        state.next += 1;
        state.in_flight.insert(sequence);
        let id = ObjectId { incarnation: self.incarnation, sequence };
        InFlight { id, state: Arc::clone(&self.state) }
    }

    /// The run, and the sequence below which none of its objects is on its way.
    pub(in crate::broker) fn settled(&self) -> ([u8; 16], u64) {
        let state = lock(&self.state);
        (self.incarnation, state.in_flight.first().copied().unwrap_or(state.next))
    }
}

impl InFlight {
    /// The name.
    pub(in crate::broker) fn id(&self) -> ObjectId {
        self.id
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.state).in_flight.remove(&self.id.sequence);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_and_what_is_below_the_oldest_in_flight_is_settled() {
        let names = ObjectNames::new([3; 16]);
        assert_eq!(names.settled(), ([3; 16], 0));
        let (first, second) = (names.next(), names.next());
        assert_eq!((first.id().sequence, second.id().sequence), (0, 1));
        assert_eq!(names.settled().1, 0);
        drop(first);
        assert_eq!(names.settled().1, 1);
        drop(second);
        assert_eq!(names.settled().1, 2);
    }
}
