//! The task of an active group: takes the mailbox's requests one after the other, appends what the
//! state machine wants saved, and sends the answers. It waits for room in the log, never for
//! durability: answers carry the last append's [`Gate`] and wait for it on their own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, warn};

use super::Inner;
use super::cell::{Cell, CellState};
use super::command::Command;
use super::expiry::{self, Age};
use super::group::{Answer, Save, Turn};
use super::log::{AppendRefused, Record};
use super::offsets::{self, Change};
use super::record;
use super::reply::{Gate, Waiter, gate};
use super::shard::{Shard, Tenure};
use super::types::{
    CONSUMER_PROTOCOL_TYPE, CommitRequest, Error, Name, OffsetDeleteRequest, State, TopicResults,
};
use crate::log_limit::LogLimit;

/// The most tombstones in one batch, and about how many bytes they may have, so that a batch stays
/// below the usual `max.message.bytes`.
const TOMBSTONES_PER_BATCH: usize = 1_000;
const TOMBSTONE_BYTES: usize = 512 << 10;

/// What a tombstone has beside the group's id: a topic's name has at most 249 bytes.
const TOMBSTONE: usize = 300;

/// The task.
#[derive(Debug)]
pub(super) struct GroupTask {
    pub(super) inner: Arc<Inner>,
    pub(super) shard: Arc<Shard>,
    pub(super) group: Name,
    pub(super) cell: Arc<Cell>,
    pub(super) mailbox: mpsc::Receiver<Command>,
    pub(super) tenure: Tenure,
    /// An assignment is on its way to the disk: sessions begin when it is durable.
    pub(super) assigning: bool,
    /// Has begun, and the shard has not let it go yet.
    pub(super) running: bool,
}

impl GroupTask {
    /// Runs until the group has neither members nor requests, or the shard gives it up.
    pub(super) async fn run(mut self) {
        self.running = true;
        while !self.tenure.is_over() {
            let (deadline, gate) = {
                let cell = self.cell.lock();
                (cell.group.next_deadline(), cell.gate.clone())
            };
            let clock = &self.inner.clock;
            let is_due = deadline.is_some_and(|at| at <= clock.now());
            // Nothing is lost when another branch wins: the gate is shared, the mailbox keeps its
            // requests, and the deadline is asked for anew. What is due does not sleep: timers go
            // by the millisecond, and an initial delay of 0 is over at once.
            tokio::select! {
                biased;
                durable = wait(gate) => self.durable(durable.is_ok()),
                () = std::future::ready(()), if is_due => self.expire_sessions().await,
                command = self.mailbox.recv() => match command {
                    Some(command) => self.handle(command).await,
                    None => break,
                },
                () = async { clock.sleep_until(deadline.unwrap_or_else(|| clock.now())).await },
                    if deadline.is_some() => self.expire_sessions().await,
            }
            self.inner.count(&self.cell);
            if self.cell.lock().is_idle() && self.shard.retire(&self.inner, &self) {
                self.running = false;
                return;
            }
        }
    }

    /// Charges the group for what a request may add; a request for which no memory is left is
    /// refused. What it did not need is given back when it has been handled.
    fn reserve(&self, command: Command) -> Option<Command> {
        let reserved = {
            let mut cell = self.cell.lock();
            let needed = match &command {
                Command::Join(request, _) => cell.group.join_needs(request),
                Command::Sync(request, _) => cell.group.sync_needs(request),
                _ => 0,
            };
            cell.held.try_grow(needed)
        };
        match reserved {
            Ok(()) => Some(command),
            Err(error) => {
                self.inner.refuse_for_memory(command, error);
                None
            }
        }
    }

    /// The last append is durable, or the log is lost.
    fn durable(&mut self, ok: bool) {
        if !ok {
            error!(group = %self.group, partition = self.shard.partition,
                "an append to __consumer_offsets has no known outcome; its groups are reloaded");
            self.shard.unload(&self.inner);
            self.cell.lock().gate = None;
            return;
        }
        let mut cell = self.cell.lock();
        cell.gate = None;
        if std::mem::take(&mut self.assigning) {
            cell.group.touch_all(self.inner.clock.now());
        }
    }

    async fn handle(&mut self, command: Command) {
        if !command.creates() && !self.cell.lock().exists() {
            return command.answer_absent(&*self.inner.topics);
        }
        let Some(command) = self.reserve(command) else { return };
        match command {
            Command::Commit(request, waiter) => self.commit(&request, waiter).await,
            Command::Delete(waiter) => self.delete(waiter).await,
            Command::DeleteOffsets(request, waiter) => self.delete_offsets(request, waiter).await,
            Command::Expire(waiter) => self.expire_offsets(waiter).await,
            command if command.only_reads() => self.cell.lock().read(command, &self.inner),
            command => self.step(command).await,
        }
    }

    /// A request to the state machine.
    async fn step(&mut self, command: Command) {
        let inner = Arc::clone(&self.inner);
        let mut turn = inner.turn();
        let mut left = None;
        {
            let group = &mut self.cell.lock().group;
            match command {
                Command::Join(request, waiter) => group.join(&mut turn, &request, waiter),
                Command::Sync(request, waiter) => group.sync(&mut turn, *request, waiter),
                // It shows nothing that its member does not know, so it need not wait for the disk.
                Command::Heartbeat(request, waiter) => {
                    waiter.send(group.heartbeat(&turn, &request), None);
                }
                Command::Leave(request, waiter) => {
                    left = Some((waiter, group.leave(&mut turn, request)));
                }
                other => other.refuse(Error::CoordinatorNotAvailable),
            }
        }
        self.settle(turn).await;
        if let Some((waiter, left)) = left {
            waiter.send(Ok(left), self.cell.lock().gate.as_ref());
        }
    }

    /// A deadline has passed. Requests that came before are handled first: they may have waited for
    /// the log, and a heartbeat among them came in time.
    async fn expire_sessions(&mut self) {
        for _ in 0..self.mailbox.len() {
            if self.tenure.is_over() {
                return;
            }
            if let Ok(command) = self.mailbox.try_recv() {
                self.handle(command).await;
                self.inner.count(&self.cell);
            }
        }
        let inner = Arc::clone(&self.inner);
        let mut turn = inner.turn();
        self.cell.lock().group.expire(&mut turn);
        self.settle(turn).await;
    }

    /// Saves what the turn wants saved, then sends its answers.
    async fn settle(&mut self, mut turn: Turn<'_>) {
        if let Some(save) = turn.save.take() {
            let value = self.cell.lock().group.record(&save).encode();
            let key = record::group_key(&self.group);
            let appended = self.append(vec![Record { key, value: Some(value) }]).await;
            turn.now = self.inner.clock.now();
            self.assigning |= appended.is_ok() && matches!(save, Save::Assignment { .. });
            let group = &mut self.cell.lock().group;
            match appended {
                Ok(()) => group.saved(&mut turn, save),
                Err(AppendRefused::Unavailable) => {
                    group.not_saved(&mut turn, save, Error::CoordinatorNotAvailable);
                }
                Err(AppendRefused::TooLarge) => {
                    group.not_saved(&mut turn, save, Error::GroupTooLarge);
                }
            }
        }
        for reason in turn.rebalances {
            self.inner.metrics.rebalance(reason);
        }
        let gate = self.cell.lock().gate.clone();
        for answer in turn.answers {
            match answer {
                Answer::Join(waiter, result) => waiter.send(result, gate.as_ref()),
                Answer::Sync(waiter, result) => waiter.send(result, gate.as_ref()),
            }
        }
    }

    async fn append(&self, records: Vec<Record>) -> Result<(), AppendRefused> {
        match self.inner.log.append(self.shard.partition, records).await {
            Ok(durable) => {
                self.cell.lock().gate = Some(gate(durable));
                Ok(())
            }
            Err(refused) => {
                static LIMIT: LogLimit = LogLimit::new();
                if let Some(more) = LIMIT.allow(&self.inner.clock) {
                    warn!(
                        group = %self.group, error = %refused, more,
                        "append to __consumer_offsets"
                    );
                }
                Err(refused)
            }
        }
    }

    async fn commit(&mut self, request: &CommitRequest, waiter: Waiter<Vec<TopicResults>>) {
        let inner = Arc::clone(&self.inner);
        let turn = inner.turn();
        let checked = self.cell.lock().group.check_commit(&turn, request);
        if let Err(error) = checked {
            return waiter.refuse(error);
        }
        let age = Age::none(turn.now);
        let commit = offsets::commit(request, &*inner.topics, &inner.config, turn.wall_ms, age);
        let commit = match commit {
            Ok(commit) => commit,
            Err(error) => return waiter.refuse(error),
        };
        let reserved = {
            let mut cell = self.cell.lock();
            let needed = cell.offsets.needs(&commit.changes);
            cell.held.try_grow(needed)
        };
        if let Err(error) = reserved {
            inner.memory.refused(&inner.metrics, turn.now);
            return waiter.refuse(error);
        }
        let count = commit.records.len();
        if count > 0
            && let Err(refused) = self.append(commit.records).await
        {
            return waiter.refuse(match refused {
                AppendRefused::Unavailable => Error::CoordinatorNotAvailable,
                AppendRefused::TooLarge => Error::InvalidCommitOffsetSize,
            });
        }
        inner.metrics.commits.inc_by(count as u64);
        let mut cell = self.cell.lock();
        cell.offsets.apply(commit.changes);
        cell.group.touch(&request.member_id, inner.clock.now());
        waiter.send(Ok(commit.results), cell.gate.as_ref());
    }

    /// Appends tombstones and removes the offsets, batch by batch: what was appended before a
    /// refusal stays removed.
    async fn remove(&mut self, gone: Vec<(Name, i32)>) -> Result<(), AppendRefused> {
        let per_batch = TOMBSTONE_BYTES / (TOMBSTONE + self.group.len());
        for batch in gone.chunks(per_batch.clamp(1, TOMBSTONES_PER_BATCH)) {
            let tombstone = |(topic, at): &(Name, i32)| offsets::tombstone(&self.group, topic, *at);
            self.append(batch.iter().map(tombstone).collect()).await?;
            let removed = batch.iter().map(|(topic, at)| -> Change { (topic.clone(), *at, None) });
            self.cell.lock().offsets.apply(removed.collect());
        }
        Ok(())
    }

    /// Appends the group's tombstone, if it has a record, and forgets it.
    async fn forget(&mut self) -> Result<(), AppendRefused> {
        let is_recorded = self.cell.lock().group.is_recorded;
        if is_recorded {
            let key = record::group_key(&self.group);
            self.append(vec![Record { key, value: None }]).await?;
        }
        self.cell.lock().group.delete();
        Ok(())
    }

    async fn delete(&mut self, waiter: Waiter<()>) {
        if self.cell.lock().group.state != State::Empty {
            return waiter.refuse(Error::NonEmptyGroup);
        }
        let all: Vec<_> =
            self.cell.lock().offsets.iter().map(|(topic, at, _)| (topic.clone(), at)).collect();
        let mut deleted = self.remove(all).await;
        if deleted.is_ok() {
            deleted = self.forget().await;
        }
        let result = deleted.map_err(|_| Error::CoordinatorNotAvailable);
        waiter.send(result, self.cell.lock().gate.as_ref());
    }

    async fn delete_offsets(
        &mut self,
        request: OffsetDeleteRequest,
        waiter: Waiter<Vec<TopicResults>>,
    ) {
        // Each once, however often it is named: every one is a record.
        let mut gone = BTreeSet::new();
        let mut results = Vec::with_capacity(request.topics.len());
        {
            let cell = self.cell.lock();
            let group = &cell.group;
            let consumes = group.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE);
            if group.state != State::Empty && !consumes {
                return waiter.refuse(Error::NonEmptyGroup);
            }
            let subscribed = group.subscribed(request.topics.iter().map(|(name, _)| name));
            for (name, partitions) in &request.topics {
                let is_read = subscribed.contains(name);
                let result = if is_read { Err(Error::GroupSubscribedToTopic) } else { Ok(()) };
                if !is_read {
                    let held =
                        partitions.iter().filter(|at| cell.offsets.get(name, **at).is_some());
                    gone.extend(held.map(|at| (name.clone(), *at)));
                }
                let partitions = partitions.iter().map(|at| (*at, result.clone())).collect();
                results.push(TopicResults { name: name.clone(), partitions });
            }
        }
        let removed = self.remove(gone.into_iter().collect()).await;
        let result = removed.map(|()| results).map_err(|_| Error::CoordinatorNotAvailable);
        waiter.send(result, self.cell.lock().gate.as_ref());
    }

    async fn expire_offsets(&mut self, waiter: Waiter<usize>) {
        let gone = self.inner.expired(&self.cell.lock());
        let count = gone.len();
        let mut result = self.remove(gone).await;
        if result.is_ok() {
            self.inner.metrics.expired.inc_by(count as u64);
            let is_over = {
                let cell = self.cell.lock();
                expiry::is_over(&cell.group, &cell.offsets)
            };
            if is_over {
                result = self.forget().await;
            }
        }
        let result = result.map(|()| count).map_err(|_| Error::CoordinatorNotAvailable);
        waiter.send(result, self.cell.lock().gate.as_ref());
    }
}

impl Drop for GroupTask {
    /// Nobody must wait for a task that is gone, whether it was given up or has panicked. After a
    /// panic only the log says how far it got: the shard is read again.
    fn drop(&mut self) {
        if !self.running {
            // It has retired; or the runtime has stopped and drops it while the shard, locked,
            // spawns it: nothing is parked yet, and the mailbox refuses what it has by its own end.
            return;
        }
        if !self.tenure.is_over() {
            self.shard.unload(&self.inner);
        }
        self.cell.lock().group.give_up();
        while let Ok(command) = self.mailbox.try_recv() {
            command.refuse(Error::CoordinatorNotAvailable);
        }
    }
}

/// Waits for the gate; for ever without one.
async fn wait(gate: Option<Gate>) -> Result<(), super::log::LogLost> {
    match gate {
        Some(gate) => gate.await,
        None => std::future::pending().await,
    }
}

impl Inner {
    /// The present, for the state machine.
    pub(super) fn turn(&self) -> Turn<'_> {
        Turn::new(self.clock.now(), self.clock.wall_ms(), &self.config, &self.random)
    }

    /// Refuses a request for which groups have no memory left.
    pub(super) fn refuse_for_memory(&self, command: Command, error: Error) {
        self.memory.refused(&self.metrics, self.clock.now());
        command.refuse(error);
    }

    /// The offsets of a group that are too old now.
    pub(super) fn expired(&self, cell: &CellState) -> Vec<(Name, i32)> {
        let retention = u64::try_from(self.config.offsets_retention_ms).unwrap_or(0);
        let (retention, now) = (Duration::from_millis(retention), self.clock.now());
        expiry::expired(&cell.group, &cell.offsets, &*self.topics, retention, now)
    }
}
