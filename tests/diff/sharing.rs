//! Share groups (KIP-932), which only a Kafka serves so far.

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request as deletion;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequest, DescribeConfigsRequest,
    DescribeShareGroupOffsetsRequest, IncrementalAlterConfigsRequest, ShareAcknowledgeRequest,
    ShareFetchRequest, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest,
};
use uuid::Uuid;

use crate::batch::Batch;
use crate::membership::{coordinate, group_id};
use crate::peer::{Peer, name, text};
use crate::produce::write;

const GROUP: &str = "sharing";
const TOPIC: &str = "shared";
const MEMBER: &str = "4d5a7000-0000-4000-8000-0000000000aa";
const NOBODY: &str = "4d5a7000-0000-4000-8000-0000000000bb";
/// `ConfigResource.Type.GROUP`.
const GROUP_CONFIG: i8 = 32;
const ACCEPT: i8 = 1;

/// A member joins, reads, acknowledges and leaves.
pub fn share_group(peer: &mut Peer) {
    let topic = peer.create(TOPIC, 1, &[]);
    write(peer, TOPIC, 0, &Batch::values(5, 20));
    coordinate(peer, GROUP);
    from_the_start(peer);
    let beat = |epoch| {
        ShareGroupHeartbeatRequest::default()
            .with_group_id(group_id(GROUP))
            .with_member_id(text(MEMBER))
            .with_member_epoch(epoch)
    };
    peer.ask("of nobody", 1, &beat(4));
    let join = beat(0).with_subscribed_topic_names(Some(vec![name(TOPIC)]));
    peer.until("an assignment", |peer| {
        let answer = peer.get(1, &join).assignment;
        answer.is_some_and(|all| !all.topic_partitions.is_empty()).then_some(())
    });
    let joined = peer.ask("join", 1, &join).expect("an answer");
    peer.ask("beat", 1, &beat(joined.member_epoch));
    let described = ShareGroupDescribeRequest::default()
        .with_group_ids(vec![group_id(GROUP), group_id("no-group")])
        .with_include_authorized_operations(true);
    peer.ask("describe", 1, &described);
    read(peer, topic.id);
    peer.ask("offsets", 0, &offsets());
    peer.ask("leave", 1, &beat(-1));
    peer.ask("describe when left", 1, &described);
    administer(peer);
}

/// The group reads what was there before it.
fn from_the_start(peer: &mut Peer) {
    let config = AlterableConfig::default()
        .with_name(text("share.auto.offset.reset"))
        .with_value(Some(text("earliest")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP_CONFIG)
        .with_resource_name(text(GROUP))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    peer.ask("from the start", 1, &request);
    let resource = DescribeConfigsResource::default()
        .with_resource_type(GROUP_CONFIG)
        .with_resource_name(text(GROUP))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    peer.until("the group's config", |peer| {
        let configs = peer.get(4, &request).results.remove(0).configs;
        let earliest = Some(text("earliest"));
        configs.iter().any(|config| config.value == earliest).then_some(())
    });
}

fn fetched(epoch: i32, id: Uuid) -> ShareFetchRequest {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    ShareFetchRequest::default()
        .with_group_id(Some(group_id(GROUP)))
        .with_member_id(Some(text(MEMBER)))
        .with_share_session_epoch(epoch)
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_max_records(100)
        .with_batch_size(100)
        .with_topics(vec![topic])
}

fn acknowledged(epoch: i32, id: Uuid, first: i64, last: i64) -> ShareAcknowledgeRequest {
    let batch = AcknowledgementBatch::default()
        .with_first_offset(first)
        .with_last_offset(last)
        .with_acknowledge_types(vec![ACCEPT]);
    let partition = AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
    let topic = AcknowledgeTopic::default().with_topic_id(id).with_partitions(vec![partition]);
    ShareAcknowledgeRequest::default()
        .with_group_id(Some(group_id(GROUP)))
        .with_member_id(Some(text(MEMBER)))
        .with_share_session_epoch(epoch)
        .with_topics(vec![topic])
}

/// Reads all and acknowledges it, in one session of the connection.
fn read(peer: &mut Peer, id: Uuid) {
    let mut epoch = 0;
    // The partition is loaded behind the first answers.
    let answer = peer.until("records", |peer| {
        let answer = peer.get(1, &fetched(epoch, id));
        epoch += 1;
        let acquired = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let mut acquired = acquired.filter(|partition| !partition.acquired_records.is_empty());
        acquired.next().is_some().then(|| answer.clone())
    });
    peer.keep("v1 read".to_owned(), answer);
    peer.ask("acknowledge", 1, &acknowledged(epoch, id, 0, 2));
    peer.ask("acknowledge again", 1, &acknowledged(epoch + 1, id, 0, 2));
    peer.ask("acknowledge in another session", 1, &acknowledged(77, id, 3, 4));
    peer.ask("acknowledge the rest", 1, &acknowledged(epoch + 2, id, 3, 4));
    peer.ask("read of nobody", 1, &fetched(9, id).with_member_id(Some(text(NOBODY))));
}

fn offsets() -> DescribeShareGroupOffsetsRequest {
    let topic = DescribeShareGroupOffsetsRequestTopic::default()
        .with_topic_name(name(TOPIC))
        .with_partitions(vec![0]);
    let group = DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group_id(GROUP))
        .with_topics(Some(vec![topic]));
    DescribeShareGroupOffsetsRequest::default().with_groups(vec![group])
}

/// What an operator does with a group that nobody is in.
fn administer(peer: &mut Peer) {
    let partition = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(3);
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(name(TOPIC))
        .with_partitions(vec![partition]);
    let altered = AlterShareGroupOffsetsRequest::default()
        .with_group_id(group_id(GROUP))
        .with_topics(vec![topic]);
    peer.ask("alter offsets", 0, &altered);
    peer.ask("altered offsets", 0, &offsets());
    let topic =
        deletion::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name(TOPIC));
    let deleted = DeleteShareGroupOffsetsRequest::default()
        .with_group_id(group_id(GROUP))
        .with_topics(vec![topic]);
    peer.ask("delete offsets", 0, &deleted);
    peer.ask("deleted offsets", 0, &offsets());
}
