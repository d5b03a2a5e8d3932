//! What only a Kafka serves so far: transactions, the newer kinds of groups, quotas, credentials.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterClientQuotasRequest,
    AlterUserScramCredentialsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    DescribeClientQuotasRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    DescribeUserScramCredentialsRequest, EndTxnRequest, FindCoordinatorRequest,
    InitProducerIdRequest, InitProducerIdResponse, ListGroupsRequest, ListTransactionsRequest,
    TransactionalId, TxnOffsetCommitRequest,
};

use crate::batch::Batch;
use crate::fetch;
use crate::groups;
use crate::membership::{coordinate, group_id};
use crate::peer::{Peer, name, text};
use crate::produce;

/// A batch of a transaction.
const TRANSACTIONAL: i16 = 0x10;

/// A transaction in every version of its requests, committed and aborted in turn.
pub fn transactions(peer: &mut Peer) {
    for version in 0..=5 {
        let (topic, group) = (format!("transacted-{version}"), format!("in-transaction-{version}"));
        let known = peer.create(&topic, 1, &[]);
        coordinate(peer, &group);
        let id = TransactionalId(text(&format!("transaction-{version}")));
        let producer = begin(peer, &id);
        add_partitions(peer, version, &id, &producer, &topic);
        let mut batch = Batch::values(3, 20).producer(producer.producer_id.0, 0, 0);
        batch.attributes = TRANSACTIONAL;
        // From version 12 on the partition need not have been added.
        let produced = if version < 5 { 9 } else { 13 };
        let request = produce::request(produced, &topic, known.id, &[(0, batch.build())])
            .with_transactional_id(Some(id.clone()));
        peer.ask("in a transaction", produced, &request);
        add_offsets(peer, version, &id, &producer, &group, &topic);
        look(peer, &id, &topic);
        read(peer, &topic, known.id, "open");
        let end = EndTxnRequest::default()
            .with_transactional_id(id.clone())
            .with_producer_id(producer.producer_id)
            .with_producer_epoch(producer.producer_epoch)
            .with_committed(version % 2 == 0);
        peer.ask("end", version, &end);
        peer.until("the end of the transaction", |peer| {
            let request = fetch::request(12, &topic, known.id, vec![fetch::part(0, 0)]);
            let answer = peer.get(12, &request).responses.remove(0).partitions.remove(0);
            (answer.last_stable_offset == answer.high_watermark).then_some(())
        });
        read(peer, &topic, known.id, "ended");
        peer.until("the offsets of the transaction", |peer| {
            let request = groups::fetch(9, &[&group], None).with_require_stable(true);
            (peer.get(9, &request).groups[0].error_code == 0).then_some(())
        });
        peer.until("the coordinator's end of the transaction", |peer| {
            let known = peer.get(0, &described(&id)).transaction_states;
            known[0].transaction_state.starts_with("Complete").then_some(())
        });
        peer.ask("offsets", 9, &groups::fetch(9, &[&group], None));
        peer.ask("end again", version, &end.with_producer_epoch(7));
    }
}

fn begin(peer: &mut Peer, id: &TransactionalId) -> InitProducerIdResponse {
    peer.until("transactions", |peer| {
        let request = FindCoordinatorRequest::default().with_key(id.0.clone()).with_key_type(1);
        (peer.get(1, &request).error_code == 0).then_some(())
    });
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    let answer = peer.until("the coordinator's load", |peer| {
        let answer = peer.get(4, &request);
        (answer.error_code == 0).then_some(answer)
    });
    peer.keep("v4 begin".to_owned(), answer.clone());
    answer
}

fn add_partitions(
    peer: &mut Peer,
    version: i16,
    id: &TransactionalId,
    producer: &InitProducerIdResponse,
    topic: &str,
) {
    let asked = AddPartitionsToTxnTopic::default().with_name(name(topic));
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(producer.producer_id)
        .with_v3_and_below_producer_epoch(producer.producer_epoch);
    let known = vec![asked.clone().with_partitions(vec![0])];
    peer.ask("add", version.min(3), &request.clone().with_v3_and_below_topics(known));
    let unknown = vec![asked.with_partitions(vec![0, 7])];
    peer.ask("add unknown", version.min(3), &request.with_v3_and_below_topics(unknown));
}

fn add_offsets(
    peer: &mut Peer,
    version: i16,
    id: &TransactionalId,
    producer: &InitProducerIdResponse,
    group: &str,
    topic: &str,
) {
    let offsets = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_group_id(group_id(group));
    peer.ask("add offsets", version.min(4), &offsets);
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(2);
    let asked = TxnOffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition.with_committed_leader_epoch(-1)]);
    let commit = TxnOffsetCommitRequest::default()
        .with_transactional_id(id.clone())
        .with_group_id(group_id(group))
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(producer.producer_epoch)
        .with_topics(vec![asked]);
    peer.ask("commit offsets", version, &commit);
}

fn described(id: &TransactionalId) -> DescribeTransactionsRequest {
    let unknown = TransactionalId(text("no-transaction"));
    DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone(), unknown])
}

/// What is told about a transaction.
fn look(peer: &mut Peer, id: &TransactionalId, topic: &str) {
    let described = DescribeTransactionsRequest::default()
        .with_transactional_ids(vec![id.clone(), TransactionalId(text("no-transaction"))]);
    peer.ask("describe", 0, &described);
    for version in 0..=2 {
        peer.ask("list", version, &ListTransactionsRequest::default());
        let ongoing = ListTransactionsRequest::default()
            .with_state_filters(vec![text("Ongoing"), text("Nonsense")]);
        peer.ask("list ongoing", version, &ongoing);
    }
    let asked = TopicRequest::default().with_name(name(topic)).with_partition_indexes(vec![0, 9]);
    peer.ask("producers", 0, &DescribeProducersRequest::default().with_topics(vec![asked]));
}

fn read(peer: &mut Peer, topic: &str, id: uuid::Uuid, state: &str) {
    for version in [4, 11, 12, 13, 18] {
        for isolation in [0, 1] {
            let request = fetch::request(version, topic, id, vec![fetch::part(0, 0)])
                .with_isolation_level(isolation);
            peer.ask(format!("{state}, isolation {isolation}"), version, &request);
        }
    }
}

/// Groups whose assignments the broker makes (KIP-848).
pub fn consumer_groups(peer: &mut Peer) {
    peer.create("assigned", 3, &[]);
    for version in 0..=1 {
        let group = format!("new-group-{version}");
        coordinate(peer, &group);
        let member = text(&format!("4d5a7000-0000-4000-8000-00000000000{version}"));
        let beat = |epoch| {
            ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group_id(&group))
                .with_member_id(member.clone())
                .with_member_epoch(epoch)
        };
        let join = beat(0)
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(vec![name("assigned")]))
            .with_topic_partitions(Some(Vec::new()));
        peer.ask("of nobody", version, &beat(3));
        let joined = peer.until("an assignment", |peer| {
            let answer = peer.get(version, &join);
            let assigned = answer.assignment.as_ref();
            assigned.is_some_and(|all| !all.topic_partitions.is_empty()).then_some(answer)
        });
        peer.keep(format!("v{version} join"), joined.clone());
        peer.ask("beat", version, &beat(joined.member_epoch));
        let regex = join.clone().with_server_assignor(Some(text("no-assignor")));
        peer.ask("by nobody", version, &regex);
        let described = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![group_id(&group), group_id("no-group")])
            .with_include_authorized_operations(true);
        peer.ask("describe", version, &described);
        let list = ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
        peer.ask("list", 5, &list);
        let commit = groups::commit(&group, joined.member_epoch, &member, "assigned", 1);
        peer.ask("commit", 9, &commit);
        peer.ask("stale commit", 9, &groups::commit(&group, 77, &member, "assigned", 1));
        peer.ask("fetch", 9, &groups::fetch(9, &[&group], None));
        peer.ask("leave", version, &beat(-1));
        peer.ask("describe when left", version, &described);
    }
}

/// Quotas of clients: set, looked up, taken away.
pub fn quotas(peer: &mut Peer) {
    let entity = || {
        EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text("q")))
    };
    let entry = |key: &str, remove| {
        let op = OpData::default().with_key(text(key)).with_value(1e12).with_remove(remove);
        EntryData::default().with_entity(vec![entity()]).with_ops(vec![op])
    };
    let alter = |entries| AlterClientQuotasRequest::default().with_entries(entries);
    let component =
        ComponentData::default().with_entity_type(text("client-id")).with_match(Some(text("q")));
    let described =
        DescribeClientQuotasRequest::default().with_components(vec![component]).with_strict(true);
    for version in 0..=1 {
        let entries = vec![entry("consumer_byte_rate", false), entry("no-quota", false)];
        peer.ask("two, one of them unknown", version, &alter(entries));
        peer.ask("one", version, &alter(vec![entry("producer_byte_rate", false)]));
        peer.until("a quota", |peer| {
            let answer = peer.get(version, &described);
            answer.entries.is_some_and(|entries| !entries.is_empty()).then_some(())
        });
        peer.ask("described", version, &described);
        let entries = ["producer_byte_rate", "consumer_byte_rate"].map(|key| entry(key, true));
        for entry in entries {
            peer.ask("taken away", version, &alter(vec![entry]));
        }
        peer.until("no quota", |peer| {
            let answer = peer.get(version, &described);
            answer.entries.is_none_or(|entries| entries.is_empty()).then_some(())
        });
        peer.ask("described when it is gone", version, &described);
    }
}

/// Credentials of users: made, looked up, deleted.
pub fn credentials(peer: &mut Peer) {
    let upsertion = |iterations| {
        ScramCredentialUpsertion::default()
            .with_name(text("alice"))
            .with_mechanism(1)
            .with_iterations(iterations)
            .with_salt(vec![7; 16].into())
            .with_salted_password(vec![9; 32].into())
    };
    let described = DescribeUserScramCredentialsRequest::default().with_users(None);
    let alter = AlterUserScramCredentialsRequest::default;
    peer.ask("too few iterations", 0, &alter().with_upsertions(vec![upsertion(1)]));
    peer.ask("made", 0, &alter().with_upsertions(vec![upsertion(8_192)]));
    let seen = |peer: &mut Peer| peer.get(0, &described).results.len();
    peer.until("credentials", |peer| (seen(peer) == 1).then_some(()));
    peer.ask("described", 0, &described);
    let deletion = ScramCredentialDeletion::default().with_name(text("alice")).with_mechanism(1);
    for label in ["deleted", "deleted again"] {
        peer.ask(label, 0, &alter().with_deletions(vec![deletion.clone()]));
        peer.until("no credentials", |peer| (seen(peer) == 0).then_some(()));
    }
    peer.ask("described when they are gone", 0, &described);
}
