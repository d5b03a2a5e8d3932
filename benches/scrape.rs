//! What metrics cost: gathering them of a broker with 10,000 partitions, and counting at a
//! partition: `cargo bench --bench scrape`.
//!
//! A scrape is one thread's work, so its time is its CPU time: over the 15 seconds between two
//! scrapes of a Prometheus with its defaults, 50 ms are 0.33 % of a core.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]
#![allow(missing_docs, reason = "criterion's macros make public items without any")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use tidegate::broker::{Broker, Environment, NewTopic, observe};
use tidegate::budget::Budget;
use tidegate::clock::{Clock, Random};
use tidegate::config::Sources;
use tidegate::group::types::{CommitPartition, CommitRequest, CommitTopic};
use tidegate::metrics::Registry;
use tidegate::protocol::types::TopicPartition;
use tidegate::shutdown::Shutdown;

const TOPICS: i32 = 100;
const PARTITIONS: i32 = 100;
const BUDGET: usize = 1 << 30;

/// A broker of this process.
struct Bench {
    runtime: Runtime,
    broker: Arc<Broker>,
    registry: Registry,
    _lock: Box<dyn tidegate::wal::disk::LockGuard>,
    _folder: TempDir,
}

impl Bench {
    /// A broker with [`TOPICS`] topics of [`PARTITIONS`] partitions each and a group that has
    /// committed an offset of every one.
    fn start(settings: &[(&str, &str)]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (registry, clock) = (Registry::new(), Clock::system());
        let fixed = [("object.url", "memory://"), ("listeners", "PLAINTEXT://127.0.0.1:0")];
        let flags = [&fixed[..], settings].concat();
        let environment = Environment {
            config: Arc::new(Sources::of_flags(&flags).load().unwrap()),
            clock,
            random: Random::system(),
            budget: Budget::new(BUDGET),
            registry: registry.clone(),
            shutdown: Shutdown::new(),
            data_dir: folder.path().to_owned(),
            take_over: false,
            waiting: Box::new(|_| {}),
        };
        let (broker, lock) = runtime.block_on(async {
            let (broker, lock) = Broker::start(environment).await.unwrap();
            fill(&broker).await;
            observe::register(&registry, &broker, Box::new(|| 100));
            (broker, lock)
        });
        Self { runtime, broker, registry, _lock: lock, _folder: folder }
    }
}

async fn fill(broker: &Broker) {
    let topic = |number| NewTopic {
        partitions: PARTITIONS,
        ..broker.default_topic(&format!("a-topic-of-a-usual-length-{number:03}"))
    };
    for created in broker.create_topics((0..TOPICS).map(topic).collect()).await {
        created.unwrap();
    }
    broker.ensure_offsets_topic().await.unwrap();
    broker.groups().load_all().await;
    let commit =
        |partition| CommitPartition { partition, offset: 0, leader_epoch: -1, metadata: "".into() };
    let names: Vec<Arc<str>> =
        broker.image().topics().map(|topic| Arc::clone(&topic.name)).collect();
    for name in names.into_iter().filter(|name| name.starts_with("a-topic")) {
        let topic = CommitTopic { name, partitions: (0..PARTITIONS).map(commit).collect() };
        let request = CommitRequest {
            group: "a-group".into(),
            generation: -1,
            member_id: "".into(),
            instance_id: None,
            retention_ms: None,
            group_id_not_found: false,
            topics: vec![topic],
        };
        broker.groups().commit(request).await.unwrap();
    }
}

fn scrapes(criterion: &mut Criterion) {
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("defaults", &[]),
        ("nothing by topic or group", &[("metrics.topics.max", "0"), ("metrics.groups.max", "0")]),
        (
            "every partition",
            &[("metrics.partitions.max", "10000"), ("metrics.group.partitions.max", "10000")],
        ),
        ("every partition by other programs' names", &[("metrics.compat", "kafka-exporter,jmx")]),
    ];
    let mut group = criterion.benchmark_group("scrape of 10,000 partitions");
    group.sample_size(20);
    for (name, settings) in cases {
        let bench = Bench::start(settings);
        let _inside = bench.runtime.enter();
        group.bench_function(name, |bencher| bencher.iter(|| bench.registry.encode()));
        bench.runtime.block_on(bench.broker.stop());
    }
    group.finish();
}

fn counting(criterion: &mut Criterion) {
    let bench = Bench::start(&[]);
    let topic = bench.broker.image().topic("a-topic-of-a-usual-length-000").unwrap().id;
    let partition = bench.broker.partition(TopicPartition { topic, partition: 0 }).unwrap();
    let mut group = criterion.benchmark_group("counting at a partition");
    group.bench_function("a Produce", |bencher| bencher.iter(|| partition.note_produce(true)));
    group.bench_function("a Fetch", |bencher| bencher.iter(|| partition.note_fetch(1_000)));
    group.finish();
    bench.runtime.block_on(bench.broker.stop());
}

criterion_group!(benches, scrapes, counting);
criterion_main!(benches);
