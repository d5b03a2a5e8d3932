//! Configs as clients set and see them, and what each of them does from the next request on. The
//! topic configs without effect are listed in `src/config/topic.rs`; every other has its test here,
//! or in `compaction.rs`.

use std::time::SystemTime;

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    ListOffsetsRequest, alter_configs_request as full,
};
use tidegate::protocol::batch::{Batch, BatchBuilder, ProducerRef, TimestampType};
use tidegate::protocol::compression::Compression;
use tidegate::protocol::record::Header;

use crate::harness::{Broker, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, create_topic, fetched, noise, produce, produce_request, produced,
    producer_id, record, text, topic_name,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// `DescribeConfigsResponse.ConfigSource`.
const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 2;
const FROM_ALL_BROKERS: i8 = 3;
const FROM_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;

const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const INVALID_RECORD: i16 = 87;

/// Changes one config of a resource; the error code.
fn alter(wire: &mut Wire, kind: i8, name: &str, key: &str, value: Option<&str>) -> i16 {
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(if value.is_some() { SET } else { DELETE })
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    wire.call(1, &request).responses[0].error_code
}

/// Sets a config of a topic, which must be taken.
pub fn set(wire: &mut Wire, topic: &str, key: &str, value: &str) {
    assert_eq!(alter(wire, TOPIC, topic, key, Some(value)), NONE, "{key}={value}");
}

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    let resource = DescribeConfigsResource::default().with_resource_type(kind);
    resource.with_resource_name(text(name)).with_configuration_keys(None)
}

/// One config of a resource: value and source.
fn shown(wire: &mut Wire, kind: i8, name: &str, key: &str) -> (Option<String>, i8) {
    let asked = resource(kind, name).with_configuration_keys(Some(vec![text(key)]));
    let response = wire.call(4, &DescribeConfigsRequest::default().with_resources(vec![asked]));
    let [config] = response.results[0].configs.as_slice() else { panic!("{response:?}") };
    let DescribeConfigsResourceResult { value, config_source, .. } = config;
    (value.as_ref().map(ToString::to_string), *config_source)
}

fn is(value: &str, source: i8) -> (Option<String>, i8) {
    (Some(value.to_owned()), source)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

/// The first batch of partition 0 from `offset` on.
fn read(wire: &mut Wire, topic: &str, offset: i64) -> Batch {
    let records = fetched(wire.call(FETCH, &Fetch::at(offset).request(topic)));
    let batch = Batch::parse_one(records).unwrap();
    batch.verify_crc().unwrap();
    batch
}

/// The earliest offset of partition 0.
fn log_start(wire: &mut Wire, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_current_leader_epoch(-1)
        .with_timestamp(-2);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    wire.call(7, &request).topics[0].partitions[0].offset
}

/// Three records that compress well, with null and duplicate parts.
fn three(codec: Compression, producer: ProducerRef) -> Bytes {
    let mut builder = BatchBuilder::new().producer(producer);
    let twice = [
        Header { key: b"h", value: Some(b"1") },
        Header { key: b"h", value: None },
        Header { key: &[0xff], value: Some(b"2") },
    ];
    let now = now_ms();
    builder.append(now, Some(b"key"), Some(&[b'v'; 4_000]), &twice);
    builder.append(now + 7, None, None, &[]);
    builder.append(now + 3, Some(b""), Some(b"last"), &[]);
    builder.build_compressed(codec)
}

#[test]
fn max_message_bytes_acts_from_the_next_request_on() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    assert_eq!(produce(&mut wire, "a", record(5_000)), (NONE, 0));
    set(&mut wire, "a", "max.message.bytes", "1000");
    assert_eq!(produce(&mut wire, "a", record(5_000)).0, MESSAGE_TOO_LARGE);
    assert_eq!(produce(&mut wire, "a", record(500)), (NONE, 1));
    assert_eq!(alter(&mut wire, TOPIC, "a", "max.message.bytes", None), NONE);
    assert_eq!(produce(&mut wire, "a", record(5_000)), (NONE, 2));
}

#[test]
fn message_timestamp_type_stamps_the_header_and_the_answer() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    set(&mut wire, "a", "message.timestamp.type", "LogAppendTime");
    let before = now_ms();
    let response = wire
        .call(PRODUCE, &produce_request("a", 0, -1, three(Compression::Gzip, ProducerRef::NONE)));
    let stamped = produced(&response).log_append_time_ms;
    assert!((before..=now_ms()).contains(&stamped), "{stamped}");
    let batch = read(&mut wire, "a", 0);
    assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.header().max_timestamp, stamped);
    set(&mut wire, "a", "message.timestamp.type", "CreateTime");
    let response = wire.call(PRODUCE, &produce_request("a", 0, -1, record(10)));
    assert_eq!(produced(&response).log_append_time_ms, -1);
    assert_eq!(read(&mut wire, "a", 3).header().timestamp_type(), TimestampType::CreateTime);
}

/// A batch of one record of this time.
fn at(timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.append(timestamp, None, Some(b"x"), &[]);
    builder.build()
}

#[test]
fn message_timestamp_before_and_after_max_ms_bound_the_records_times() {
    const HOUR: i64 = 3_600_000;
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let (past, future) = (now_ms() - 2 * HOUR, now_ms() + 2 * HOUR);
    assert_eq!(produce(&mut wire, "a", at(past)).0, NONE);
    assert_eq!(produce(&mut wire, "a", at(future)).0, INVALID_TIMESTAMP);
    set(&mut wire, "a", "message.timestamp.before.max.ms", "3600000");
    set(&mut wire, "a", "message.timestamp.after.max.ms", "36000000");
    assert_eq!(produce(&mut wire, "a", at(past)).0, INVALID_TIMESTAMP);
    assert_eq!(produce(&mut wire, "a", at(future)).0, NONE);
}

#[test]
fn compression_type_recompresses_every_codec_and_keeps_the_records_bytes() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let (mut offset, mut producer) = (0, producer_id(&mut wire));
    for (target, name) in [
        (Compression::None, "uncompressed"),
        (Compression::Gzip, "gzip"),
        (Compression::Snappy, "snappy"),
        (Compression::Lz4, "lz4"),
        (Compression::Zstd, "zstd"),
    ] {
        set(&mut wire, "a", "compression.type", name);
        for codec in Compression::ALL {
            let sent = three(codec, producer);
            assert_eq!(
                produce(&mut wire, "a", sent.clone()),
                (NONE, offset),
                "{codec:?} to {name}"
            );
            // A duplicate is known by its producer, whatever became of its bytes.
            assert_eq!(
                produce(&mut wire, "a", sent.clone()),
                (NONE, offset),
                "{codec:?} to {name}"
            );
            let (sent, kept) = (Batch::parse_one(sent).unwrap(), read(&mut wire, "a", offset));
            assert_eq!(kept.header().compression().unwrap(), target);
            let (theirs, ours) = (sent.payload(1 << 20).unwrap(), kept.payload(1 << 20).unwrap());
            assert_eq!(theirs, ours, "{codec:?} to {name}");
            assert_eq!(kept.header().max_timestamp, sent.header().max_timestamp);
            assert_eq!(kept.header().producer_id, sent.header().producer_id);
            if codec == target {
                assert_eq!(kept.bytes()[12 + 9..], sent.bytes()[12 + 9..], "what is right stays");
            }
            (offset, producer.sequence) = (offset + 3, producer.sequence + 3);
        }
    }
    set(&mut wire, "a", "compression.type", "producer");
    assert_eq!(produce(&mut wire, "a", three(Compression::Lz4, producer)), (NONE, offset));
    assert_eq!(read(&mut wire, "a", offset).header().compression().unwrap(), Compression::Lz4);
}

#[test]
fn compression_levels_change_the_size() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let mut builder = BatchBuilder::new();
    let words: Vec<u8> =
        noise(7, 20_000).iter().flat_map(|byte| [b'a' + byte % 5, b'a' + byte / 64]).collect();
    builder.append(now_ms(), None, Some(&words), &[]);
    let sent = builder.build();
    for (name, low, high) in [("gzip", "1", "9"), ("zstd", "-50", "19")] {
        set(&mut wire, "a", "compression.type", name);
        let key = format!("compression.{name}.level");
        let mut size = |level: &str| {
            set(&mut wire, "a", &key, level);
            let (code, offset) = produce(&mut wire, "a", sent.clone());
            assert_eq!(code, NONE);
            read(&mut wire, "a", offset).bytes().len()
        };
        let (low, high) = (size(low), size(high));
        assert!(high < low, "{name}: {high} bytes at the high level, {low} at the low one");
    }
}

#[test]
fn a_batch_that_grows_above_max_message_bytes_is_refused_and_a_corrupt_one_too() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    set(&mut wire, "a", "compression.type", "uncompressed");
    set(&mut wire, "a", "max.message.bytes", "2000");
    let sent = three(Compression::Zstd, ProducerRef::NONE);
    assert!(sent.len() < 2_000);
    assert_eq!(produce(&mut wire, "a", sent).0, MESSAGE_TOO_LARGE);
    // The header counts one record more than there are.
    let mut builder = BatchBuilder::new();
    builder.append(now_ms(), None, Some(b"x"), &[]);
    let mut bytes = builder.build_compressed(Compression::Gzip).to_vec();
    (bytes[26], bytes[60]) = (1, 2);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    assert_eq!(produce(&mut wire, "a", bytes.into()).0, INVALID_RECORD);
    assert_eq!(produce(&mut wire, "a", record(100)), (NONE, 0));
}

#[test]
fn cleanup_policy_compact_needs_a_key_in_every_record() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    set(&mut wire, "a", "cleanup.policy", "compact");
    for codec in Compression::ALL {
        let keyless = three(codec, ProducerRef::NONE);
        assert_eq!(produce(&mut wire, "a", keyless).0, INVALID_RECORD, "{codec:?}");
    }
    set(&mut wire, "a", "cleanup.policy", "delete");
    let keyless = three(Compression::Zstd, ProducerRef::NONE);
    assert_eq!(produce(&mut wire, "a", keyless), (NONE, 0));
}

fn retaining() -> Broker {
    Broker::start_with(Options::new().set("log.retention.check.interval.ms", 20))
}

/// Ten batches of 100 kB, an hour old.
fn fill(wire: &mut Wire, topic: &str) {
    create_topic(wire, topic, 1);
    let hour_ago = now_ms() - 3_600_000;
    for seed in 0..10 {
        let mut builder = BatchBuilder::new();
        builder.append(hour_ago, Some(b"key"), Some(&noise(seed, 100_000)), &[]);
        assert_eq!(produce(wire, topic, builder.build()).0, NONE);
    }
}

#[test]
fn retention_ms_and_bytes_move_the_log_start_and_cleanup_policy_decides_whether() {
    let broker = retaining();
    let mut wire = broker.connect();
    for topic in ["time", "size", "kept"] {
        fill(&mut wire, topic);
    }
    set(&mut wire, "kept", "cleanup.policy", "compact");
    set(&mut wire, "kept", "retention.ms", "60000");
    set(&mut wire, "size", "retention.bytes", "500000");
    broker.wait_until("retention by size", |broker| {
        (5..10).contains(&log_start(&mut broker.connect(), "size"))
    });
    set(&mut wire, "time", "retention.ms", "60000");
    broker.wait_until("retention by time", |broker| log_start(&mut broker.connect(), "time") == 10);
    assert_eq!(log_start(&mut wire, "kept"), 0);
    set(&mut wire, "kept", "cleanup.policy", "compact,delete");
    broker.wait_until("retention of a compacted topic", |broker| {
        log_start(&mut broker.connect(), "kept") == 10
    });
}

#[test]
fn a_brokers_configs_change_at_run_time_and_survive_a_restart() {
    let mut broker = Broker::start_with(Options::new().set("message.max.bytes", "9000"));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let key = "message.max.bytes";
    let of_topic = |wire: &mut Wire| shown(wire, TOPIC, "a", "max.message.bytes");
    assert_eq!(of_topic(&mut wire), is("9000", FROM_FILE));
    assert_eq!(alter(&mut wire, BROKER, "", key, Some("3000")), NONE);
    assert_eq!(of_topic(&mut wire), is("3000", FROM_ALL_BROKERS));
    assert_eq!(produce(&mut wire, "a", record(5_000)).0, MESSAGE_TOO_LARGE);
    assert_eq!(alter(&mut wire, BROKER, "1", key, Some("7000")), NONE);
    assert_eq!(produce(&mut wire, "a", record(5_000)), (NONE, 0));

    assert_eq!(broker.stop(), Some(0));
    broker.restart();
    let mut wire = broker.connect();
    assert_eq!(of_topic(&mut wire), is("7000", FROM_BROKER));
    assert_eq!(shown(&mut wire, BROKER, "1", key), is("7000", FROM_BROKER));
    assert_eq!(shown(&mut wire, BROKER, "", key), is("3000", FROM_ALL_BROKERS));
    assert_eq!(alter(&mut wire, BROKER, "1", key, None), NONE);
    assert_eq!(alter(&mut wire, BROKER, "", key, None), NONE);
    broker.kill();
    broker.restart();
    assert_eq!(of_topic(&mut broker.connect()), is("9000", FROM_FILE));
}

#[test]
fn gotcha_14_what_cannot_change_is_refused_and_the_rest_of_the_request_is_not() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    for key in ["num.partitions", "wal.sync", "num.io.threads", "no.such.key"] {
        assert_eq!(alter(&mut wire, BROKER, "1", key, Some("3")), INVALID_REQUEST, "{key}");
    }
    assert_eq!(alter(&mut wire, TOPIC, "a", "no.such.key", Some("3")), INVALID_CONFIG);
    assert_eq!(alter(&mut wire, TOPIC, "a", "retention.ms", Some("soon")), INVALID_CONFIG);
    assert_eq!(shown(&mut wire, TOPIC, "a", "retention.ms"), is("604800000", FROM_DEFAULT));

    let config = |value: &str| {
        vec![
            full::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text(value))),
        ]
    };
    let resource = |name: &str, value: &str| {
        full::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(config(value))
    };
    let resources = vec![resource("a", "5000"), resource("none", "5000")];
    let request = AlterConfigsRequest::default().with_resources(resources);
    let codes: Vec<i16> = wire
        .call(2, &request.clone().with_validate_only(true))
        .responses
        .iter()
        .map(|response| response.error_code)
        .collect();
    assert_eq!(codes, [NONE, 3]);
    assert_eq!(shown(&mut wire, TOPIC, "a", "retention.ms"), is("604800000", FROM_DEFAULT));
    wire.call(2, &request);
    assert_eq!(shown(&mut wire, TOPIC, "a", "retention.ms"), is("5000", FROM_TOPIC));
}

/// Edits of several configs of topic "a", in resources as given; the error codes.
fn edit(wire: &mut Wire, resources: &[&[(&str, i8, &str)]]) -> Vec<i16> {
    let config = |(key, operation, value): &(&str, i8, &str)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(Some(text(value)))
    };
    let resource = |configs: &&[(&str, i8, &str)]| {
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("a"))
            .with_configs(configs.iter().map(config).collect())
    };
    let resources = resources.iter().map(resource).collect();
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    wire.call(1, &request).responses.iter().map(|response| response.error_code).collect()
}

#[test]
fn gotcha_14_lists_gain_and_lose_words_and_what_stands_twice_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    let policy = |wire: &mut Wire| shown(wire, TOPIC, "a", "cleanup.policy");
    assert_eq!(edit(&mut wire, &[&[("cleanup.policy", APPEND, "compact")]]), [NONE]);
    assert_eq!(policy(&mut wire), is("delete,compact", FROM_TOPIC));
    assert_eq!(edit(&mut wire, &[&[("cleanup.policy", SUBTRACT, "delete")]]), [NONE]);
    assert_eq!(policy(&mut wire), is("compact", FROM_TOPIC));
    let number = [("retention.ms", APPEND, "1")];
    assert_eq!(edit(&mut wire, &[&number]), [INVALID_CONFIG]);
    let key_twice = [("retention.ms", SET, "1"), ("retention.ms", SET, "2")];
    assert_eq!(edit(&mut wire, &[&key_twice]), [INVALID_REQUEST]);
    let once = [("retention.ms", SET, "1")];
    assert_eq!(edit(&mut wire, &[&once, &once]), [INVALID_REQUEST; 2]);
    assert_eq!(edit(&mut wire, &[&[("retention.ms", 9, "1")]]), [INVALID_REQUEST]);
    assert_eq!(shown(&mut wire, TOPIC, "a", "retention.ms"), is("604800000", FROM_DEFAULT));
}

#[test]
fn gotcha_13_every_config_is_described_with_default_source_type_and_synonyms() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    set(&mut wire, "a", "retention.bytes", "5");
    let resources = vec![resource(TOPIC, "a"), resource(BROKER, "1"), resource(BROKER, "")];
    let request =
        DescribeConfigsRequest::default().with_resources(resources).with_include_synonyms(true);
    let results = wire.call(4, &request).results;
    assert!(results.iter().all(|result| result.error_code == NONE));
    let [topic, own, all] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!((topic.configs.len(), all.configs.len()), (33, 0));
    assert!(own.configs.len() > 300);
    for config in &topic.configs {
        assert!(config.value.is_some() && config.config_type != 0 && !config.read_only);
        let from =
            if config.name.as_str() == "retention.bytes" { FROM_TOPIC } else { FROM_DEFAULT };
        assert_eq!(config.config_source, from, "{}", config.name.as_str());
    }
    let bytes = topic.configs.iter().find(|config| config.name.as_str() == "retention.bytes");
    let values: Vec<_> =
        bytes.unwrap().synonyms.iter().map(|one| (&*one.name, one.source)).collect();
    assert_eq!(values, [("retention.bytes", FROM_TOPIC), ("log.retention.bytes", FROM_DEFAULT)]);
    let unknown = resource(TOPIC, "a").with_configuration_keys(Some(vec![text("no.such.key")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![unknown]);
    let result = wire.call(4, &request).results.remove(0);
    assert_eq!((result.error_code, result.configs.len()), (NONE, 0));
}

#[test]
fn a_compressed_batch_on_a_small_budget_grows_no_further_than_the_budget_allows() {
    let broker = Broker::start_with(Options::new().set("memory.budget.bytes", "64MiB"));
    let mut wire = broker.connect();
    create_topic(&mut wire, "a", 1);
    set(&mut wire, "a", "compression.type", "gzip");
    let mut builder = BatchBuilder::new();
    builder.append(now_ms(), None, Some(&vec![0; 16 << 20]), &[]);
    let bomb = builder.build_compressed(Compression::Zstd);
    let before = broker.resident();
    assert!(bomb.len() < 10_000);
    assert_eq!(produce(&mut wire, "a", bomb).0, INVALID_RECORD);
    let grown = broker.resident_max().saturating_sub(before);
    assert!(grown <= 16 << 20, "{grown} bytes more were resident");
}

#[test]
fn a_small_request_for_the_same_configs_again_and_again_is_not_answered_with_gigabytes() {
    let broker = Broker::start();
    let mut wire = broker.connect();
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource(BROKER, "1"); 20_000])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let before = broker.resident();
    let results = wire.call(4, &request).results;
    let answered = results.iter().take_while(|result| result.error_code == NONE).count();
    assert!((50..1_000).contains(&answered), "{answered} of 20,000 were answered");
    assert!(results[answered..].iter().all(|result| result.error_code == INVALID_REQUEST));
    let grown = broker.resident_max().saturating_sub(before);
    assert!(grown <= 128 << 20, "{grown} bytes more were resident");
    assert_eq!(shown(&mut wire, BROKER, "1", "broker.id"), is("1", FROM_DEFAULT));
}
