//! Producer ids from memory, taken from the metadata in blocks.

use std::sync::Mutex;

use tokio::task::JoinHandle;
use tracing::debug;

use super::change::{Change, Outcome};
use super::handle::{Cluster, CommitError};
use crate::task;

/// How many ids one block has (Kafka's `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const BLOCK: i32 = 1000;

/// The ids at hand. What is left of them is lost when the process ends; there are 2^63 - 2^48.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    state: Mutex<State>,
    /// Held by the one that takes a block, so that those who wait for it do not each take one.
    taking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The next id and the end of its block.
    next: i64,
    end: i64,
    /// The first id of the block after it, once taken.
    spare: Option<i64>,
    /// The task that takes it; one at a time.
    refill: Option<JoinHandle<()>>,
    closed: bool,
}

impl State {
    fn has_any(&self) -> bool {
        self.next < self.end || self.spare.is_some()
    }
}

impl ProducerIds {
    /// Gives an id. When half of a block is used the next one is taken in the background.
    pub(super) async fn next(&self, cluster: &Cluster) -> Result<i64, CommitError> {
        loop {
            if let Some(id) = self.at_hand(cluster) {
                return Ok(id);
            }
            self.take_block(cluster, State::has_any).await?;
        }
    }

    /// Ends the background task. No further one is begun.
    pub(super) async fn close(&self) {
        let refill = {
            let mut state = self.state.lock().expect("no holder panics");
            state.closed = true;
            state.refill.take()
        };
        if let Some(refill) = refill {
            refill.abort();
            let _aborted = refill.await;
        }
    }

    fn at_hand(&self, cluster: &Cluster) -> Option<i64> {
        let mut state = self.state.lock().expect("no holder panics");
        if state.next == state.end {
            state.next = state.spare.take()?;
            state.end = state.next + i64::from(BLOCK);
        }
        let id = state.next;
        state.next += 1;
        let is_low = state.end - state.next <= i64::from(BLOCK / 2) && state.spare.is_none();
        let is_idle = state.refill.as_ref().is_none_or(JoinHandle::is_finished);
        if is_low && is_idle && !state.closed {
            let cluster = cluster.clone();
            state.refill = Some(task::spawn("producer-id-block", async move {
                if let Err(error) = cluster.refill_producer_ids().await {
                    debug!(%error, "no block of producer ids yet; the next id tries again");
                }
            }));
        }
        Some(id)
    }

    /// Takes the block after the present one unless it is there by now.
    pub(super) async fn refill(&self, cluster: &Cluster) -> Result<(), CommitError> {
        self.take_block(cluster, |state| state.spare.is_some()).await
    }

    async fn take_block(
        &self,
        cluster: &Cluster,
        is_enough: impl Fn(&State) -> bool,
    ) -> Result<(), CommitError> {
        let _taking = self.taking.lock().await;
        if is_enough(&self.state.lock().expect("no holder panics")) {
            return Ok(());
        }
        let change = Change::AllocateProducerIds { count: BLOCK };
        let committed = cluster.commit(vec![change]).await?;
        match committed.outcomes.first() {
            Some(Ok(Outcome::ProducerIds(first))) => {
                self.state.lock().expect("no holder panics").spare = Some(*first);
                Ok(())
            }
            Some(Err(error)) => Err(CommitError::Refused { reason: error.to_string() }),
            Some(Ok(Outcome::Topic(_) | Outcome::BrokerConfigs)) | None => {
                let reason = "a block of producer ids was not given".to_owned();
                Err(CommitError::Refused { reason })
            }
        }
    }
}
