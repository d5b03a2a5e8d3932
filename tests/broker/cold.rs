//! A broker whose logs are in the bucket alone, and a bucket that answers when it is told to.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use crate::harness::Broker;
use crate::harness::bucket::{Bucket, Class};
use crate::requests::topic_name;
use crate::tiering::{
    EARLIEST_LOCAL, KIB, Log, MIB, TIERED, create_topic_with, eager, wait_until_tiered,
};

/// The size of a batch of the logs.
const BATCH: usize = 256 * KIB;
/// How many batches a log has in the bucket: three chunks of 1 MiB, or a few more.
pub const COLD: i64 = 12;
/// Enough for a cache that keeps a chunk for each partition.
const MEMORY: u64 = 256 * MIB;
/// A topic keeps nothing on this machine that the bucket has.
pub const NOT_HERE: [(&str, &str); 1] = [("local.retention.ms", "1")];
/// Three files of the write-ahead log: what was written before them is in none that is still open.
const FILLER: u64 = 12 * MIB;

/// The broker, its bucket, and the partitions of topic "a", each in an object of its own.
pub struct Cold {
    pub broker: Broker,
    pub bucket: Bucket,
    pub logs: Vec<Log>,
    /// The name of each partition's object.
    pub objects: Vec<String>,
}

impl Cold {
    pub fn start(partitions: i32) -> Self {
        let bucket = Bucket::start();
        let options =
            eager().set("memory.budget.bytes", MEMORY).set("log.retention.check.interval.ms", 200);
        let broker = Broker::start_with(bucket.options(options));
        let mut wire = broker.connect();
        create_topic_with(&mut wire, "a", partitions, &NOT_HERE);
        let mut cold = Self { broker, bucket, logs: Vec::new(), objects: Vec::new() };
        for partition in 0..partitions {
            let mut log = Log::new(&mut wire, "a", partition, BATCH);
            log.write(&mut wire, COLD);
            wait_until_tiered(&cold.broker, std::slice::from_ref(&log));
            let now = cold.bucket.objects(TIERED).into_iter().map(|(name, _)| name);
            let new: Vec<_> = now.filter(|name| !cold.objects.contains(name)).collect();
            assert_eq!(new.len(), 1, "partition {partition} is in one object");
            cold.logs.push(log);
            cold.objects.extend(new);
        }
        drop(wire);
        cold.push_out("filler");
        cold
    }

    /// Fills the write-ahead log's files with another topic and starts anew, so that the logs are
    /// neither there nor in memory.
    pub fn push_out(&mut self, filler: &str) {
        let mut wire = self.broker.connect();
        create_topic_with(&mut wire, filler, 1, &NOT_HERE);
        let mut filler = Log::new(&mut wire, filler, 0, BATCH);
        filler.write(&mut wire, (FILLER / filler.bytes as u64) as i64);
        assert_eq!(self.broker.stop(), Some(0));
        self.broker.restart();
        let mut wire = self.broker.connect();
        self.broker.wait_until("the logs are in the bucket alone", |_| {
            self.logs.iter().all(|log| log.offset(&mut wire, EARLIEST_LOCAL) == log.end)
        });
    }

    /// Requests that read tiered objects, so far.
    pub fn gets(&self) -> u64 {
        self.bucket.requests(Class::Read, TIERED)
    }

    /// Loads of chunks that brought them, so far.
    pub fn loads(&self) -> f64 {
        let loads = r#"tidegate_tier_cache_loads_total{cache="hot",outcome="ok"}"#;
        self.broker.metrics().get(loads)
    }

    /// Waits until so many loads of chunks have brought them.
    pub fn wait_for_loads(&self, count: f64) {
        self.broker.wait_until("the load is done", |_| self.loads() >= count);
    }
}

/// A Fetch of topic "a" from these partitions and offsets, in this order and without a session.
pub fn fetch(asked: &[(i32, i64)], min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let part = |(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name("a"))
        .with_partitions(asked.iter().map(part).collect());
    FetchRequest::default()
        .with_min_bytes(min_bytes)
        .with_max_wait_ms(max_wait_ms)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(if asked.is_empty() { Vec::new() } else { vec![topic] })
}

/// What an answer says of a partition.
pub fn of(response: &FetchResponse, partition: i32) -> &PartitionData {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.find(|answer| answer.partition_index == partition).expect("the partition is told of")
}

/// Whether an answer has records of a partition.
pub fn has_records(response: &FetchResponse, partition: i32) -> bool {
    of(response, partition).records.as_ref().is_some_and(|records| !records.is_empty())
}

/// The records of a partition; none is an error.
pub fn records(response: &FetchResponse, partition: i32) -> Bytes {
    let answer = of(response, partition);
    assert_eq!(answer.error_code, 0, "partition {partition}");
    answer.records.clone().unwrap_or_default()
}
