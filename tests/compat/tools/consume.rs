//! `tidegate consume` beside kcat on Apache Kafka: both print the same records, of every codec and
//! of transactions, whichever of them are to be shown.

use std::process::Command;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest, ProducerId, TransactionalId,
};
use serde_json::{Value, json};
use tidegate::protocol::batch::{BatchBuilder, ProducerRef};
use tidegate::protocol::compression::Compression;
use tidegate::protocol::record::Header;

use super::bench::{text, topic_name};
use crate::harness::cli::Cli;
use crate::harness::kafka::Kafka;
use crate::harness::{Wire, until};

/// A producer's id, and what the coordinator gave it.
struct Producer<'a> {
    wire: &'a mut Wire,
    id: TransactionalId,
    number: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl<'a> Producer<'a> {
    fn begin(wire: &'a mut Wire) -> Self {
        let id = TransactionalId(text("of-consume"));
        let find = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![id.0.clone()]);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(60_000);
        let answer = until("the coordinator of transactions is ready", || {
            let found = wire.call(4, &find).coordinators[0].error_code == 0;
            let answer = found.then(|| wire.call(3, &request))?;
            (answer.error_code == 0).then_some(answer)
        });
        let (number, epoch) = (answer.producer_id, answer.producer_epoch);
        Self { wire, id, number, epoch, sequence: 0 }
    }

    /// A transaction with a record of this value, and one of a key and nothing.
    fn send(&mut self, topic: &str, value: &str, codec: Compression) {
        let partitions = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(self.number)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![partitions]);
        // The transaction before it may still be ending.
        until("the partition is part of the transaction", || {
            let answer = self.wire.call(3, &add);
            let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
            (results[0].partition_error_code == 0).then_some(())
        });
        let producer =
            ProducerRef { id: self.number.0, epoch: self.epoch, sequence: self.sequence };
        let mut batch = BatchBuilder::new().producer(producer).transactional();
        batch.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
        batch.append(1_700_000_000_001, Some(value.as_bytes()), None, &[]);
        self.sequence += 2;
        produce(self.wire, topic, batch, codec, Some(self.id.clone()));
    }

    fn end(&mut self, committed: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.number)
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        until("the transaction ends", || {
            (self.wire.call(3, &request).error_code == 0).then_some(())
        });
    }
}

fn produce(
    wire: &mut Wire,
    topic: &str,
    batch: BatchBuilder,
    codec: Compression,
    id: Option<TransactionalId>,
) {
    let batch = batch.build_compressed(codec);
    let data = PartitionProduceData::default().with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(id)
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let response = wire.call(9, &request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Plain records with keys, headers and nulls, between transactions of both ends.
fn fill(wire: &mut Wire, topic: &str, codec: Compression) {
    let header = |key: &'static [u8], value| Header { key, value };
    let headers = [header(b"h", Some(&b"1"[..])), header(b"h", Some(b"")), header(b"g", None)];
    let mut batch = BatchBuilder::new();
    batch.append(1_700_000_000_000, Some(b"key"), Some("v\u{e4}lue".as_bytes()), &headers);
    batch.append(1_700_000_000_500, None, Some(&[b'x'; 3_000]), &[]);
    batch.append(1_700_000_000_001, Some(b""), Some(b""), &[]);
    produce(wire, topic, batch, codec, None);
    let mut producer = Producer::begin(wire);
    for (value, committed) in [("first", true), ("second", false), ("third", false), ("4th", true)]
    {
        producer.send(topic, value, codec);
        producer.send(topic, "of the same", codec);
        producer.end(committed);
    }
    // One that stays open, behind all that is stable.
    producer.send(topic, "open", codec);
}

/// What kcat prints as JSON, in the fields of ours.
fn kcats(address: &str, topic: &str, isolation: &str) -> Vec<Value> {
    let isolation = format!("isolation.level={isolation}");
    let args = ["-b", address, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"];
    let output = Command::new("kcat").args(args).args(["-X", &isolation]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let of_headers = |told: &Value| -> Vec<Value> {
        let flat = told.as_array().cloned().unwrap_or_default();
        flat.chunks(2).map(|pair| json!({"key": pair[0], "value": pair[1]})).collect()
    };
    let row = |line: &str| {
        let told: Value = serde_json::from_str(line).unwrap();
        json!({"topic": told["topic"], "partition": told["partition"], "offset": told["offset"],
               "timestamp": told["ts"], "key": told["key"], "value": told["payload"],
               "headers": of_headers(&told["headers"])})
    };
    text.lines().map(row).collect()
}

fn ours(cli: &Cli, topic: &str, isolation: &str) -> Vec<Value> {
    let ran = cli.done(&["consume", topic, "--format", "json", "--isolation", isolation]);
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_are_those_that_kcat_reads_from_apache_kafka() {
    let kafka = Kafka::start(&[("offsets.topic.num.partitions", "4")]);
    let (address, cli) = (kafka.address(), Cli::new(&kafka.address()));
    let mut wire = kafka.connect(1);
    for codec in Compression::ALL {
        let topic = format!("of-{}", codec.name());
        cli.create_topic(&topic, &["-p", "1", "-c", "retention.ms=-1"]);
        fill(&mut wire, &topic, codec);
        let all = ours(&cli, &topic, "read_uncommitted");
        assert_eq!(all.len(), 3 + 4 * 4 + 2, "{codec:?}");
        assert_eq!(all, kcats(&address, &topic, "read_uncommitted"), "{codec:?}");
        let committed = ours(&cli, &topic, "read_committed");
        assert_eq!(committed.len(), 3 + 2 * 4, "{codec:?}");
        assert_eq!(committed, kcats(&address, &topic, "read_committed"), "{codec:?}");
        let last = cli.done(&["consume", &topic, "--from", "@1700000000500", "-n", "1"]);
        assert_eq!(last.out.trim_end().len(), 3_000);
        let group = ["consume", &topic, "--isolation", "read_committed", "--group", "readers"];
        let of_group = cli.done(&[&group[..], &["--format", "json"]].concat());
        let of_group: Vec<Value> =
            of_group.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(of_group, committed, "{codec:?}");
        assert_eq!(cli.done(&group).out, "");
        // The next topic's transactions come from the same producer, which then ends this one.
    }
}
