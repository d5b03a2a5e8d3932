//! A log whose durability and refusals the test decides, and clients that speak plain types.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use crate::budget::{BytePool, Pool};
use crate::clock::{Clock, Instant, Random};
use crate::group::log::Durable;
use crate::group::types::*;
use crate::group::*;
use crate::metrics::Registry;
use crate::protocol::types::TopicId;

pub(super) const PARTITIONS: i32 = 3;

/// Where the log's durability stands: every append up to `durable`, except those lost.
#[derive(Debug, Clone, Default)]
struct Synced {
    durable: u64,
    lost: std::ops::Range<u64>,
}

#[derive(Debug)]
pub(super) struct MemoryLog {
    clock: Clock,
    /// What the log's own clock showed when this life of the log began, and when that was.
    began: (i64, Instant),
    state: Mutex<LogState>,
    synced: watch::Sender<Synced>,
    /// Appends wait for room.
    stalled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct LogState {
    appended: Vec<(i32, LoadedRecord)>,
    /// How many appends there were.
    number: u64,
    /// Length of `appended` after the last durable append.
    durable_end: usize,
    held: bool,
    refusal: Option<AppendRefused>,
    panics: bool,
    fail_loads: u32,
    batches: Vec<usize>,
}

impl MemoryLog {
    pub(super) fn new(clock: &Clock) -> Arc<Self> {
        Self::starting_at(clock, clock.wall_ms())
    }

    fn starting_at(clock: &Clock, log_ms: i64) -> Arc<Self> {
        let synced = watch::Sender::new(Synced::default());
        let stalled = watch::Sender::new(false);
        let began = (log_ms, clock.now());
        Arc::new(Self { clock: clock.clone(), began, state: Mutex::default(), synced, stalled })
    }

    /// The log's own clock, as `wal/log_clock.rs` has it.
    fn now_ms(&self) -> i64 {
        let (shown, began) = self.began;
        shown + (self.clock.now() - began).as_millis() as i64
    }

    /// Appends are durable only when [`MemoryLog::release`] is called.
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    pub(super) fn release(&self) {
        let mut state = self.state.lock().unwrap();
        state.held = false;
        self.sync(&mut state);
    }

    /// While true, appends wait for room.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    fn sync(&self, state: &mut LogState) {
        state.durable_end = state.appended.len();
        self.synced.send_modify(|synced| synced.durable = state.number);
    }

    /// What is not durable never will be, and nobody knows.
    pub(super) fn lose(&self) {
        let mut state = self.state.lock().unwrap();
        let end = state.durable_end;
        state.appended.truncate(end);
        state.held = false;
        self.synced.send_modify(|synced| synced.lost = synced.durable + 1..state.number + 1);
    }

    pub(super) fn refuse(&self, refusal: Option<AppendRefused>) {
        self.state.lock().unwrap().refusal = refusal;
    }

    /// The next append panics, in the task that waits for it.
    pub(super) fn panic_once(&self) {
        self.state.lock().unwrap().panics = true;
    }

    pub(super) fn fail_loads(&self, times: u32) {
        self.state.lock().unwrap().fail_loads = times;
    }

    /// What a crash leaves.
    pub(super) fn crash(&self) -> Arc<Self> {
        let state = self.state.lock().unwrap();
        let durable = state.appended.iter().take(state.durable_end);
        let newest_ms = durable.map(|(_, loaded)| loaded.append_time_ms).max();
        let after = Self::starting_at(&self.clock, newest_ms.unwrap_or(self.began.0));
        let mut left = after.state.lock().unwrap();
        left.appended = state.appended.iter().take(state.durable_end).cloned().collect();
        left.durable_end = state.durable_end;
        drop(left);
        after
    }

    /// Every record of a group, in order.
    pub(super) fn records(&self, group: &str) -> Vec<Record> {
        let partition = partition_for(group, PARTITIONS);
        let state = self.state.lock().unwrap();
        let of_partition = state.appended.iter().filter(|(at, _)| *at == partition);
        of_partition.map(|(_, loaded)| loaded.record.clone()).collect()
    }

    /// Records of each append, in order.
    pub(super) fn batches(&self) -> Vec<usize> {
        self.state.lock().unwrap().batches.clone()
    }

    pub(super) fn push(&self, group: &str, record: Record) {
        self.do_append(partition_for(group, PARTITIONS), vec![record]);
        self.release();
    }

    fn do_append(&self, partition: i32, records: Vec<Record>) -> u64 {
        let mut state = self.state.lock().unwrap();
        let append_time_ms = self.now_ms();
        state.batches.push(records.len());
        let loaded = records.into_iter().map(|record| LoadedRecord { append_time_ms, record });
        state.appended.extend(loaded.map(|loaded| (partition, loaded)));
        state.number += 1;
        if !state.held {
            self.sync(&mut state);
        }
        let number = state.number;
        drop(state);
        number
    }
}

impl OffsetsLog for MemoryLog {
    fn partitions(&self) -> Option<i32> {
        Some(PARTITIONS)
    }

    fn append(
        &self,
        partition: i32,
        records: Vec<Record>,
    ) -> BoxFuture<'_, Result<Durable, AppendRefused>> {
        let refusal = self.state.lock().unwrap().refusal;
        if let Some(refusal) = refusal {
            return async move { Err(refusal) }.boxed();
        }
        let panics = std::mem::take(&mut self.state.lock().unwrap().panics);
        async move {
            assert!(!panics, "the test says so");
            let mut stalled = self.stalled.subscribe();
            let room = stalled.wait_for(|stalled| !stalled).await;
            drop(room.map_err(|_| AppendRefused::Unavailable)?);
            let mut synced = self.synced.subscribe();
            let number = self.do_append(partition, records);
            let durable = async move {
                let decided =
                    |synced: &Synced| synced.lost.contains(&number) || synced.durable >= number;
                let synced = synced.wait_for(decided).await.map_err(|_| LogLost)?;
                if synced.lost.contains(&number) { Err(LogLost) } else { Ok(()) }
            };
            Ok(durable.boxed())
        }
        .boxed()
    }

    fn load<'a>(
        &'a self,
        partition: i32,
        sink: &'a mut (dyn FnMut(LoadedRecord) + Send),
    ) -> BoxFuture<'a, Result<i64, LoadError>> {
        async move {
            let mut state = self.state.lock().unwrap();
            if state.fail_loads > 0 {
                state.fail_loads -= 1;
                return Err(LoadError { partition, reason: "the test says so".to_owned() });
            }
            let records = state.appended.clone();
            drop(state);
            for (at, loaded) in records {
                if at == partition {
                    sink(loaded);
                }
            }
            Ok(self.now_ms())
        }
        .boxed()
    }
}

/// Topics a test makes and deletes.
#[derive(Debug, Default)]
pub(super) struct TestTopics(Mutex<HashMap<String, Topic>>);

impl TestTopics {
    pub(super) fn create(&self, name: &str, id: u128, partitions: i32) {
        let topic = Topic { id: TopicId(uuid::Uuid::from_u128(id)), partitions };
        self.0.lock().unwrap().insert(name.to_owned(), topic);
    }

    pub(super) fn delete(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }
}

impl Topics for TestTopics {
    fn topic(&self, name: &str) -> Option<Topic> {
        self.0.lock().unwrap().get(name).copied()
    }
}

/// A coordinator with everything around it.
pub(super) struct Bench {
    pub(super) coordinator: GroupCoordinator,
    pub(super) log: Arc<MemoryLog>,
    pub(super) topics: Arc<TestTopics>,
    pub(super) clock: Clock,
    pub(super) registry: Registry,
    pub(super) config: GroupConfig,
    pub(super) pool: BytePool,
}

impl Bench {
    /// Topics "orders" and "other" with 4 partitions each; Kafka's defaults.
    pub(super) async fn new() -> Self {
        Self::with(GroupConfig::default()).await
    }

    pub(super) async fn with(config: GroupConfig) -> Self {
        let clock = Clock::manual(1_700_000_000_000);
        let topics = Arc::new(TestTopics::default());
        topics.create("orders", 1, 4);
        topics.create("other", 2, 4);
        let log = MemoryLog::new(&clock);
        Self::start(config, log, topics, clock).await
    }

    async fn start(
        config: GroupConfig,
        log: Arc<MemoryLog>,
        topics: Arc<TestTopics>,
        clock: Clock,
    ) -> Self {
        let bench = Self::cold(config, log, topics, clock);
        bench.load().await;
        bench
    }

    /// Nothing loaded yet.
    pub(super) fn cold(
        config: GroupConfig,
        log: Arc<MemoryLog>,
        topics: Arc<TestTopics>,
        clock: Clock,
    ) -> Self {
        Self::with_pool(config, log, topics, clock, BytePool::new(Pool::Groups, 64 << 20))
    }

    /// Nothing loaded yet; groups may hold what `pool` has.
    pub(super) fn with_pool(
        config: GroupConfig,
        log: Arc<MemoryLog>,
        topics: Arc<TestTopics>,
        clock: Clock,
        pool: BytePool,
    ) -> Self {
        let registry = Registry::new();
        let coordinator = GroupCoordinator::new(
            config.clone(),
            log.clone(),
            topics.clone(),
            GroupMetrics::new(&registry),
            pool.clone(),
            clock.clone(),
            Random::seeded(7),
        );
        Self { coordinator, log, topics, clock, registry, config, pool }
    }

    /// Loads every partition.
    pub(super) async fn load(&self) {
        while self.list() == Err(Error::CoordinatorLoadInProgress) {
            tokio::task::yield_now().await;
        }
    }

    /// A broker on what a crash leaves.
    pub(super) async fn restart(self) -> Self {
        self.coordinator.close();
        Self::start(self.config, self.log.crash(), self.topics, self.clock).await
    }

    pub(super) async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_secs(seconds)).await;
    }

    pub(super) fn list(&self) -> Result<Vec<ListedGroup>, Error> {
        self.coordinator.list(&ListRequest::default())
    }

    pub(super) async fn describe(&self) -> DescribedGroup {
        self.coordinator.describe(&"g".into()).await.unwrap()
    }

    pub(super) async fn state(&self) -> State {
        self.describe().await.state
    }

    /// The value of a metric line such as `tidegate_group_members`.
    pub(super) fn metric(&self, line: &str) -> i64 {
        let text = self.registry.encode();
        let found = text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("{line} is not in\n{text}"))
    }

    pub(super) fn join(&self, member: &Client) -> Reply<JoinResponse> {
        self.coordinator.join(member.join_request())
    }

    /// Both steps of a new dynamic member; the second is parked or answered.
    pub(super) async fn join_new(&self, member: &mut Client) -> Reply<JoinResponse> {
        let Err(Error::MemberIdRequired(id)) = self.join(member).await else {
            panic!("a new dynamic member is asked to come again")
        };
        member.id = id;
        self.join(member)
    }

    pub(super) fn sync(&self, member: &Client, given: &[(&Client, &str)]) -> Reply<SyncResponse> {
        self.coordinator.sync(member.sync_request(given))
    }

    pub(super) fn heartbeat(&self, member: &Client) -> Reply<()> {
        self.coordinator.heartbeat(HeartbeatRequest {
            group: "g".into(),
            generation: member.generation,
            member_id: member.id.clone(),
            instance_id: member.instance.clone(),
        })
    }

    pub(super) fn leave(&self, id: &str, instance: Option<&str>) -> Reply<Vec<LeftMember>> {
        let member = LeavingMember {
            member_id: id.into(),
            instance_id: instance.map(Into::into),
            reason: None,
        };
        self.coordinator.leave(LeaveRequest { group: "g".into(), members: vec![member] })
    }

    /// A stable group of `clients`, the first of which leads. Client i has assignment "a<i>".
    pub(super) async fn stable(&self, clients: &mut [&mut Client]) {
        let mut joins = Vec::new();
        for client in clients.iter_mut() {
            if client.instance.is_none() {
                joins.push(self.join_new(client).await);
            } else {
                joins.push(self.join(client));
            }
        }
        for (client, join) in clients.iter_mut().zip(joins) {
            client.joined(join.await.unwrap());
        }
        assert!(clients[0].leads());
        self.assign_all(clients).await;
    }

    /// The leader (the first) assigns "a<i>" and everybody syncs.
    pub(super) async fn assign_all(&self, clients: &[&mut Client]) {
        let names: Vec<String> = (0..clients.len()).map(|i| format!("a{i}")).collect();
        let given: Vec<(&Client, &str)> =
            clients.iter().zip(&names).map(|(client, name)| (&**client, name.as_str())).collect();
        for (client, name) in clients.iter().zip(&names) {
            let synced = self.sync(client, &given).await.unwrap();
            assert_eq!(synced.assignment, name.as_bytes());
        }
    }

    pub(super) fn commit(&self, member: &Client, offset: i64) -> Reply<Vec<TopicResults>> {
        self.coordinator.commit(member.commit_request("orders", 0, offset))
    }

    /// The committed offset of orders-0; -1 for none.
    pub(super) async fn committed(&self) -> i64 {
        self.committed_at("orders", 0).await.offset
    }

    pub(super) async fn committed_at(&self, topic: &str, partition: i32) -> FetchedOffset {
        let topics = Some(vec![(topic.into(), vec![partition])]);
        let request = OffsetFetchRequest { group: "g".into(), topics };
        let mut topics = self.coordinator.fetch_offsets(request).await.unwrap();
        topics.remove(0).partitions.remove(0)
    }
}

/// A member of group "g" as its client knows it.
#[allow(clippy::struct_field_names, reason = "client_id is Kafka's name")]
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) id: Name,
    pub(super) instance: Option<Name>,
    pub(super) client_id: Name,
    pub(super) generation: i32,
    pub(super) leader: Option<Name>,
    pub(super) session_ms: i32,
    pub(super) rebalance_ms: i32,
    pub(super) protocol_type: Name,
    pub(super) protocols: Vec<(&'static str, Bytes)>,
    pub(super) version: i16,
}

impl Client {
    /// A dynamic consumer of "orders" with session and rebalance timeouts of 10 s and 60 s.
    pub(super) fn new(client_id: &str) -> Self {
        Self {
            id: "".into(),
            instance: None,
            client_id: client_id.into(),
            generation: -1,
            leader: None,
            session_ms: 10_000,
            rebalance_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range", subscription("orders"))],
            version: 9,
        }
    }

    /// A static one.
    pub(super) fn fixed(instance: &str) -> Self {
        Self { instance: Some(instance.into()), ..Self::new(instance) }
    }

    /// A consumer outside group management.
    pub(super) fn simple() -> Self {
        Self::new("simple")
    }

    pub(super) fn joined(&mut self, response: JoinResponse) -> &mut Self {
        self.id = response.member_id;
        self.generation = response.generation;
        self.leader = response.leader;
        self
    }

    pub(super) fn leads(&self) -> bool {
        self.leader.as_ref() == Some(&self.id)
    }

    pub(super) fn join_request(&self) -> JoinRequest {
        let protocols = self.protocols.iter();
        JoinRequest {
            group: "g".into(),
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: self.session_ms,
            rebalance_timeout_ms: self.rebalance_ms,
            protocol_type: self.protocol_type.clone(),
            protocols: protocols
                .map(|(name, metadata)| Protocol {
                    name: (*name).into(),
                    metadata: metadata.clone(),
                })
                .collect(),
            member_id_required: self.version >= 4,
            can_skip_assignment: self.version >= 9,
            reason: None,
        }
    }

    pub(super) fn sync_request(&self, given: &[(&Client, &str)]) -> SyncRequest {
        let assignment = |(client, text): &(&Client, &str)| {
            (client.id.clone(), Bytes::copy_from_slice(text.as_bytes()))
        };
        SyncRequest {
            group: "g".into(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            protocol_type: Some(self.protocol_type.clone()),
            protocol_name: None,
            assignments: given.iter().map(assignment).collect(),
        }
    }

    pub(super) fn commit_request(&self, topic: &str, partition: i32, offset: i64) -> CommitRequest {
        let at = CommitPartition { partition, offset, leader_epoch: 5, metadata: "m".into() };
        CommitRequest {
            group: "g".into(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            retention_ms: None,
            group_id_not_found: true,
            topics: vec![CommitTopic { name: topic.into(), partitions: vec![at] }],
        }
    }
}

/// A consumer's metadata, version 0: subscribed to one topic, without user data.
pub(super) fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.extend([0xff; 4]);
    bytes.into()
}

/// The answer if it is there without the passing of time.
pub(super) async fn now<T: Unpin>(reply: &mut Reply<T>) -> Option<Result<T, Error>> {
    for _ in 0..50 {
        if let Some(answer) = futures_util::FutureExt::now_or_never(&mut *reply) {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

impl Bench {
    /// The error of a describe, if it is one.
    pub(super) async fn describe_error(&self) -> Option<Error> {
        self.coordinator.describe(&"g".into()).await.err()
    }
}
