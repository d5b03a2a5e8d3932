//! Produce: what is taken, what is refused, and how sequences are kept.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FetchRequest, InitProducerIdRequest, ProduceRequest, TransactionalId,
};
use uuid::Uuid;

use crate::batch::{Batch, Codec, T0};
use crate::peer::{Peer, name, text};
use crate::topics::UNKNOWN_ID;

/// A Produce of these partitions of one topic, by id from version 13 on.
pub fn request(version: i16, topic: &str, id: Uuid, parts: &[(i32, Bytes)]) -> ProduceRequest {
    let data = |(index, records): &(i32, Bytes)| {
        PartitionProduceData::default().with_index(*index).with_records(Some(records.clone()))
    };
    let mut topic_data =
        TopicProduceData::default().with_partition_data(parts.iter().map(data).collect());
    topic_data = if version >= 13 {
        topic_data.with_topic_id(id)
    } else {
        topic_data.with_name(name(topic))
    };
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_transactional_id(None)
        .with_topic_data(vec![topic_data])
}

/// Writes a batch and expects it to be taken.
pub fn write(peer: &mut Peer, topic: &str, partition: i32, batch: &Batch) {
    let request = request(9, topic, Uuid::nil(), &[(partition, batch.build())]);
    let answer = peer.get(9, &request);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
}

/// All versions: a good batch beside topics and partitions that are not there.
pub fn by_version(peer: &mut Peer) {
    let topic = peer.create("produced", 2, &[]);
    for version in 3..=13 {
        let good = Batch::values(3, 10).build();
        let parts = [(0, good.clone()), (1, good.clone()), (7, good.clone()), (-1, good.clone())];
        peer.ask("good", version, &request(version, "produced", topic.id, &parts));
        peer.ask(
            "unknown",
            version,
            &request(version, "no-topic", UNKNOWN_ID, &[(0, good.clone())]),
        );
        let mut acks = request(version, "produced", topic.id, &[(0, good.clone())]);
        for (label, value) in [("acks 2", 2), ("acks -2", -2), ("acks 1", 1)] {
            acks.acks = value;
            peer.ask(label, version, &acks);
        }
        let mut none = request(version, "produced", topic.id, &[(0, good.clone()), (1, good)]);
        // Null instead of empty records are left out: they break Kafka's handler, and it never
        // answers on that connection again.
        none.topic_data[0].partition_data[0].records = Some(Bytes::new());
        peer.ask("empty records", version, &none);
        none.topic_data.clear();
        peer.ask("no topics", version, &none);
        let zstd = Batch::values(3, 10).codec(Codec::Zstd).build();
        peer.ask("zstd", version, &request(version, "produced", topic.id, &[(0, zstd)]));
        let mut broken = Batch::values(1, 10);
        broken.break_crc = true;
        let parts = [(0, broken.build())];
        peer.ask("broken crc", version, &request(version, "produced", topic.id, &parts));
        let internal = Batch::of(&[(0, Some("k"), Some("v"))]).build();
        if version < 13 {
            let offsets = request(version, "__consumer_offsets", topic.id, &[(0, internal)]);
            peer.ask("internal topic", version, &offsets);
        }
    }
    peer.ask("nil id", 13, &request(13, "", Uuid::nil(), &[(0, Batch::values(1, 1).build())]));
}

/// Batches that break one rule each.
fn broken_batches(good: &Batch) -> Vec<(&'static str, Bytes)> {
    let changed = |change: &dyn Fn(&mut Batch)| {
        let mut batch = good.clone();
        change(&mut batch);
        batch.build()
    };
    let two = [good.build(), good.build()].concat();
    let with_tail = [&good.build()[..], &[1, 2, 3]].concat();
    let short = good.build().slice(..good.build().len() - 5);
    let header = good.build().slice(..40);
    let long = {
        let mut bytes = good.build().to_vec();
        bytes[11] += 4;
        bytes
    };
    vec![
        ("magic 0", changed(&|batch| batch.magic = 0)),
        ("magic 1", changed(&|batch| batch.magic = 1)),
        ("magic 3", changed(&|batch| batch.magic = 3)),
        ("two batches", two.into()),
        ("bytes after the batch", with_tail.into()),
        ("cut short", short),
        ("half a header", header),
        ("length too long", long.into()),
        ("no records", Batch::of(&[]).build()),
        ("count too low", changed(&|batch| batch.count = Some(2))),
        ("count too high", changed(&|batch| batch.count = Some(4))),
        ("negative count", changed(&|batch| batch.count = Some(-1))),
        ("last delta too high", changed(&|batch| batch.last_offset_delta = Some(5))),
        ("last delta too low", changed(&|batch| batch.last_offset_delta = Some(1))),
        (
            "count and last delta wrong",
            changed(&|batch| {
                batch.count = Some(5);
                batch.last_offset_delta = Some(4);
            }),
        ),
        ("base offset 7", changed(&|batch| batch.base_offset = 7)),
        ("control", changed(&|batch| batch.attributes = 0x20)),
        ("transactional", changed(&|batch| batch.attributes = 0x10)),
        ("log append time", changed(&|batch| batch.attributes = 0x08)),
        ("delete horizon", changed(&|batch| batch.attributes = 0x40)),
        ("unknown attribute", changed(&|batch| batch.attributes = 0x80)),
        ("codec 5", changed(&|batch| batch.attributes = 5)),
        ("codec 7", changed(&|batch| batch.attributes = 7)),
        ("max timestamp too low", changed(&|batch| batch.max_timestamp = Some(T0 - 5))),
        ("max timestamp too high", changed(&|batch| batch.max_timestamp = Some(T0 + 500))),
        ("timestamp -1", changed(&|batch| batch.base_timestamp = -1)),
        ("timestamp -5", changed(&|batch| batch.base_timestamp = -5)),
        ("timestamp of the far future", changed(&|batch| batch.base_timestamp = i64::MAX / 2)),
        ("gzip", changed(&|batch| batch.codec = Codec::Gzip)),
        ("gzip of nothing", Batch::of(&[]).codec(Codec::Gzip).build()),
        ("producer id without sequence", changed(&|batch| batch.producer = (5, 0, -1))),
        ("producer id without epoch", changed(&|batch| batch.producer = (5, -1, 0))),
        ("sequence without producer id", changed(&|batch| batch.producer = (-1, -1, 4))),
        ("producer id -2", changed(&|batch| batch.producer = (-2, 0, 0))),
    ]
}

/// One rule broken after the other.
pub fn refusals(peer: &mut Peer) {
    let topic = peer.create("refused", 1, &[]);
    let good = Batch::values(3, 10);
    // What only one of the two takes goes to a topic of its own: offsets would part for good.
    let odd = ["bytes after the batch", "log append time", "producer id without epoch"];
    peer.create("refused-oddly", 1, &[]);
    for (label, records) in broken_batches(&good) {
        let place = if odd.contains(&label) { "refused-oddly" } else { "refused" };
        peer.ask(label, 9, &request(9, place, topic.id, &[(0, records)]));
    }
    let large = Batch::values(1, 1_048_588).build();
    peer.ask("too large", 9, &request(9, "refused", topic.id, &[(0, large)]));
    let mut transactional = request(9, "refused-oddly", topic.id, &[(0, good.build())]);
    transactional.transactional_id = Some(TransactionalId(text("tx")));
    peer.ask("transactional id with a plain batch", 9, &transactional);
    let mut silent = request(9, "refused", topic.id, &[(0, good.build())]);
    silent.acks = 0;
    silent.topic_data[0].partition_data[0].index = 7;
    peer.send(9, &silent);
    peer.ask(
        "after acks 0 with an error",
        9,
        &request(9, "refused", topic.id, &[(0, good.build())]),
    );
    read(peer, "what was taken", "refused");
}

/// A fetch of everything in partition 0.
fn read(peer: &mut Peer, label: &str, topic: &str) {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 24);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 24)
        .with_topics(vec![asked]);
    peer.ask(label, 12, &request);
}

/// Topics whose settings decide about a batch.
pub fn topic_settings(peer: &mut Peer) {
    let key = Batch::of(&[(0, Some("a"), Some("1")), (1, Some("b"), None)]);
    let keyless = Batch::of(&[(0, Some("a"), Some("1")), (1, None, Some("2"))]);
    let compacted = peer.create("compacted", 1, &[("cleanup.policy", "compact")]);
    for (label, batch) in [
        ("keys", key.clone()),
        ("a record without key", keyless.clone()),
        ("keys, gzip", key.codec(Codec::Gzip)),
        ("a record without key, gzip", keyless.codec(Codec::Gzip)),
    ] {
        for version in [7, 8, 13] {
            let request = request(version, "compacted", compacted.id, &[(0, batch.build())]);
            peer.ask(format!("compacted: {label}"), version, &request);
        }
    }
    let appended = peer.create("append-time", 1, &[("message.timestamp.type", "LogAppendTime")]);
    for codec in [Codec::None, Codec::Gzip] {
        let batch = Batch::values(3, 5).codec(codec);
        let request = request(9, "append-time", appended.id, &[(0, batch.build())]);
        peer.ask(format!("append time: {codec:?}"), 9, &request);
    }
    let mut stamped = Batch::values(1, 5);
    stamped.attributes = 8;
    let stamped = request(9, "append-time", appended.id, &[(0, stamped.build())]);
    peer.ask("append time: bit set", 9, &stamped);
    read(peer, "append time: read", "append-time");
    let bounded = peer.create("bounded", 1, &[("message.timestamp.before.max.ms", "1000")]);
    let old = request(9, "bounded", bounded.id, &[(0, Batch::values(2, 5).build())]);
    peer.ask("timestamps too old", 9, &old);
    let none = request(9, "bounded", bounded.id, &[(0, Batch::values(1, 5).at(-1).build())]);
    peer.ask("no timestamp", 9, &none);
    let small = peer.create("small", 1, &[("max.message.bytes", "200")]);
    for bytes in [50, 120, 130, 131, 132, 133, 140, 300] {
        let request = request(9, "small", small.id, &[(0, Batch::values(1, bytes).build())]);
        peer.ask(format!("at most 200 bytes: value of {bytes}"), 9, &request);
    }
    let zeros = Batch::values(1, 3000).codec(Codec::Gzip).build();
    peer.ask("at most 200 bytes, gzip", 9, &request(9, "small", small.id, &[(0, zeros)]));
    peer.create("recompressed", 1, &[("compression.type", "gzip")]);
    let plain = request(9, "recompressed", Uuid::nil(), &[(0, Batch::values(3, 50).build())]);
    peer.ask("broker-side compression", 9, &plain);
    peer.create("uncompressed", 1, &[("compression.type", "uncompressed")]);
    let gzip = Batch::of(&[(0, Some("a"), Some("1")), (1, None, None)]).codec(Codec::Gzip);
    let gzip = request(9, "uncompressed", Uuid::nil(), &[(0, gzip.build())]);
    peer.ask("broker-side decompression", 9, &gzip);
    read(peer, "broker-side decompression: read", "uncompressed");
}

/// A duplicate on a topic whose records the broker stamps.
fn appended_sequences(peer: &mut Peer, plain: &InitProducerIdRequest) {
    let settings = [("message.timestamp.type", "LogAppendTime")];
    let topic = peer.create("sequences-appended", 1, &settings);
    let id = peer.get(1, plain).producer_id.0;
    let batch = Batch::values(2, 4).producer(id, 0, 0);
    let asked = request(9, "sequences-appended", topic.id, &[(0, batch.build())]);
    let first = peer.ask("stamped by the broker", 9, &asked);
    let again = peer.ask("stamped by the broker, repeated", 9, &asked);
    peer.note("the same time", &(first == again).to_string());
}

/// Sequences of idempotent producers.
pub fn sequences(peer: &mut Peer) {
    let topic = peer.create("sequences", 1, &[]);
    let plain = InitProducerIdRequest::default().with_transactional_id(None);
    let fresh = |peer: &mut Peer| {
        peer.until("producer id", |peer| {
            let answer = peer.get(1, &plain);
            (answer.error_code == 0).then_some(answer.producer_id.0)
        })
    };
    let send = |peer: &mut Peer, label: &str, id: i64, epoch: i16, first: i32, count: usize| {
        let batch = Batch::values(count, 4).producer(id, epoch, first);
        peer.ask(label, 9, &request(9, "sequences", topic.id, &[(0, batch.build())]));
    };
    let first = fresh(peer);
    send(peer, "first", first, 0, 0, 3);
    send(peer, "first again", first, 0, 0, 3);
    send(peer, "next", first, 0, 3, 2);
    send(peer, "gap", first, 0, 6, 1);
    send(peer, "overlap", first, 0, 4, 2);
    send(peer, "part of a batch", first, 0, 0, 2);
    for at in 5..11 {
        send(peer, &format!("one at {at}"), first, 0, at, 1);
    }
    send(peer, "the sixth last again", first, 0, 5, 1);
    send(peer, "the fifth last again", first, 0, 6, 1);
    send(peer, "the last again", first, 0, 10, 1);
    send(peer, "the first again, long gone", first, 0, 0, 3);
    send(peer, "new epoch, sequence 4", first, 1, 4, 1);
    send(peer, "new epoch, sequence 0", first, 1, 0, 1);
    send(peer, "new epoch, sequence 0 again", first, 1, 0, 1);
    send(peer, "old epoch, next sequence", first, 0, 11, 1);
    send(peer, "old epoch, duplicate", first, 0, 10, 1);
    let late = fresh(peer);
    send(peer, "unknown producer, sequence 5", late, 0, 5, 1);
    send(peer, "then sequence 6", late, 0, 6, 1);
    let wrapping = fresh(peer);
    send(peer, "up to the last sequence", wrapping, 0, i32::MAX - 1, 2);
    send(peer, "after the last sequence", wrapping, 0, 0, 1);
    let crossing = fresh(peer);
    send(peer, "over the end", crossing, 0, i32::MAX - 1, 4);
    send(peer, "over the end again", crossing, 0, i32::MAX - 1, 4);
    send(peer, "goes on at 2", crossing, 0, 2, 1);
    let elder = fresh(peer);
    send(peer, "unknown producer, epoch 3", elder, 3, 0, 1);
    send(peer, "then epoch 2", elder, 2, 1, 1);
    read(peer, "the log", "sequences");
    appended_sequences(peer, &plain);
}
