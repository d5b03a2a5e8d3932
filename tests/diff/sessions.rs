//! Incremental Fetches (KIP-227): what a session tells, in which order, and when it ends.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse, MetadataRequest};
use uuid::Uuid;

use crate::batch::Batch;
use crate::fetch::{filled, part, request};
use crate::offsets::delete;
use crate::peer::{Peer, name};
use crate::produce::write;
use crate::topics::UNKNOWN_ID;

/// A session: each request has the next epoch.
struct Session {
    version: i16,
    topic: &'static str,
    topic_id: Uuid,
    id: i32,
    epoch: i32,
}

impl Session {
    /// Asks for a session of these partitions.
    fn create(
        peer: &mut Peer,
        version: i16,
        (topic, topic_id): (&'static str, Uuid),
        parts: Vec<FetchPartition>,
    ) -> Self {
        let full = request(version, topic, topic_id, parts).with_session_epoch(0);
        let answer = peer.ask(format!("{topic}: full"), version, &full).expect("an answer");
        Self { version, topic, topic_id, id: answer.session_id, epoch: 1 }
    }

    /// The next request, which changes what is asked of these partitions.
    fn next(&mut self, parts: Vec<FetchPartition>) -> FetchRequest {
        let mut asked = request(self.version, self.topic, self.topic_id, parts)
            .with_session_id(self.id)
            .with_session_epoch(self.epoch);
        asked.topics.retain(|topic| !topic.partitions.is_empty());
        self.epoch += 1;
        asked
    }

    fn ask(&mut self, peer: &mut Peer, label: &str, parts: Vec<FetchPartition>) -> FetchResponse {
        let asked = self.next(parts);
        peer.ask(label, self.version, &asked).expect("an answer")
    }

    fn forgetting(&self, parts: Vec<i32>) -> Vec<ForgottenTopic> {
        let topic = ForgottenTopic::default().with_partitions(parts);
        let by_id = self.version >= 13;
        let topic = if by_id { topic.with_topic_id(self.topic_id) } else { topic };
        vec![if by_id { topic } else { topic.with_topic(name(self.topic)) }]
    }
}

const VERSIONS: [(i16, &str); 4] =
    [(7, "session-7"), (12, "session-12"), (13, "session-13"), (18, "session-18")];

/// News only: records, watermarks, log starts, errors; partitions that come and go.
pub fn incremental(peer: &mut Peer) {
    for (version, topic) in VERSIONS {
        let known = filled(peer, topic);
        let parts = vec![part(0, 27), part(1, 2), part(2, 0)];
        let mut session = Session::create(peer, version, (topic, known.id), parts);
        session.ask(peer, "the same records again", vec![]);
        session.ask(peer, "read on", vec![part(0, 30)]);
        session.ask(peer, "nothing new", vec![]);
        write(peer, topic, 2, &Batch::values(2, 10));
        session.ask(peer, "records in 2", vec![]);
        session.ask(peer, "read on in 2", vec![part(2, 2)]);
        write(peer, topic, 1, &Batch::values(1, 10));
        write(peer, topic, 2, &Batch::values(1, 10));
        session.ask(peer, "records in 1 and 2", vec![part(1, 3)]);
        session.ask(peer, "still in 2", vec![]);
        let deleted = peer.get(2, &delete(topic, &[(0, 5), (2, 1)]));
        peer.note(format!("v{version} deleted"), &deleted.topics[0].partitions.len().to_string());
        session.ask(peer, "log starts moved", vec![part(2, 3)]);
        session.ask(peer, "log starts are known", vec![]);
        session.ask(peer, "below the log start", vec![part(0, 2)]);
        session.ask(peer, "still below it", vec![]);
        session.ask(peer, "above it again", vec![part(0, 30)]);
        session.ask(peer, "beyond the end", vec![part(1, 99)]);
        session.ask(peer, "a partition that is not there", vec![part(1, 3), part(9, 0)]);
        session.ask(peer, "it is still not there", vec![]);
        let forget = session.forgetting(vec![9, 1, 77]);
        let asked = session.next(vec![]).with_forgotten_topics_data(forget);
        peer.ask("forgets two", version, &asked);
        write(peer, topic, 1, &Batch::values(1, 10));
        session.ask(peer, "records in what was forgotten", vec![]);
        session.ask(peer, "which comes back", vec![part(1, 3)]);
        let forget = session.forgetting(vec![1]);
        let asked = session.next(vec![part(1, 0)]).with_forgotten_topics_data(forget);
        peer.ask("adds and forgets the same", version, &asked);
        let mut asked = session.next(vec![]);
        asked.topics = request(version, "no-topic", UNKNOWN_ID, vec![part(0, 0)]).topics;
        peer.ask("adds an unknown topic", version, &asked);
        session.ask(peer, "unknown as ever", vec![]);
        if version >= 12 {
            let stale = part(0, 30).with_current_leader_epoch(known.epoch + 1);
            session.ask(peer, "an epoch to come", vec![stale]);
            session.ask(peer, "an epoch to come, still", vec![]);
            let beyond = part(0, 40).with_last_fetched_epoch(known.epoch);
            session.ask(peer, "a diverging log", vec![beyond]);
            session.ask(peer, "a diverging log, still", vec![]);
            session.ask(peer, "agrees again", vec![part(0, 30)]);
        }
    }
}

/// The partitions of an answer in their order.
fn shown(answer: &FetchResponse) -> String {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let each = partitions.map(|partition| {
        let records = partition.records.as_ref().map_or(0, |records| records.len().min(1));
        (partition.partition_index, records)
    });
    format!("{:?}", each.collect::<Vec<_>>())
}

/// Who has records goes to the end.
pub fn order(peer: &mut Peer) {
    for (version, topic) in [(12, "turns-12"), (13, "turns-13")] {
        let known = peer.create(topic, 4, &[]);
        for partition in 0..4 {
            write(peer, topic, partition, &Batch::values(1, 500));
        }
        let parts = (0..4).map(|index| part(index, 0)).collect();
        let mut session = Session::create(peer, version, (topic, known.id), parts);
        for turn in 0..6 {
            let asked = session.next(vec![]).with_max_bytes(600);
            let answer = peer.get(version, &asked);
            peer.note(format!("v{version} turn {turn}"), &shown(&answer));
        }
        let asked = session.next(vec![part(2, 1), part(0, 0)]);
        let answer = peer.get(version, &asked);
        peer.note(format!("v{version} all of them"), &shown(&answer));
        let answer = peer.get(version, &session.next(vec![]));
        peer.note(format!("v{version} all of them again"), &shown(&answer));
    }
}

/// Wrong epochs and ids, the wrong way to name topics, and the ends of a session.
pub fn refused(peer: &mut Peer) {
    let known = peer.create("session-refused", 2, &[]);
    let topic = ("session-refused", known.id);
    for version in [7, 12, 13, 18] {
        let parts = || vec![part(0, 0), part(1, 0)];
        let mut session = Session::create(peer, version, topic, parts());
        let odd = |epoch: i32, id: i32| {
            FetchRequest::default().with_session_id(id).with_session_epoch(epoch)
        };
        for epoch in [2, 7, i32::MAX, -2, i32::MIN] {
            peer.ask(format!("epoch {epoch}"), version, &odd(epoch, session.id));
        }
        for wrong in [0, -1, -5, 77] {
            peer.ask(format!("id {wrong}"), version, &odd(1, wrong));
        }
        let other = if version < 13 { 13 } else { 12 };
        peer.ask("names topics otherwise", other, &odd(1, session.id));
        session.ask(peer, "goes on", vec![]);
        let forget = session.forgetting(vec![0, 1]);
        let asked = session.next(vec![]).with_forgotten_topics_data(forget.clone());
        peer.ask("forgets all", version, &asked);
        session.ask(peer, "after that", vec![]);

        let mut session = Session::create(peer, version, topic, parts());
        let asked = session.next(parts()).with_forgotten_topics_data(forget);
        peer.ask("lists and forgets all", version, &asked);

        let mut session = Session::create(peer, version, topic, parts());
        peer.ask("final epoch", version, &odd(-1, session.id));
        session.ask(peer, "after the final epoch", vec![]);

        let mut session = Session::create(peer, version, topic, parts());
        let renewed = request(version, topic.0, topic.1, parts())
            .with_session_id(session.id)
            .with_session_epoch(0);
        let renewed = peer.ask("asks for another in its place", version, &renewed);
        let is_new = renewed.is_some_and(|renewed| renewed.session_id != session.id);
        peer.note(format!("v{version} another id"), &is_new.to_string());
        session.ask(peer, "the former one", vec![]);

        let none = peer.get(version, &odd(0, 0));
        peer.note(format!("v{version} of nothing"), &(none.session_id > 0).to_string());
        peer.ask("goes on with nothing", version, &odd(1, none.session_id));
        peer.ask("goes on again", version, &odd(2, none.session_id));
    }
}

fn delete_topic(peer: &mut Peer, topic: &str) {
    let asked = DeleteTopicState::default().with_name(Some(name(topic)));
    let request = DeleteTopicsRequest::default().with_topics(vec![asked]).with_timeout_ms(30_000);
    peer.get(6, &request);
    peer.until("deletion", |peer| {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![asked]))
            .with_allow_auto_topic_creation(false);
        (peer.get(12, &request).topics[0].error_code == 3).then_some(())
    });
}

/// A topic that is deleted, and made again, under a session.
pub fn deleted_topics(peer: &mut Peer) {
    for (version, topic) in [(12, "session-gone-12"), (13, "session-gone-13")] {
        let known = peer.create(topic, 2, &[]);
        write(peer, topic, 0, &Batch::values(2, 10));
        let parts = vec![part(0, 2), part(1, 0)];
        let mut session = Session::create(peer, version, (topic, known.id), parts);
        session.ask(peer, "idle", vec![]);
        delete_topic(peer, topic);
        session.ask(peer, "deleted", vec![]);
        session.ask(peer, "still deleted", vec![part(0, 0)]);
        peer.create(topic, 1, &[]);
        write(peer, topic, 0, &Batch::values(3, 10));
        session.ask(peer, "made again with one partition", vec![]);
        session.ask(peer, "made again, read on", vec![part(0, 1)]);
        let new = FetchTopic::default().with_partitions(vec![part(0, 0)]);
        let new =
            if version >= 13 { new.with_topic_id(known.id) } else { new.with_topic(name(topic)) };
        let sessionless = request(version, topic, known.id, vec![]).with_topics(vec![new]);
        peer.ask("without a session", version, &sessionless.with_session_epoch(-1));
    }
}
