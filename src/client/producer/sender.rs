//! The task that sends what waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};

use super::super::{Cluster, ClusterError, Target};
use super::queue::{Batch, Identity, Pending, Queues};
use super::request::{self, Answered, Part, Request, Row};
use super::{Acks, Delivered, OnReport, ProduceError, Report, Shared};
use crate::clock::Instant;
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

/// A batch whose producer id the leader did not know is given another so often.
const RESETS_MAX: u32 = 3;

/// What was waited for.
enum Event {
    Answered(Box<Answered>),
    /// Leaders were asked for.
    Refreshed,
    /// A producer id was asked for.
    Identified(Result<Identity, ClusterError>),
}

/// The producer id that partitions begin with.
enum Known {
    /// Batches carry none.
    NotNeeded,
    None,
    Asking,
    Have(Identity),
}

pub(super) struct Sender {
    shared: Arc<Shared>,
    cluster: Cluster,
    on_report: OnReport,
    identity: Known,
    is_refreshing: bool,
    /// Nodes with a request on its way.
    busy: BTreeSet<i32>,
    at_work: FuturesUnordered<BoxFuture<'static, Event>>,
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>, cluster: Cluster, on_report: OnReport) -> Self {
        let is_idempotent = shared.options.acks == Acks::All;
        let identity = if is_idempotent { Known::None } else { Known::NotNeeded };
        let (busy, at_work) = (BTreeSet::new(), FuturesUnordered::new());
        Self { shared, cluster, on_report, identity, is_refreshing: false, busy, at_work }
    }

    /// Sends until the producer is closed. Dropping it drops what is on its way.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.shared.clock.now();
            let next = self.dispatch(now);
            if self.shared.queues().is_closed && self.shared.queues().is_idle() {
                return;
            }
            let shared = Arc::clone(&self.shared);
            let timer = async {
                match next {
                    Some(next) => shared.clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            // Nothing is lost where a branch is dropped: events stay in `at_work`, and a
            // notification that came in stays for the next turn.
            tokio::select! {
                Some(event) = self.at_work.next(), if !self.at_work.is_empty() => {
                    self.handle(event);
                }
                () = shared.work.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Starts what can be started, and says when to look again.
    fn dispatch(&mut self, now: Instant) -> Option<Instant> {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let expired = shared.queues().expired(now, options.delivery_timeout);
        for (partition, batch) in expired {
            self.expire(partition, batch);
        }
        let ready = shared.queues().ready(now, options.linger);
        if !ready.is_empty() && self.has_identity() {
            self.start(&ready);
        }
        shared.queues().next(now, options.linger, options.delivery_timeout)
    }

    /// Whether batches can be sent; asks for a producer id if one is missing.
    fn has_identity(&mut self) -> bool {
        match self.identity {
            Known::NotNeeded | Known::Have(_) => true,
            Known::Asking => false,
            Known::None => {
                self.identity = Known::Asking;
                let shared = Arc::clone(&self.shared);
                let cluster = self.cluster.clone();
                self.at_work.push(Box::pin(async move {
                    Event::Identified(identify(&shared, &cluster).await)
                }));
                false
            }
        }
    }

    /// Sends the first batches of these partitions, those of a node together.
    fn start(&mut self, ready: &[i32]) {
        let shared = Arc::clone(&self.shared);
        let mut by_node: BTreeMap<i32, Vec<Part>> = BTreeMap::new();
        let mut bytes: BTreeMap<i32, usize> = BTreeMap::new();
        let mut is_lost = false;
        let mut queues = shared.queues();
        for partition in ready {
            let Some(queue) = queues.by_partition.get_mut(partition) else { continue };
            let Some(leader) = shared.leaders.leader(&shared.topic, *partition) else {
                queue.is_held = true;
                is_lost = true;
                continue;
            };
            let first = queue.batches.front().map_or(0, Batch::bytes);
            let so_far = bytes.entry(leader.node).or_default();
            let fits = *so_far == 0 || *so_far + first <= shared.options.request_bytes;
            if self.busy.contains(&leader.node) || !fits {
                continue;
            }
            if let (None, Known::Have(identity)) = (queue.identity, &self.identity) {
                queue.identity = Some(*identity);
            }
            let Some(batch) = queue.batches.pop_front() else { continue };
            *so_far += first;
            queue.is_sending = true;
            let part = Part { partition: *partition, identity: queue.identity, batch };
            by_node.entry(leader.node).or_default().push(part);
        }
        drop(queues);
        if is_lost {
            self.refresh();
        }
        for (node, parts) in by_node {
            self.busy.insert(node);
            let topic = shared.topic.clone();
            let topic_id = shared.leaders.topic_id(&topic);
            let request = Request { node, topic, topic_id, parts };
            let sent = request::send(self.cluster.clone(), shared.options.clone(), request);
            self.at_work.push(Box::pin(async move { Event::Answered(Box::new(sent.await)) }));
        }
    }

    fn refresh(&mut self) {
        if self.is_refreshing {
            return;
        }
        self.is_refreshing = true;
        let shared = Arc::clone(&self.shared);
        self.at_work.push(Box::pin(async move {
            // What is wrong shows when the next request is sent.
            let _ = shared.leaders.refresh(&[&shared.topic]).await;
            Event::Refreshed
        }));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Identified(Ok(identity)) => self.identity = Known::Have(identity),
            Event::Identified(Err(error)) => {
                self.identity = Known::None;
                self.fail_all(&ProduceError::Cluster(error));
            }
            Event::Refreshed => self.refreshed(),
            Event::Answered(answered) => {
                let Answered { request: Request { node, parts, .. }, outcome } = *answered;
                self.busy.remove(&node);
                match outcome {
                    Ok(rows) => {
                        for (part, row) in parts.into_iter().zip(rows) {
                            self.answered(part, row);
                        }
                    }
                    Err(error) => {
                        for part in parts {
                            self.unanswered(part, &error);
                        }
                    }
                }
            }
        }
    }

    fn refreshed(&mut self) {
        self.is_refreshing = false;
        let shared = Arc::clone(&self.shared);
        shared.queues().by_partition.values_mut().for_each(|queue| queue.is_held = false);
        let code = shared.leaders.code(&shared.topic);
        if code != 0 && !ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable) {
            self.fail_all(&ProduceError::NoTopic { topic: shared.topic.clone(), code });
        }
    }

    /// A leader said something of a batch.
    fn answered(&mut self, part: Part, row: Row) {
        let code = ErrorCode::from_code(row.code).unwrap_or(ErrorCode::UnknownServerError);
        match code {
            ErrorCode::None | ErrorCode::DuplicateSequenceNumber => self.delivered(part, &row),
            ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp => self.without_the_wrong(part, row),
            ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
                if !part.batch.is_unknown && part.batch.resets < RESETS_MAX =>
            {
                // Nothing of it is in the log: it may begin anew under another id.
                let mut part = part;
                part.batch.resets += 1;
                part.batch.last = Some(code.name().to_owned());
                self.give_up_identity(&part);
                self.again(part, false);
            }
            code if code.is_retriable() => {
                let mut part = part;
                // The leader has it, or does not know.
                part.batch.is_unknown |= matches!(
                    code,
                    ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend
                );
                part.batch.last = Some(code.name().to_owned());
                self.again(part, true);
            }
            _ => {
                self.give_up_identity(&part);
                let error = self.refusal(part.partition, row.code, row.message);
                self.fail(part.partition, part.batch.records, &error);
            }
        }
    }

    fn delivered(&mut self, part: Part, row: &Row) {
        self.shared.leaders.settled();
        let mut queues = self.shared.queues();
        if let Some(queue) = queues.by_partition.get_mut(&part.partition) {
            queue.is_sending = false;
            if let Some(identity) = &mut queue.identity {
                identity.advance(part.batch.records.len());
            }
        }
        drop(queues);
        let partition = part.partition;
        let reports = part.batch.records.into_iter().zip(0_i64..).map(|(pending, delta)| {
            let offset = if row.base_offset < 0 { -1 } else { row.base_offset + delta };
            let timestamp = row.append_time.unwrap_or(pending.timestamp);
            (pending, Ok(Delivered { partition, offset, timestamp }))
        });
        self.report(reports);
    }

    /// Reports the records that the leader says are wrong, and tries the others again. If it does
    /// not say which, halves are tried until one record is left.
    fn without_the_wrong(&mut self, mut part: Part, row: Row) {
        let partition = part.partition;
        if part.batch.records.len() == 1 {
            let message = row.wrong.into_iter().find_map(|(_, said)| said).or(row.message);
            let error = self.refusal(partition, row.code, message);
            return self.fail(partition, part.batch.records, &error);
        }
        let positions: Vec<usize> = row.wrong.iter().map(|(at, _)| *at).collect();
        let taken = part.batch.take(&positions);
        let mut rest = if taken.is_empty() {
            let (first, second) = part.batch.halves();
            vec![second, first]
        } else {
            vec![part.batch]
        };
        rest.retain(|batch| !batch.records.is_empty());
        let mut queues = self.shared.queues();
        if let Some(queue) = queues.by_partition.get_mut(&partition) {
            queue.is_sending = false;
            for batch in rest {
                queue.batches.push_front(batch);
            }
        }
        drop(queues);
        for (position, pending) in taken {
            let said = row.wrong.iter().find(|(at, _)| *at == position);
            let said = said.and_then(|(_, said)| said.clone()).or_else(|| row.message.clone());
            let error = self.refusal(partition, row.code, said);
            self.report(std::iter::once((pending, Err(error))));
        }
    }

    /// Nobody said anything of a batch.
    fn unanswered(&mut self, mut part: Part, error: &ClusterError) {
        // What was sent may have been appended.
        part.batch.is_unknown |= matches!(error, ClusterError::Call { .. });
        part.batch.last = Some(error.to_string());
        if error.is_passing() {
            return self.again(part, true);
        }
        self.give_up_identity(&part);
        self.fail(part.partition, part.batch.records, &ProduceError::Cluster(error.clone()));
    }

    /// Puts a batch back, to be tried again, if `is_held` after leaders were asked for.
    fn again(&mut self, part: Part, is_held: bool) {
        let mut queues = self.shared.queues();
        if let Some(queue) = queues.by_partition.get_mut(&part.partition) {
            queue.is_sending = false;
            queue.is_held = is_held;
            queue.batches.push_front(part.batch);
        }
        drop(queues);
        if is_held {
            self.refresh();
        }
    }

    /// The partition goes on under another producer id, since the leader's view of this one is
    /// not ours.
    fn give_up_identity(&mut self, part: &Part) {
        let Some(identity) = part.identity else { return };
        if let Known::Have(current) = &self.identity
            && current.id == identity.id
        {
            self.identity = Known::None;
        }
        if let Some(queue) = self.shared.queues().by_partition.get_mut(&part.partition) {
            queue.identity = None;
        }
    }

    fn expire(&mut self, partition: i32, batch: Batch) {
        let topic = self.shared.topic.clone();
        let last = batch.last.clone();
        let none = || match self.shared.leaders.code(&topic) {
            0 => "its leader was not free, or not known".to_owned(),
            code => super::name(code),
        };
        let error = ProduceError::Expired {
            partition,
            after: self.shared.options.delivery_timeout,
            is_unknown: batch.is_unknown,
            last: last.unwrap_or_else(none),
            topic: topic.clone(),
        };
        let identity = self.shared.queues().by_partition.get(&partition).and_then(|it| it.identity);
        if batch.is_unknown {
            // If it is in the log, the next batch must not carry its sequence.
            let part = Part { partition, identity, batch };
            self.give_up_identity(&part);
            return self.fail_records(part.batch.records, &error);
        }
        self.fail_records(batch.records, &error);
    }

    fn refusal(&self, partition: i32, code: i16, message: Option<String>) -> ProduceError {
        ProduceError::Refused { topic: self.shared.topic.clone(), partition, code, message }
    }

    /// A batch that was on its way will not be delivered.
    fn fail(&mut self, partition: i32, records: Vec<Pending>, error: &ProduceError) {
        if let Some(queue) = self.shared.queues().by_partition.get_mut(&partition) {
            queue.is_sending = false;
        }
        self.fail_records(records, error);
    }

    /// Nothing that waits will be delivered.
    fn fail_all(&mut self, error: &ProduceError) {
        let mut queues = self.shared.queues();
        let batches: Vec<Batch> =
            queues.by_partition.values_mut().flat_map(|queue| queue.batches.drain(..)).collect();
        drop(queues);
        for batch in batches {
            self.fail_records(batch.records, error);
        }
    }

    fn fail_records(&mut self, records: Vec<Pending>, error: &ProduceError) {
        self.report(records.into_iter().map(|pending| (pending, Err(error.clone()))));
    }

    fn report(
        &mut self,
        outcomes: impl Iterator<Item = (Pending, Result<Delivered, ProduceError>)>,
    ) {
        let (mut records, mut bytes) = (0, 0);
        for (pending, outcome) in outcomes {
            (self.on_report)(Report { tag: pending.tag, outcome });
            records += 1;
            bytes += pending.bytes;
        }
        self.shared.room.add_permits(bytes);
        let mut queues: std::sync::MutexGuard<'_, Queues> = self.shared.queues();
        queues.reported(records);
        let is_idle = queues.is_idle();
        drop(queues);
        if is_idle {
            self.shared.idle.notify_waiters();
        }
    }
}

impl Drop for Sender {
    /// Nobody waits for what will not be sent.
    fn drop(&mut self) {
        self.shared.room.close();
        self.shared.queues().has_ended = true;
        self.shared.idle.notify_waiters();
    }
}

/// Asks for a producer id until it has one, what passes for as long as a record may wait.
async fn identify(shared: &Shared, cluster: &Cluster) -> Result<Identity, ClusterError> {
    let deadline = shared.clock.now() + shared.options.delivery_timeout;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    loop {
        let any = VersionRange::new(0, i16::MAX);
        let answered = Box::pin(cluster.ask(Target::Any, any, |_| request.clone())).await;
        let error = match answered {
            Ok(answer) if answer.error_code == 0 => {
                let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
                return Ok(Identity { id, epoch, sequence: 0 });
            }
            Ok(answer) => {
                let what = "an id for the producer".to_owned();
                ClusterError::Refused { what, code: answer.error_code }
            }
            Err(error) => error,
        };
        if !error.is_passing() || shared.clock.now() >= deadline {
            return Err(error);
        }
        // It pauses, longer each time.
        let _ = shared.leaders.refresh(&[&shared.topic]).await;
    }
}
