//! What the test of a tool works with: a broker of its own, the tools, and a plain connection that
//! sees what they did.

use std::path::PathBuf;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tidegate::protocol::batch::BatchBuilder;

use super::jvm::{Ended, Jvm};
use crate::harness::{Broker, Options, Wire};

/// The question for the first offset of a log.
const EARLIEST: i64 = -2;

/// A broker and the tools.
pub struct Bench<'a> {
    jvm: &'a mut Jvm,
    /// The broker, which groups do not have to wait for and which deletes nothing by itself.
    pub broker: Broker,
    /// A connection to it.
    pub wire: Wire,
    scratch: TempDir,
}

/// Text for a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name for a message.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

impl<'a> Bench<'a> {
    /// Starts a broker.
    pub fn new(jvm: &'a mut Jvm) -> Self {
        let options = Options::new()
            .set("group.initial.rebalance.delay.ms", 0)
            .set("offsets.topic.num.partitions", 4)
            .set("log.retention.check.interval.ms", 86_400_000);
        let broker = Broker::start_with(options);
        let wire = broker.connect();
        Self { jvm, broker, wire, scratch: tempfile::tempdir().unwrap() }
    }

    /// Runs a tool: a class of `org.apache.kafka.tools`, or a whole name.
    pub fn ended(&mut self, tool: &str, args: &[&str], input: &str) -> Ended {
        let class = match tool {
            whole if whole.starts_with("kafka.") => whole.to_owned(),
            part => format!("org.apache.kafka.tools.{part}"),
        };
        let address = self.broker.address();
        let args: Vec<&str> =
            ["--bootstrap-server", &address].iter().chain(args).copied().collect();
        self.jvm.run(&class, &args, input)
    }

    /// Runs `ConsoleProducer` with the timeout of other producers: its own is 1.5 s.
    pub fn console_produce(&mut self, args: &[&str], input: &str) -> Ended {
        self.ended("ConsoleProducer", &[args, &["--request-timeout-ms", "30000"]].concat(), input)
    }

    /// Runs a tool that must end well; what it wrote.
    pub fn run(&mut self, tool: &str, args: &[&str]) -> String {
        let ended = self.ended(tool, args, "");
        assert_eq!(ended.code, 0, "{tool} {args:?}\n{}\n{}", ended.output, ended.errors);
        ended.output
    }

    /// Runs a tool that must refuse; what it wrote, standard error last.
    pub fn refused(&mut self, tool: &str, args: &[&str]) -> String {
        let ended = self.ended(tool, args, "");
        assert_ne!(ended.code, 0, "{tool} {args:?}\n{}\n{}", ended.output, ended.errors);
        ended.output + &ended.errors
    }

    /// A file with this content.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.scratch.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Creates a topic.
    pub fn create(&mut self, topic: &str, partitions: i32) {
        let asked = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request =
            CreateTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
        assert_eq!(self.wire.call(7, &request).topics[0].error_code, 0);
    }

    /// How many partitions a topic has; none that does not exist.
    pub fn partition_count(&mut self, topic: &str) -> Option<usize> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        let found = self.wire.call(12, &request).topics.remove(0);
        (found.error_code == 0).then_some(found.partitions.len())
    }

    /// Appends a record for each timestamp, with its place in the list as the value; returns the
    /// batch's size in bytes.
    pub fn write(&mut self, topic: &str, partition: i32, timestamps: &[i64]) -> usize {
        let mut batch = BatchBuilder::new();
        for (at, timestamp) in timestamps.iter().enumerate() {
            batch.append(*timestamp, None, Some(at.to_string().as_bytes()), &[]);
        }
        let records: Bytes = batch.build();
        let size = records.len();
        let data =
            PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let response = self.wire.call(9, &request);
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        size
    }

    /// The first offset of a partition's log.
    pub fn log_start(&mut self, topic: &str, partition: i32) -> i64 {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(EARLIEST);
        let topic =
            ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        self.wire.call(7, &request).topics[0].partitions[0].offset
    }
}

/// The first line that has `part` in it, in words.
pub fn words<'t>(output: &'t str, part: &str) -> Vec<&'t str> {
    let line = output.lines().find(|line| line.contains(part));
    line.unwrap_or_else(|| panic!("no line with {part:?}:\n{output}")).split_whitespace().collect()
}
