//! Reads that wait at the service until a test lets them go.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Bucket;

/// How long a read may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which reads wait, and how many came and may go.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The names of the objects of which reads wait contain this; `None` if none waits.
    of: Option<String>,
    came: u64,
    may_go: u64,
}

/// Reads are held while this lives.
pub struct Hold<'a> {
    gate: &'a Gate,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits with a read of the object until it is let go, if such are held.
    pub fn pass(&self, key: &str) {
        let mut state = self.state();
        if !state.of.as_ref().is_some_and(|of| key.contains(of)) {
            return;
        }
        state.came += 1;
        let mine = state.came;
        self.changed.notify_all();
        while state.of.is_some() && state.may_go < mine {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn set(&self, of: Option<String>) {
        *self.state() = State { of, came: 0, may_go: 0 };
        self.changed.notify_all();
    }
}

impl Bucket {
    /// Holds the reads of objects whose names contain `of` from now on. One at a time.
    pub fn hold(&self, of: &str) -> Hold<'_> {
        let gate = &self.shared.gate;
        gate.set(Some(of.to_owned()));
        Hold { gate }
    }
}

impl Hold<'_> {
    /// Waits until `count` reads have come in all.
    pub fn wait_for(&self, count: u64) {
        let (state, waited) = self
            .gate
            .changed
            .wait_timeout_while(self.gate.state(), PATIENCE, |state| state.came < count)
            .unwrap();
        assert!(!waited.timed_out(), "{} of {count} reads came", state.came);
    }

    /// How many reads have come.
    pub fn came(&self) -> u64 {
        self.gate.state().came
    }

    /// Lets the first `count` in all go.
    pub fn let_go(&self, count: u64) {
        self.gate.state().may_go = count;
        self.gate.changed.notify_all();
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.gate.set(None);
    }
}
