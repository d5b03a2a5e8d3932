//! Offsets of a log: by time, by epoch, and where it starts.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest,
};

use crate::batch::{Batch, Codec, T0};
use crate::peer::{Peer, name};
use crate::produce::write;

/// Questions to a topic: partition and timestamp.
pub fn list(topic: &str, asked: &[(i32, i64)]) -> ListOffsetsRequest {
    let one = |(partition, timestamp): &(i32, i64)| {
        ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_timestamp(*timestamp)
            .with_current_leader_epoch(-1)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions(asked.iter().map(one).collect());
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// Every version, every question, and times inside batches.
pub fn list_offsets(peer: &mut Peer) {
    let topic = peer.create("listed", 3, &[]);
    for at in 0..6 {
        let codec = [Codec::None, Codec::Gzip, Codec::Zstd][at % 3];
        let batch = Batch::values(4, 20).codec(codec).at(T0 + at as i64 * 100);
        write(peer, "listed", 0, &batch);
    }
    // Times that go back within a batch and between batches.
    let value = Some("v");
    write(peer, "listed", 1, &Batch::of(&[(0, None, value), (50, None, value), (20, None, value)]));
    write(peer, "listed", 1, &Batch::of(&[(10, None, value), (50, None, value)]));
    for version in 1..=10 {
        for timestamp in -7..=-1 {
            let asked = list("listed", &[(0, timestamp), (1, timestamp), (2, timestamp)]);
            peer.ask(format!("timestamp {timestamp}"), version, &asked);
            if version >= 2 {
                let asked = asked.with_isolation_level(1);
                peer.ask(format!("timestamp {timestamp}, committed"), version, &asked);
            }
        }
        peer.ask("unknown partition", version, &list("listed", &[(9, -1), (-1, -1)]));
        peer.ask("unknown topic", version, &list("none", &[(0, -1)]));
        peer.ask("twice", version, &list("listed", &[(0, -1), (0, -2), (1, -1)]));
        peer.ask("time of the third batch", version, &list("listed", &[(0, T0 + 202)]));
        let mut twice = list("listed", &[(0, -1)]);
        twice.topics.push(twice.topics[0].clone());
        peer.ask("a topic twice", version, &twice);
        let replica = list("listed", &[(0, -1)]).with_replica_id(BrokerId(5));
        peer.ask("from a replica", version, &replica);
        let debug = list("listed", &[(0, -1)]).with_replica_id(BrokerId(-2));
        peer.ask("from a debugger", version, &debug);
        if version >= 4 {
            let mut epoch = list("listed", &[(0, -1)]);
            for (label, claimed) in [("to come", topic.epoch + 1), ("of now", topic.epoch)] {
                epoch.topics[0].partitions[0].current_leader_epoch = claimed;
                peer.ask(format!("an epoch {label}"), version, &epoch);
            }
        }
    }
    for delta in [-1, 0, 1, 3, 4, 99, 100, 101, 102, 103, 104, 203, 303, 400, 503, 504, 9000] {
        peer.ask(format!("time {delta}"), 7, &list("listed", &[(0, T0 + delta)]));
    }
    for delta in [0, 1, 10, 20, 21, 50, 51] {
        peer.ask(format!("time {delta}, out of order"), 7, &list("listed", &[(1, T0 + delta)]));
    }
    peer.ask("time 0", 7, &list("listed", &[(0, 0), (2, 0)]));
    peer.create("listed-append", 1, &[("message.timestamp.type", "LogAppendTime")]);
    write(peer, "listed-append", 0, &Batch::values(3, 5));
    let answer = peer.get(7, &list("listed-append", &[(0, -3)]));
    let offset = answer.topics[0].partitions[0].offset;
    peer.note("greatest timestamp of a batch stamped by the broker", &offset.to_string());
    let answer = peer.get(7, &list("listed-append", &[(0, T0)]));
    let offset = answer.topics[0].partitions[0].offset;
    peer.note("time in a batch stamped by the broker", &offset.to_string());
}

/// Every version; epochs before, at and after the present one.
pub fn offset_for_leader_epoch(peer: &mut Peer) {
    let topic = peer.create("epochs", 2, &[]);
    write(peer, "epochs", 0, &Batch::values(5, 10));
    let request = |partition: i32, current: i32, epoch: i32| {
        let asked = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic =
            OffsetForLeaderTopic::default().with_topic(name("epochs")).with_partitions(vec![asked]);
        OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic])
    };
    let now = topic.epoch;
    for version in 2..=4 {
        // Up to version 2 there is no replica id to be a consumer's.
        let adapt = |asked: OffsetForLeaderEpochRequest| {
            if version < 3 { asked.with_replica_id(BrokerId(-2)) } else { asked }
        };
        let asked = [
            ("this epoch", 0, -1, now),
            ("this epoch, empty log", 1, -1, now),
            ("the next epoch", 0, -1, now + 1),
            ("epoch -1", 0, -1, -1),
            ("claims this epoch", 0, now, now),
            ("claims the next epoch", 0, now + 1, now),
            ("unknown partition", 7, -1, now),
        ];
        for (label, partition, current, epoch) in asked {
            peer.ask(label, version, &adapt(request(partition, current, epoch)));
        }
        let mut unknown = adapt(request(0, -1, now));
        unknown.topics[0].topic = name("no-epochs");
        peer.ask("unknown topic", version, &unknown);
    }
}

/// A deletion of what lies before offsets of a topic's partitions.
pub fn delete(topic: &str, asked: &[(i32, i64)]) -> DeleteRecordsRequest {
    let one = |(partition, offset): &(i32, i64)| {
        DeleteRecordsPartition::default().with_partition_index(*partition).with_offset(*offset)
    };
    let topic = DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(asked.iter().map(one).collect());
    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
}

/// Every version, and what fetch and list say afterwards.
pub fn delete_records(peer: &mut Peer) {
    peer.create("cut-compacted", 1, &[("cleanup.policy", "compact")]);
    peer.create("cut-kept", 1, &[("cleanup.policy", "")]);
    peer.create("cut-both", 1, &[("cleanup.policy", "compact,delete")]);
    for version in 0..=2 {
        let topic = format!("cut-{version}");
        peer.create(&topic, 2, &[]);
        for _ in 0..4 {
            write(peer, &topic, 0, &Batch::values(5, 10));
        }
        let mut cut = |label: &str, partition: i32, offset: i64| {
            peer.ask(label, version, &delete(&topic, &[(partition, offset)]));
            peer.ask(format!("{label}: start"), 7, &list(&topic, &[(0, -2), (1, -2)]));
        };
        cut("inside a batch", 0, 7);
        cut("the same again", 0, 7);
        cut("below the start", 0, 3);
        cut("to zero", 0, 0);
        cut("beyond the end", 0, 21);
        cut("-2", 0, -2);
        cut("empty partition", 1, 0);
        cut("empty partition, to the end", 1, -1);
        cut("unknown partition", 5, 0);
        for offset in [6, 7, 8] {
            fetch(peer, &topic, offset);
        }
        peer.ask("by time, below the start", 7, &list(&topic, &[(0, T0)]));
        peer.ask("to the end", version, &delete(&topic, &[(0, -1), (1, -1)]));
        fetch(peer, &topic, 20);
        fetch(peer, &topic, 7);
        peer.ask("all questions", 7, &list(&topic, &[(0, -1), (0, -2)]));
        peer.ask("by time, nothing left", 7, &list(&topic, &[(0, T0)]));
        peer.ask("greatest timestamp, nothing left", 7, &list(&topic, &[(0, -3)]));
        peer.ask("unknown topic", version, &delete("none", &[(0, -1)]));
        peer.ask("compacted topic", version, &delete("cut-compacted", &[(0, -1)]));
        peer.ask("neither policy", version, &delete("cut-kept", &[(0, -1)]));
        peer.ask("both policies", version, &delete("cut-both", &[(0, -1)]));
        peer.ask("internal topic", version, &delete("__consumer_offsets", &[(0, -1)]));
    }
}

fn fetch(peer: &mut Peer, topic: &str, offset: i64) {
    let asked = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(4096);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let request =
        FetchRequest::default().with_max_bytes(4096).with_min_bytes(1).with_topics(vec![topic]);
    peer.ask(format!("fetch from {offset}"), 11, &request);
}
