//! Topics that are written, brought into the bucket and read again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;

use crate::harness::{Broker, Options};
use crate::machine::Cpu;
use crate::replay::{Connection, Expect, Script};
use crate::wire::{self, Records};

/// The last version of Produce without flexible headers.
pub(crate) const PRODUCE_VERSION: i16 = 8;
/// A batch of the topics that are read at once.
pub(crate) const BATCH_BYTES: usize = 64 << 10;
/// What a plain consumer asks of a partition at once (`max.partition.fetch.bytes`).
const FETCH_BYTES: i32 = 1 << 20;
/// How long the bucket may take to get everything.
const PATIENCE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(20);

/// Where a broker and its bucket are.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    /// An empty one on the disk of the build.
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        Place { folder }
    }

    /// The directory that is the bucket.
    pub(crate) fn bucket(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }

    /// A broker's settings, without those of the bucket.
    pub(crate) fn options(&self) -> Options {
        let options = Options::new().data_dir(self.folder.path().join("data"));
        options.set("log.level", "warn")
    }

    /// The same with the bucket in a directory.
    pub(crate) fn options_with_files(&self) -> Options {
        self.options().set("object.url", format!("file://{}", self.bucket().display()))
    }

    /// A library that sets a broker's clock back by an hour.
    pub(crate) fn past(&self) -> PathBuf {
        let library = self.folder.path().join("past.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library);
        compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/tier/past.c"));
        assert!(compiler.status().unwrap().success(), "cc failed");
        library
    }
}

/// Creates a topic of which this machine keeps no more than it must.
pub(crate) fn create(broker: &Broker, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(topic)))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let created = broker.connect().call(5, &request);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
}

/// Keeps nothing on this machine that the bucket has.
pub(crate) const NOTHING_LOCAL: &[(&str, &str)] = &[("local.retention.ms", "1")];

/// A request of one batch for each partition.
pub(crate) fn produce_all(topic: &str, partitions: i32, records: &Records) -> ProduceRequest {
    let data = |index| {
        PartitionProduceData::default().with_index(index).with_records(Some(records.bytes.clone()))
    };
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data((0..partitions).map(data).collect());
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000);
    request.with_topic_data(vec![topic])
}

pub(crate) fn connect(broker: &Broker) -> Connection {
    Connection::open(broker.address().parse::<SocketAddr>().unwrap()).unwrap()
}

/// Writes `mib` into partition 0; returns the records of a batch and how many batches there are.
pub(crate) fn fill(broker: &Broker, topic: &str, mib: usize) -> (i64, usize) {
    let records = wire::batch_of(BATCH_BYTES).unwrap();
    let batches = (mib << 20) / BATCH_BYTES;
    let mut script = Script {
        frames: vec![wire::produce(topic, 0, &records)],
        depth: 5,
        expect: Expect::Appended { records: records.count },
        payload: BATCH_BYTES,
    };
    connect(broker).replay(&mut script, batches).unwrap();
    (records.count, batches)
}

/// Waits until the bucket has everything.
pub(crate) fn wait_until_tiered(broker: &Broker, bytes: u64) {
    let begun = Instant::now();
    loop {
        let metrics = broker.metrics();
        // There is no such metric before the first.
        let brought = metrics.find("tidegate_broker_tier_bytes_total{origin=\"flushed\"}");
        let brought = brought.unwrap_or(0.0);
        if brought >= bytes as f64 && metrics.get("tidegate_broker_tier_lag_bytes") == 0.0 {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the bucket has {brought} of {bytes} bytes");
        std::thread::sleep(POLL);
    }
}

/// A consumer that sends its next request when it has looked through the answer to the last.
pub(crate) struct Reader {
    connection: Connection,
    topic: String,
    partition: i32,
    pub(crate) offset: i64,
    /// Bytes of batches read.
    pub(crate) bytes: usize,
}

impl Reader {
    pub(crate) fn new(broker: &Broker, topic: &str, partition: i32) -> Reader {
        let connection = connect(broker);
        Reader { connection, topic: topic.to_owned(), partition, offset: 0, bytes: 0 }
    }

    /// Goes to the beginning of another partition.
    pub(crate) fn turn_to(&mut self, partition: i32) {
        (self.partition, self.offset) = (partition, 0);
    }

    /// One request; the last offsets of the batches that came.
    pub(crate) fn poll(&mut self) -> Vec<i64> {
        let (topic, partition, offset) = (&self.topic, self.partition, self.offset);
        let mut frame = wire::fetch_from(topic, partition, offset, FETCH_BYTES, 500);
        let body = self.connection.call(&mut frame).unwrap();
        let (error, records) = wire::fetched(body).unwrap();
        assert_eq!(error, 0, "fetch of {topic}-{partition} at {offset}");
        let mut lasts = Vec::new();
        let mut rest = records;
        while let Some((size, last)) = batch_at(rest) {
            let Some(behind) = rest.get(size..) else { break };
            lasts.push(last);
            self.bytes += size;
            rest = behind;
        }
        if let Some(last) = lasts.last() {
            self.offset = last + 1;
        }
        lasts
    }

    /// Reads up to an offset.
    pub(crate) fn read_to(&mut self, end: i64) {
        while self.offset < end {
            self.poll();
        }
    }
}

/// The size of the batch that begins here and its last offset.
fn batch_at(bytes: &[u8]) -> Option<(usize, i64)> {
    let base = i64::from_be_bytes(*bytes.first_chunk()?);
    let length = i32::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let delta = i32::from_be_bytes(*bytes.get(23..)?.first_chunk()?);
    Some((12 + usize::try_from(length).ok()?, base + i64::from(delta)))
}

/// The CPU time of a broker.
pub(crate) fn cpu(broker: &Broker) -> Cpu {
    Cpu::of(&broker.pid().to_string()).unwrap()
}
