//! Consumers over a `tidegate bucket restore` (issue 5, Must show 3): their positions and committed
//! offsets are ahead of what came back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use serde_json::{Value, json};

use super::clients::CLIENTS;
use super::context::{Context, Reader};
use super::driver::Driver;
use super::log::{append, commit, committed};
use crate::harness::{Broker, Options, Wire};
use crate::judge::{end_offset, topic_name};

/// Who is held against it.
const HELD: &[&str] = &["java-4.4", "confluent", "rdkafka", "kafkajs", "franz-go", "sarama"];

/// In the bucket.
const KEPT: i64 = 10;
/// On the lost disk alone.
const LOST: i64 = 5;
/// Written after the restore.
const NEW: i64 = 3;
const GAP: i64 = 1_000_000_000;

/// A client's consumer, and the topic it reads.
struct Held<'a> {
    context: Context<'a>,
    topic: String,
    reader: Reader<'a>,
}

fn write(wire: &mut Wire, topic: &str, count: i64) {
    let record = |at: i64| (1_700_000_000_000 + at, format!("{topic} {at}"));
    append(wire, topic, 0, &(0..count).map(record).collect::<Vec<_>>());
}

/// The last offset in the bucket (KIP-1005).
fn last_tiered(wire: &mut Wire, topic: &str) -> i64 {
    let partition =
        ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(-5);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    wire.call(10, &request).topics[0].partitions[0].offset
}

fn offsets(records: &[Value]) -> Vec<i64> {
    records.iter().map(|record| record["offset"].as_i64().unwrap()).collect()
}

/// Reads until the record at `last` has come; the offsets of all that came.
fn read_to(reader: &mut Reader<'_>, last: i64) -> Vec<i64> {
    let mut read = Vec::new();
    while read.last() != Some(&last) {
        read.extend(offsets(&reader.take(1)));
    }
    read
}

/// What a consumer finds that was ahead, and one whose group's commit was.
fn goes_on(held: &mut Held<'_>) {
    let Held { context, topic, reader } = held;
    let mut wire = context.wire();
    let resumes = end_offset(&mut wire, topic, 0);
    assert_eq!(resumes, KEPT + GAP);
    let group = context.name("group");
    commit(&mut wire, &group, topic, 0, KEPT + LOST);
    let mut member = context.join("member", &group, topic);
    write(&mut wire, topic, NEW);
    let expected: Vec<i64> = (resumes..resumes + NEW).collect();
    let mut ahead = read_to(reader, resumes + NEW - 1);
    // KafkaJS has no position outside of a group. The members of one are gone, and what it has not
    // committed it reads again: from the beginning over the gap. It may lose its membership and begin
    // once more while others have their turn.
    if context.client.id == "kafkajs" {
        let begins = ahead.iter().rposition(|at| *at == 0).expect("it begins again");
        let again = ahead.drain(..begins + KEPT as usize).skip(begins);
        assert!(again.eq(0..KEPT), "from the beginning");
    }
    assert_eq!(ahead, expected, "a position that was ahead");
    let read = member.take(expected.len());
    assert_eq!(offsets(&read), expected, "a committed offset that was ahead");
    member.call("commit", json!({"offsets": [[topic, 0, resumes + NEW, ""]]}));
    let lag = end_offset(&mut wire, topic, 0) - committed(&mut wire, &group, topic, 0).0;
    assert_eq!(lag, 0);
    reader.finds_nothing();
}

#[test]
fn a_restore_resets_no_consumer_and_hides_nothing_new_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new()
        .set("object.url", format!("file://{}", folder.path().join("bucket").display()))
        .set("offsets.topic.num.partitions", 1)
        .set("auto.create.topics.enable", false)
        .set("group.initial.rebalance.delay.ms", 100)
        .set("log.retention.ms", -1)
        .set("tier.max.age.ms", 1_000);
    let mut broker = Broker::start_with(options);
    let address = broker.address();
    let clients: Vec<_> = CLIENTS.iter().filter(|client| HELD.contains(&client.id)).collect();
    assert_eq!(clients.len(), HELD.len());
    let drivers: Vec<Driver> =
        clients.iter().map(|client| Driver::start(client.command(&address))).collect();
    let mut held: Vec<Held<'_>> = Vec::new();
    for (client, driver) in clients.iter().zip(&drivers) {
        let context = Context::new(client, driver, &address, "restore");
        let topic = context.topic("t", 1);
        write(&mut context.wire(), &topic, KEPT);
        let mut reader = context.assign("ahead", &[(&topic, 0)]);
        reader.take(KEPT as usize);
        // There is a coordinator from now on.
        context.join("first", &context.name("first"), &topic).close();
        held.push(Held { context, topic, reader });
    }
    let mut wire = broker.connect();
    broker.wait_until("the bucket has all", |_| {
        held.iter().all(|held| last_tiered(&mut wire, &held.topic) == KEPT - 1)
    });
    assert_eq!(broker.stop(), Some(0));
    broker.set("tier.max.age.ms", 3_600_000);
    broker.restart();
    for held in &mut held {
        write(&mut broker.connect(), &held.topic, LOST);
        read_to(&mut held.reader, KEPT + LOST - 1);
    }
    broker.kill();
    broker.move_to(folder.path().join("data"));
    let (code, _, told) = broker.run(&["bucket", "restore"]);
    assert_eq!(code, Some(0), "{told}");
    broker.restart();

    let mut failed = Vec::new();
    for held in &mut held {
        let outcome = catch_unwind(AssertUnwindSafe(|| goes_on(held)));
        let client = held.context.client.id;
        eprintln!("{client}: {}", if outcome.is_ok() { "goes on" } else { "FAILED" });
        failed.extend(outcome.is_err().then_some(client));
    }
    assert!(failed.is_empty(), "{failed:?}");
}
