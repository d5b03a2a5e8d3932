//! What an append and a join cost without disk and network: `cargo bench --bench rooms`.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]
#![allow(missing_docs, reason = "criterion's macros make public items without any")]

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

use tidegate::budget::{Budget, Pool};
use tidegate::clock::{Clock, Random};
use tidegate::group::types::{
    HeartbeatRequest, JoinRequest, LeaveRequest, LeavingMember, Protocol, SyncRequest,
};
use tidegate::group::{
    AppendRefused, GroupConfig, GroupCoordinator, GroupMetrics, LoadError, LoadedRecord, LogLost,
    OffsetsLog, Record, Topic, Topics,
};
use tidegate::metrics::Registry;
use tidegate::partition::{AppendRequest, Metrics, Partition, Partitions, Shared, record};
use tidegate::protocol::batch::{Batch, BatchBuilder};
use tidegate::protocol::types::{TopicId, TopicPartition};
use tidegate::wal::Stream;
use tidegate::wal::disk::{Disk, DiskFile, LockGuard, Space};
use tidegate::wal::local::{self, Env, Options, SyncMode};

/// A disk that forgets what is written: the benches measure our own work.
#[derive(Debug)]
struct NullDisk;

#[derive(Debug)]
struct NullFile(AtomicU64);

#[derive(Debug)]
struct NoLock;

impl LockGuard for NoLock {}

impl Disk for NullDisk {
    fn lock(&self) -> io::Result<Box<dyn LockGuard>> {
        Ok(Box::new(NoLock))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(NullFile(AtomicU64::new(0))))
    }

    fn open(&self, _name: &str, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Ok(Space { free: 1 << 50, total: 1 << 50 })
    }
}

impl DiskFile for NullFile {
    fn read(&self, _into: &mut Vec<u8>, _len: usize, _position: u64) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, slices: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let written: usize = slices.iter().map(|slice| slice.len()).sum();
        self.0.fetch_max(position + written as u64, Ordering::Relaxed);
        Ok(())
    }

    fn allocate(&self, _from: u64, until: u64) -> io::Result<()> {
        self.0.fetch_max(until, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A partition over a log that forgets.
fn partition(runtime: &Runtime) -> (Arc<Partition>, Stream) {
    let _entered = runtime.enter();
    let env = Env {
        clock: Clock::system(),
        random: Random::seeded(1),
        budget: Budget::new(256 << 20),
        metrics: tidegate::wal::Metrics::new(&Registry::new()),
    };
    let mut options = Options::new([1; 16]);
    options.sync = SyncMode::Interval(std::time::Duration::from_secs(1));
    let disk: Arc<dyn Disk> = Arc::new(NullDisk);
    let stream = local::open(&disk, &options, &env).unwrap().stream;
    let metrics = Arc::new(Metrics::new(&Registry::new()));
    let producers = env.budget.pool(Pool::Producers).clone();
    let shared =
        Arc::new(Shared { stream: stream.clone(), metrics, producers, objects: Arc::default() });
    let of = TopicPartition { topic: TopicId::ZERO, partition: 0 };
    (Partitions::new(shared).get_or_create(of, 1), stream)
}

fn batch(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new();
    let value = vec![7; bytes.min(1024)];
    for _ in 0..(bytes / 1024).max(1) {
        builder.append(1, None, Some(&value), &[]);
    }
    Batch::parse_one(builder.build()).unwrap()
}

/// Admission, sequence check, offsets, reservation, copy and checksum, until it is durable.
fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let (partition, stream) = partition(&runtime);
    let mut group = criterion.benchmark_group("append");
    for bytes in [100, 16 << 10, 1 << 20] {
        let batch = batch(bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                let request = AppendRequest::internal(&batch, 1);
                let needed = record::data_len(batch.bytes().len());
                runtime.block_on(async {
                    let mut admission = stream.admit(needed).await.unwrap();
                    let appended = loop {
                        if let Ok(appended) = partition.append(&mut admission, &request) {
                            break appended;
                        }
                        let class = tidegate::wal::Class::Internal;
                        stream.wait_for_room(class, needed).await.unwrap();
                    };
                    stream.wait_durable(appended.lsn).await.unwrap();
                    black_box(appended)
                })
            });
        });
    }
    group.finish();
}

/// `__consumer_offsets` that forgets, durable at once.
#[derive(Debug)]
struct NoOffsets;

impl OffsetsLog for NoOffsets {
    fn partitions(&self) -> Option<i32> {
        Some(1)
    }

    fn append(
        &self,
        _partition: i32,
        _records: Vec<Record>,
    ) -> BoxFuture<'_, Result<BoxFuture<'static, Result<(), LogLost>>, AppendRefused>> {
        let durable: BoxFuture<'static, Result<(), LogLost>> = std::future::ready(Ok(())).boxed();
        std::future::ready(Ok(durable)).boxed()
    }

    fn load<'a>(
        &'a self,
        _partition: i32,
        _sink: &'a mut (dyn FnMut(LoadedRecord) + Send),
    ) -> BoxFuture<'a, Result<i64, LoadError>> {
        std::future::ready(Ok(0)).boxed()
    }
}

#[derive(Debug)]
struct NoTopics;

impl Topics for NoTopics {
    fn topic(&self, _name: &str) -> Option<Topic> {
        None
    }
}

fn join_request(group: &str) -> JoinRequest {
    JoinRequest {
        group: group.into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "bench".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"s") }],
        member_id_required: false,
        can_skip_assignment: false,
        reason: None,
    }
}

/// One member's whole life in a group: join, sync, leave.
async fn life(groups: &GroupCoordinator) {
    let joined = groups.join(join_request("g")).await.unwrap();
    let sync = SyncRequest {
        group: "g".into(),
        generation: joined.generation,
        member_id: Arc::clone(&joined.member_id),
        instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(Arc::clone(&joined.member_id), Bytes::from_static(b"a"))],
    };
    black_box(groups.sync(sync).await.unwrap());
    let member = LeavingMember { member_id: joined.member_id, instance_id: None, reason: None };
    groups.leave(LeaveRequest { group: "g".into(), members: vec![member] }).await.unwrap();
}

/// A coordinator that has loaded its partition.
fn coordinator(runtime: &Runtime, initial_rebalance_delay_ms: i32) -> GroupCoordinator {
    let config = GroupConfig { initial_rebalance_delay_ms, ..GroupConfig::default() };
    let groups = GroupCoordinator::new(
        config,
        Arc::new(NoOffsets),
        Arc::new(NoTopics),
        GroupMetrics::new(&Registry::new()),
        Budget::new(1 << 30).pool(Pool::Groups).clone(),
        Clock::system(),
        Random::seeded(1),
    );
    // The first request finds the group's partition not loaded yet.
    runtime.block_on(async { while groups.join(join_request("first")).await.is_err() {} });
    groups
}

fn group_join(criterion: &mut Criterion) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let groups = coordinator(&runtime, 0);
    criterion.bench_function("group join, sync, leave", |bencher| {
        bencher.iter(|| runtime.block_on(life(&groups)));
    });
}

/// Members join a group that waits for more of them, until the last one is taken in. Four times the
/// members should take four times as long.
fn group_of_many(criterion: &mut Criterion) {
    let runtime = runtime();
    let _entered = runtime.enter();
    // Long enough for the joins, short enough that the groups of former rounds do not pile up.
    let groups = coordinator(&runtime, 200);
    let round = AtomicU64::new(0);
    let mut bench = criterion.benchmark_group("group of many joins");
    for members in [1_000_u64, 4_000] {
        bench.throughput(Throughput::Elements(members));
        bench.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                let group = format!("many-{}", round.fetch_add(1, Ordering::Relaxed));
                let joins: Vec<_> =
                    (0..members).map(|_| groups.join(join_request(&group))).collect();
                // It is handled after them.
                let last = HeartbeatRequest {
                    group: group.as_str().into(),
                    generation: 0,
                    member_id: "nobody".into(),
                    instance_id: None,
                };
                runtime.block_on(groups.heartbeat(last)).unwrap_err();
                joins
            });
        });
    }
    bench.finish();
}

criterion_group!(benches, append, group_join, group_of_many);
criterion_main!(benches);
