//! Fetch: positions, limits, epochs, sessions.

use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use uuid::Uuid;

use crate::batch::{Batch, Codec};
use crate::peer::{Peer, Topic, name};
use crate::produce::write;
use crate::topics::UNKNOWN_ID;

/// A partition from `offset` on.
pub fn part(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20)
}

/// A fetch of one topic, by id from version 13 on, that does not wait.
pub fn request(version: i16, topic: &str, id: Uuid, parts: Vec<FetchPartition>) -> FetchRequest {
    let asked = FetchTopic::default().with_partitions(parts);
    let asked = if version >= 13 { asked.with_topic_id(id) } else { asked.with_topic(name(topic)) };
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![asked])
}

/// Partition 0: ten batches of three records, offsets 0 to 29. Partition 1: one batch. 2: empty.
pub fn filled(peer: &mut Peer, topic: &str) -> Topic {
    let known = peer.create(topic, 3, &[]);
    for at in 0..10 {
        let codec = if at % 2 == 0 { Codec::None } else { Codec::Gzip };
        let batch = Batch::values(3, 100).codec(codec).at(crate::batch::T0 + at * 1000);
        write(peer, topic, 0, &batch);
    }
    write(peer, topic, 1, &Batch::values(2, 10));
    known
}

/// Positions, epochs, isolation, replicas, unknown partitions.
pub fn fetch(peer: &mut Peer) {
    let topic = filled(peer, "fetched");
    for version in [4, 11, 12, 13, 18] {
        let ask = |peer: &mut Peer, label: &str, part: FetchPartition| {
            peer.ask(label, version, &request(version, "fetched", topic.id, vec![part]));
        };
        for offset in [0, 1, 3, 28, 29, 30, 31, 1000, -1, -2, i64::MAX] {
            ask(peer, &format!("offset {offset}"), part(0, offset));
        }
        ask(peer, "empty partition", part(2, 0));
        ask(peer, "empty partition, offset 1", part(2, 1));
        ask(peer, "unknown partition", part(9, 0));
        ask(peer, "negative partition", part(-1, 0));
        let none = request(version, "no-topic", UNKNOWN_ID, vec![part(0, 0), part(1, 0)]);
        peer.ask("unknown topic", version, &none);
        let committed = request(version, "fetched", topic.id, vec![part(0, 0), part(2, 0)])
            .with_isolation_level(1);
        peer.ask("read committed", version, &committed);
        let odd = request(version, "fetched", topic.id, vec![part(1, 0)]).with_isolation_level(7);
        peer.ask("isolation level 7", version, &odd);
        let mut nothing = request(version, "fetched", topic.id, Vec::new());
        peer.ask("no partitions", version, &nothing);
        nothing.topics.clear();
        peer.ask("no topics", version, &nothing);
        if version >= 11 {
            let stale = part(0, 0).with_current_leader_epoch(topic.epoch + 1);
            ask(peer, "an epoch to come", stale);
            ask(peer, "this epoch", part(0, 0).with_current_leader_epoch(topic.epoch));
            ask(peer, "epoch -2", part(0, 0).with_current_leader_epoch(-2));
        }
        if version >= 12 {
            ask(peer, "last fetched: this epoch", part(0, 6).with_last_fetched_epoch(topic.epoch));
            let later = part(0, 6).with_last_fetched_epoch(topic.epoch + 4);
            ask(peer, "last fetched: an epoch to come", later);
            let beyond = part(0, 99).with_last_fetched_epoch(topic.epoch);
            ask(peer, "last fetched: this epoch, beyond the end", beyond);
        }
        let asked = request(version, "fetched", topic.id, vec![part(0, 0)]);
        let replica = if version >= 15 {
            asked.with_replica_state(ReplicaState::default().with_replica_id(BrokerId(5)))
        } else {
            asked.with_replica_id(BrokerId(5))
        };
        peer.ask("from a replica", version, &replica);
    }
    peer.ask("nil id", 13, &request(13, "", Uuid::nil(), vec![part(0, 0)]));
}

/// Every version, one good fetch with a bit of everything.
pub fn by_version(peer: &mut Peer) {
    let topic = filled(peer, "fetched-by-version");
    for version in 4..=18 {
        let parts = vec![part(0, 4), part(1, 0), part(2, 0), part(9, 0)];
        let asked = request(version, "fetched-by-version", topic.id, parts);
        peer.ask("some", version, &asked);
        let little = request(version, "fetched-by-version", topic.id, vec![part(1, 0)]);
        peer.ask("a little", version, &little);
        peer.ask("some, committed", version, &asked.with_isolation_level(1));
    }
}

/// Byte limits and waiting.
pub fn limits(peer: &mut Peer) {
    let topic = filled(peer, "limited");
    for version in [4, 12, 18] {
        for bytes in [0, 1, 100, 400, 500, 1000, 1500] {
            let parts = vec![part(0, 0).with_partition_max_bytes(bytes), part(1, 0)];
            let asked = request(version, "limited", topic.id, parts);
            peer.ask(format!("partition limit {bytes}"), version, &asked);
            let parts = vec![part(2, 0), part(0, 0), part(1, 0)];
            let asked = request(version, "limited", topic.id, parts).with_max_bytes(bytes);
            peer.ask(format!("limit {bytes}"), version, &asked);
        }
        let asked = request(version, "limited", topic.id, vec![part(0, 0)]);
        peer.ask("negative limit", version, &asked.clone().with_max_bytes(-1));
        let negative = vec![part(0, 0).with_partition_max_bytes(-1)];
        peer.ask(
            "negative partition limit",
            version,
            &request(version, "limited", topic.id, negative),
        );
        let wait = request(version, "limited", topic.id, vec![part(0, 30)]).with_max_wait_ms(50);
        peer.ask("nothing comes", version, &wait);
        peer.ask(
            "no least bytes",
            version,
            &wait.clone().with_min_bytes(0).with_max_wait_ms(60_000),
        );
        let mut error = wait.clone().with_max_wait_ms(60_000);
        // An unknown partition would not do: for that one Kafka waits to the end.
        error.topics[0].partitions.push(part(1, 999));
        peer.ask("an error does not wait", version, &error);
        peer.ask("a negative wait", version, &wait.with_max_wait_ms(-1));
    }
}

/// Session ids and epochs.
pub fn sessions(peer: &mut Peer) {
    let topic = filled(peer, "sessions");
    for version in [7, 12, 13, 18] {
        let asked = |id: i32, epoch: i32| {
            request(version, "sessions", topic.id, vec![part(1, 0)])
                .with_session_id(id)
                .with_session_epoch(epoch)
        };
        peer.ask("no session", version, &asked(0, -1));
        peer.ask("closes none", version, &asked(123, -1));
        peer.ask("goes on with an unknown one", version, &asked(123, 5));
        peer.ask("goes on with id 0", version, &asked(0, 5));
        peer.ask("negative epoch", version, &asked(123, -7));
        let created = peer.get(version, &asked(0, 0));
        peer.note(
            format!("v{version} asks for a session"),
            &format!("{} {}", created.error_code, created.responses.len()),
        );
        let replaced = peer.get(version, &asked(123, 0));
        peer.note(format!("v{version} asks for another"), &replaced.error_code.to_string());
        let forgotten = if version >= 13 {
            ForgottenTopic::default().with_topic_id(topic.id)
        } else {
            ForgottenTopic::default().with_topic(name("sessions"))
        };
        let forget =
            asked(0, -1).with_forgotten_topics_data(vec![forgotten.with_partitions(vec![0])]);
        peer.ask("forgets without a session", version, &forget);
    }
}
