//! `tidegate bucket restore` (issue 5, Must show 3): the data directory is lost, and a broker goes
//! on from an empty one with what the bucket has.

use std::path::PathBuf;
use std::process::Output;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeConfigsRequest, FindCoordinatorRequest, GroupId,
    HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, SyncGroupRequest,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::bucket::Bucket;
use crate::harness::{Broker, DELAYS, Options, Wire};
use crate::requests::{
    FETCH, Fetch, NONE, PRODUCE, batches, fetched, produce, produce_request, produced, producer_id,
    record, text, topic_name,
};
use crate::tiering::{
    EARLIEST, KIB, LATEST, LATEST_TIERED, Log, TIERED, create_topic_with, eager, wait_until_tiered,
};

/// What every partition leaves out.
const GAP: i64 = 1_000_000_000;
const GROUP: &str = "readers";
const OFFSETS_TOPIC: &str = "__consumer_offsets";
const UNKNOWN_MEMBER_ID: i16 = 25;
/// A setting that no default is.
const RETENTION: &str = "123456789000";
/// Longer than any test: what is written stays on this machine.
const NEVER_MS: u64 = 3_600_000;

/// Every place where a restore is killed. The probe of the bucket creates 17 objects; then come the
/// entry that opens the restore, the checkpoint, and the entry that closes it.
pub const PLACES: &[&str] = &[
    "bucket: before create#18",
    "bucket: after create#18",
    "restore: the directory is bound",
    "restore: the log before is removed",
    "restore: the log is written",
    "restore: the groups are in the bucket",
    "checkpoint: written",
    "bucket: before create#19",
    "bucket: after create#19",
    "restore: the checkpoint is in the bucket",
    "bucket: before create#20",
    "bucket: after create#20",
    "restore: it is closed",
];

fn options(bucket: &Bucket) -> Options {
    let options =
        eager().set("offsets.topic.num.partitions", 1).set("group.initial.rebalance.delay.ms", 0);
    bucket.options(options)
}

/// An empty directory, in which the broker is to go on.
fn lose_the_directory(broker: &mut Broker, folder: &TempDir, name: &str) -> PathBuf {
    let before = broker.data_dir();
    broker.move_to(folder.path().join(name));
    before
}

/// Restores, and gives the report.
fn restore(broker: &Broker) -> Value {
    let output = broker.output_of(&["bucket", "restore", "--json"], None);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("is fenced") || told.contains("belongs to"), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn error(output: &Output) -> String {
    assert_ne!(output.status.code(), Some(0));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A partition of topic "a" in the report.
fn of(report: &Value, partition: usize) -> &Value {
    let partitions = report["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|it| it["topic"] == "a" && it["partition"] == partition);
    found.unwrap()
}

/// Waits until the bucket has these partitions to their ends.
fn wait_until_all_is_tiered(broker: &Broker, wire: &mut Wire, topic: &str, partitions: i32) {
    let logs: Vec<_> =
        (0..partitions).map(|partition| Log::new(wire, topic, partition, KIB)).collect();
    broker.wait_until("the bucket has everything", |_| {
        logs.iter().all(|log| log.offset(wire, LATEST_TIERED) == log.offset(wire, LATEST) - 1)
    });
}

/// Epoch and end offset of what `OffsetForLeaderEpoch` finds.
fn end_of(wire: &mut Wire, epoch: i32) -> (i32, i64) {
    let asked =
        OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(epoch);
    let topic =
        OffsetForLeaderTopic::default().with_topic(topic_name("a")).with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let found = wire.call(4, &request).topics.remove(0).partitions.remove(0);
    assert_eq!(found.error_code, NONE);
    (found.leader_epoch, found.end_offset)
}

/// The present leader epoch of partition 0.
fn epoch(wire: &mut Wire) -> i32 {
    let metadata = wire.call(crate::requests::METADATA, &crate::requests::all_topics());
    let is_a = |name: &Option<kafka_protocol::messages::TopicName>| {
        name.as_ref().is_some_and(|name| name.0.as_str() == "a")
    };
    let topic = metadata.topics.into_iter().find(|topic| is_a(&topic.name)).unwrap();
    topic.partitions.iter().find(|it| it.partition_index == 0).unwrap().leader_epoch
}

/// Joins the group as its only member: generation and member id.
fn join(wire: &mut Wire) -> (i32, String) {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    assert_eq!(wire.call(4, &find).coordinators[0].error_code, NONE);
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    // The coordinator answers once it has loaded.
    let joined = (0..6_000)
        .map(|_| wire.call(3, &request))
        .find(|joined| joined.error_code == NONE)
        .expect("the group takes members");
    let member = joined.member_id.clone();
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment("all".into());
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(joined.generation_id)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    assert_eq!(wire.call(3, &sync).error_code, NONE);
    (joined.generation_id, member.to_string())
}

fn commit(wire: &mut Wire, (generation, member): &(i32, String), offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("a"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id_or_member_epoch(*generation)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    let response = wire.call(8, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, NONE);
}

fn committed(wire: &mut Wire) -> i64 {
    let request =
        OffsetFetchRequest::default().with_group_id(GroupId(text(GROUP))).with_topics(None);
    let response = (0..6_000)
        .map(|_| wire.call(5, &request))
        .find(|response| response.error_code == NONE)
        .expect("the coordinator loads");
    response.topics[0].partitions[0].committed_offset
}

fn retention(wire: &mut Wire) -> String {
    let resource =
        DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("a"));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let found = wire.call(4, &request).results.remove(0);
    let config = found.configs.into_iter().find(|it| it.name.as_str() == "retention.ms").unwrap();
    config.value.unwrap().to_string()
}

fn delete_before(wire: &mut Wire, partition: i32, offset: i64) {
    let partition =
        DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let response = wire.call(2, &request);
    assert_eq!(response.topics[0].partitions[0].error_code, NONE);
}

/// Writes the log's batch `number` as its producer does: where it went.
fn write(wire: &mut Wire, log: &Log, number: i64) -> i64 {
    let request = produce_request("a", log.partition, -1, log.batch(number));
    let response = wire.call(PRODUCE, &request);
    let answer = produced(&response);
    assert_eq!(answer.error_code, NONE);
    answer.base_offset
}

/// The base offsets of the batches that a Fetch at `offset` of partition 0 gives, once the bucket
/// has answered.
fn bases(wire: &mut Wire, offset: i64) -> Vec<i64> {
    let fetch = Fetch { offset, min_bytes: 1, max_wait_ms: 5_000, max_bytes: 1 << 20 };
    let given = (0..20).map(|_| fetched(wire.call(FETCH, &fetch.request("a"))));
    let given = given.into_iter().find(|given| !given.is_empty()).expect("there is something");
    batches(&given).into_iter().map(|(base, _)| base).collect()
}

#[test]
fn what_the_bucket_has_comes_back_and_nothing_is_given_out_twice() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(options(&bucket));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 3, &[("retention.ms", RETENTION)]);
    let mut logs: Vec<_> = (0..3).map(|index| Log::new(&mut wire, "a", index, KIB)).collect();
    for log in &mut logs {
        log.write(&mut wire, 20);
    }
    let member = join(&mut wire);
    commit(&mut wire, &member, 7);
    wait_until_all_is_tiered(&broker, &mut wire, "a", 3);
    wait_until_all_is_tiered(&broker, &mut wire, OFFSETS_TOPIC, 1);
    assert_eq!(broker.stop(), Some(0));

    // From now on nothing goes to the bucket; its last checkpoint knows of five records more.
    broker.set("tier.max.age.ms", NEVER_MS);
    broker.restart();
    let mut wire = broker.connect();
    logs[0].write(&mut wire, 5);
    delete_before(&mut wire, 1, 3);
    assert_eq!(broker.stop(), Some(0));
    // And two that no checkpoint knows, with a commit.
    broker.restart();
    let mut wire = broker.connect();
    logs[0].write(&mut wire, 2);
    assert_eq!(committed(&mut wire), 7);
    commit(&mut wire, &member, 27);
    let (old_epoch, old_producer) = (epoch(&mut wire), producer_id(&mut wire).id);
    broker.kill();

    let old = lose_the_directory(&mut broker, &folder, "new");
    let report = restore(&broker);
    let expect = |partition: usize, start: i64, recorded: i64| {
        let found = of(&report, partition);
        assert_eq!(found["log_start"], start, "{found}");
        assert_eq!(found["restored_end"], 20, "{found}");
        assert_eq!(found["recorded_end"], recorded, "{found}");
        assert_eq!(found["lost_at_least"], recorded - 20, "{found}");
        assert_eq!(found["resumes"], recorded + GAP, "{found}");
    };
    expect(0, 0, 25);
    expect(1, 3, 20);
    expect(2, 0, 20);
    assert_eq!((&report["groups"], &report["damaged"]), (&1.into(), &Value::Array(vec![])));
    let new = broker.data_dir();
    broker.move_to(old);
    for arguments in [&["serve"][..], &["serve", "--take-over"]] {
        let refused = error(&broker.output_of(arguments, None));
        assert!(refused.contains("start with the right data directory"), "{refused}");
    }
    broker.move_to(new);
    broker.restart();

    let mut wire = broker.connect();
    logs[0].verify(&mut wire, 0, 20);
    logs[1].verify(&mut wire, 3, 20);
    logs[2].verify(&mut wire, 0, 20);
    assert_eq!(logs[1].offset(&mut wire, EARLIEST), 3);
    assert_eq!(retention(&mut wire), RETENTION);
    let resumes = GAP + 25;
    assert_eq!(logs[0].offset(&mut wire, LATEST), resumes);
    // Whoever knows a record that is lost is not told that the log was cut before it.
    assert_eq!(end_of(&mut wire, old_epoch).1, resumes);
    assert!(epoch(&mut wire) > old_epoch);
    assert!(producer_id(&mut wire).id > old_producer);
    // The offsets are back, and the generation is above all before.
    assert_eq!(committed(&mut wire), 7);
    let heartbeat = HeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(member.0)
        .with_member_id(text(&member.1));
    assert_eq!(wire.call(3, &heartbeat).error_code, UNKNOWN_MEMBER_ID);
    let again = join(&mut wire);
    assert!(again.0 > member.0 + 1_000_000, "{}", again.0);
    // Its last batch is back, and so is the memory of it; the other one's is lost.
    assert_eq!(write(&mut wire, &logs[1], 19), 19);
    assert_eq!(write(&mut wire, &logs[0], 27), resumes);
    // A position among what is lost goes on with what is new.
    assert_eq!(bases(&mut wire, 26), [20, resumes]);
    commit(&mut wire, &again, resumes + 1);
    broker.kill();

    // Once more, with what is new not in the bucket.
    lose_the_directory(&mut broker, &folder, "third");
    let report = restore(&broker);
    assert_eq!(of(&report, 0)["restored_end"], 20);
    let resumes = of(&report, 0)["resumes"].as_i64().unwrap();
    assert_eq!(resumes, 25 + 2 * GAP);
    broker.restart();
    let mut wire = broker.connect();
    logs[0].verify(&mut wire, 0, 20);
    assert_eq!(committed(&mut wire), 7);
    assert!(join(&mut wire).0 > again.0);
    assert_eq!(write(&mut wire, &logs[0], 0), resumes);
    assert_eq!(bases(&mut wire, 25), [20, resumes]);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn objects_that_no_checkpoint_knows_are_found_and_the_gap_goes_to_the_bucket_too() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(options(&bucket));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 2, &[]);
    let mut logs: Vec<_> = (0..2).map(|index| Log::new(&mut wire, "a", index, 3 * KIB)).collect();
    for _ in 0..3 {
        for log in &mut logs {
            log.write(&mut wire, 10);
        }
        wait_until_tiered(&broker, &logs);
    }
    broker.kill();

    lose_the_directory(&mut broker, &folder, "new");
    let report = restore(&broker);
    for partition in 0..2 {
        let found = of(&report, partition);
        assert_eq!((&found["restored_end"], &found["lost_at_least"]), (&30.into(), &0.into()));
    }
    assert!(report["adopted_objects"].as_u64().unwrap() > 0, "{report}");
    broker.restart();
    let mut wire = broker.connect();
    for log in &logs {
        log.verify(&mut wire, 0, 30);
        // The memory of every producer is back.
        assert_eq!(write(&mut wire, log, 29), 29);
    }
    // The gap goes to the bucket alone, and what is written behind it in another object.
    wait_until_all_is_tiered(&broker, &mut wire, "a", 2);
    let resumes = logs[0].offset(&mut wire, LATEST);
    assert_eq!(write(&mut wire, &logs[0], 30), resumes);
    wait_until_all_is_tiered(&broker, &mut wire, "a", 2);
    broker.kill();

    lose_the_directory(&mut broker, &folder, "third");
    let report = restore(&broker);
    assert_eq!(of(&report, 0)["restored_end"], resumes + 1);
    broker.restart();
    let mut wire = broker.connect();
    assert_eq!(bases(&mut wire, 31).first(), Some(&30));
    assert!(bases(&mut wire, resumes).contains(&resumes));
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn what_cannot_be_read_stops_a_restore_until_it_is_told_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(options(&bucket));
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 1, &[]);
    let mut log = Log::new(&mut wire, "a", 0, 3 * KIB);
    for _ in 0..3 {
        log.write(&mut wire, 10);
        wait_until_tiered(&broker, std::slice::from_ref(&log));
    }
    broker.kill();
    let number = |key: &str| key.rsplit('/').next().unwrap().to_owned();
    let last = bucket.objects(TIERED).into_iter().max_by_key(|(key, _)| number(key)).unwrap();
    bucket.damage(&last.0, last.1 / 2);

    lose_the_directory(&mut broker, &folder, "new");
    let refused = error(&broker.output_of(&["bucket", "restore"], None));
    assert!(refused.contains(&number(&last.0)) && refused.contains("--skip-damaged"), "{refused}");
    let open = error(&broker.output_of(&["serve"], None));
    assert!(open.contains("run `tidegate bucket restore` again"), "{open}");
    let output = broker.output_of(&["bucket", "restore", "--skip-damaged", "--json"], None);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(of(&report, 0)["restored_end"], 20, "{report}");
    assert_eq!(report["damaged"].as_array().unwrap().len(), 1, "{report}");
    broker.restart();
    log.verify(&mut broker.connect(), 0, 20);
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_restore_into_the_wrong_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut broker = Broker::start_with(options(&bucket));
    let first = broker.data_dir();
    let locked = error(&broker.output_of(&["bucket", "restore"], None));
    assert!(locked.contains("cannot be locked"), "{locked}");
    assert_eq!(broker.stop(), Some(0));
    let own = error(&broker.output_of(&["bucket", "restore"], None));
    assert!(own.contains("there is nothing to restore"), "{own}");

    // What a start leaves behind that was refused is as good as empty.
    lose_the_directory(&mut broker, &folder, "new");
    let refused = error(&broker.output_of(&["serve"], None));
    assert!(refused.contains("tidegate bucket restore"), "{refused}");
    let cut = broker.output_of(&["bucket", "restore"], Some("restore: the directory is bound"));
    assert_eq!(cut.status.code(), None);
    let open = error(&broker.output_of(&["serve"], None));
    assert!(open.contains("run `tidegate bucket restore` again"), "{open}");
    broker.move_to(first);
    let used = error(&broker.output_of(&["bucket", "restore"], None));
    assert!(used.contains("is not empty"), "{used}");

    broker.set("object.url", "s3://bkt/elsewhere");
    broker.move_to(folder.path().join("other"));
    let nothing = error(&broker.output_of(&["bucket", "restore"], None));
    assert!(nothing.contains("has no cluster"), "{nothing}");
}

#[test]
fn killed_at_any_step_a_restore_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut options = options(&bucket);
    options.binary = PathBuf::from(env!("CARGO_BIN_EXE_tidegate"));
    let mut broker = Broker::start_with(options);
    let mut wire = broker.connect();
    create_topic_with(&mut wire, "a", 1, &[]);
    let mut log = Log::new(&mut wire, "a", 0, KIB);
    log.write(&mut wire, 20);
    let member = join(&mut wire);
    commit(&mut wire, &member, 7);
    wait_until_all_is_tiered(&broker, &mut wire, "a", 1);
    wait_until_all_is_tiered(&broker, &mut wire, OFFSETS_TOPIC, 1);
    broker.kill();
    let (mut end, mut generation) = (log.end, member.0);
    for (at, place) in PLACES.iter().enumerate() {
        println!("killed at {place}");
        lose_the_directory(&mut broker, &folder, &at.to_string());
        let cut = broker.output_of(&["bucket", "restore"], Some(place));
        assert_eq!(cut.status.code(), None, "{}", String::from_utf8_lossy(&cut.stderr));
        let again = broker.output_of(&["bucket", "restore"], None);
        if again.status.code() != Some(0) {
            let told = error(&again);
            assert!(told.contains("there is nothing to restore"), "{place}: {told}");
        }
        broker.restart();
        let mut wire = broker.connect();
        log.verify(&mut wire, 0, 20);
        let resumes = log.offset(&mut wire, LATEST);
        assert!((end + GAP..end + GAP + 2).contains(&resumes), "{end} {resumes}, {place}");
        assert_eq!(committed(&mut wire), 7);
        let joined = join(&mut wire).0;
        assert!(joined > generation, "{joined} after {generation}, {place}");
        // Acknowledged and never in a checkpoint.
        let (refused, offset) = produce(&mut wire, "a", record(10));
        assert_eq!((refused, offset), (NONE, resumes), "{place}");
        end = offset;
        generation = joined;
        broker.kill();
    }
    // What the restores that were cut left behind goes.
    broker.begin_again_with(&[(DELAYS, "sweep.first=10 garbage.age=1 garbage.look=10")]);
    broker.become_ready();
    broker.wait_until("orphans and garbage are gone", |broker| {
        let metrics = broker.metrics();
        metrics.get("tidegate_broker_orphan_sweeps_total") > 0.0
            && metrics.get("tidegate_broker_garbage_objects") == 0.0
    });
    assert_eq!(bucket.open_uploads(), 0);
    assert_eq!(broker.stop(), Some(0));
    let (code, report, told) = broker.run(&["bucket", "check", "--json"]);
    assert_eq!(code, Some(0), "{report}{told}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["problems"], &report["orphans"]), (&json!([]), &json!(0)), "{report}");
    assert_eq!(report["objects"], bucket.objects(TIERED).len(), "{report}");
}
