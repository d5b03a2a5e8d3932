//! The GETs of a bucket under test: counted, held, failed.

use std::sync::{Arc, Mutex};

use object_store::{GetOptions, GetRange, Result};
use tokio::sync::watch;

use super::failure;

/// What happens to GETs, shared by all clones.
#[derive(Debug, Clone)]
pub(super) struct Gets {
    /// The ranges asked for, in order; the whole object is `0..0`.
    asked: Arc<Mutex<Vec<std::ops::Range<u64>>>>,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    made: u64,
    held: bool,
    failing: u64,
}

impl Default for Gets {
    fn default() -> Self {
        Self { asked: Arc::default(), state: watch::Sender::new(State::default()) }
    }
}

impl Gets {
    /// A GET on its way to the backend: waits while they are held.
    pub(super) async fn pass(&self, options: &GetOptions) -> Result<()> {
        let range = match &options.range {
            Some(GetRange::Bounded(range)) => range.clone(),
            _ => 0..0,
        };
        self.asked.lock().unwrap().push(range);
        self.state.send_modify(|state| state.made += 1);
        let mut state = self.state.subscribe();
        state.wait_for(|state| !state.held).await.expect("the sender is here");
        let mut fails = false;
        self.state.send_modify(|state| {
            fails = state.failing > 0;
            state.failing -= u64::from(fails);
        });
        if fails { Err(failure("a GET that fails")) } else { Ok(()) }
    }

    pub(super) fn made(&self) -> u64 {
        self.state.borrow().made
    }

    pub(super) fn asked(&self) -> Vec<std::ops::Range<u64>> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn hold(&self, held: bool) {
        self.state.send_modify(|state| state.held = held);
    }

    pub(super) fn fail(&self, count: u64) {
        self.state.send_modify(|state| state.failing = count);
    }

    pub(super) async fn arrived(&self, count: u64) {
        let mut state = self.state.subscribe();
        state.wait_for(|state| state.made >= count).await.expect("the sender is here");
    }
}
