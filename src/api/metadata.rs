//! Metadata (key 3), versions 0-13: which topics and brokers there are.
//!
//! KIPs: 430 (authorized operations, v8-10), 516 (topic ids, v10; look-up by id, v12). Brokers are
//! the real ones, whatever replication factor a topic was created with (DESIGN D13). A topic that
//! is missing is created when the request and `auto.create.topics.enable` allow it, and is then in
//! the same answer; Apache Kafka answers `UNKNOWN_TOPIC_OR_PARTITION` or `LEADER_NOT_AVAILABLE`
//! first and lets the client ask again.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::error::topic_error;
use super::names::{TEXT_BYTES, broker_id, operations, text, topic_name};
use super::{Answer, Api, Context, Tally};
use crate::broker::NewTopic;
use crate::cluster::{ClusterImage, Topic};
use crate::protocol::error::ErrorCode;
use crate::protocol::types::TopicId;

/// Metadata.
pub(super) struct Metadata;

/// From this version on a request names topics by id.
const TOPIC_IDS_FROM: i16 = 12;

impl Api for Metadata {
    type Request = MetadataRequest;

    async fn handle(mut cx: Context, request: MetadataRequest) -> Answer<MetadataResponse> {
        let asked = match &request.topics {
            None => None,
            Some(none) if none.is_empty() && cx.version == 0 => None,
            Some(topics) if has_unsupported_form(&cx, topics) => {
                return Answer::Now(unsupported(topics));
            }
            Some(topics) => {
                let topics = each_once(topics);
                create_missing(&mut cx, &request, &topics).await;
                Some(topics)
            }
        };
        let room = cx.room(expected_bytes(&cx, asked.as_deref())).await;
        let topics = match &asked {
            None => all_topics(&cx, &request),
            Some(topics) => named_topics(&cx, &request, topics),
        };
        let address = cx.broker.advertised(&cx.session.listener);
        let node = broker_id(cx.broker.node_id());
        let broker = MetadataResponseBroker::default()
            .with_node_id(node)
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            .with_rack(cx.broker.rack().map(text));
        let operations = if request.include_cluster_authorized_operations {
            operations::CLUSTER
        } else {
            operations::NOT_ASKED
        };
        let response = MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text(&cx.image.cluster_id().to_string())))
            .with_controller_id(node)
            .with_cluster_authorized_operations(operations)
            .with_topics(topics);
        Answer::Now(response).within(room)
    }

    fn errors(response: &MetadataResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        response.topics.iter().for_each(|topic| tally.note(topic.error_code));
    }
}

/// About how many bytes the answer takes in memory: for each partition far more than on the wire.
fn expected_bytes(cx: &Context, asked: Option<&[MetadataRequestTopic]>) -> usize {
    // A partition has two lists of one element each.
    const LIST: usize = 16;
    let partition = size_of::<MetadataResponsePartition>() + 2 * LIST;
    let topic = size_of::<MetadataResponseTopic>() + TEXT_BYTES;
    let (topics, partitions) = match asked {
        None => (cx.image.topic_count(), cx.image.partition_count()),
        Some(topics) => {
            let known = topics.iter().filter_map(|topic| look_up(&cx.image, topic).ok());
            (topics.len(), known.map(|topic| i64::from(topic.partition_count())).sum())
        }
    };
    topics * topic + usize::try_from(partitions).unwrap_or(0) * partition
}

/// Before v12 a topic is named by name and by nothing else.
fn has_unsupported_form(cx: &Context, topics: &[MetadataRequestTopic]) -> bool {
    let unsupported =
        |topic: &MetadataRequestTopic| topic.name.is_none() || !topic.topic_id.is_nil();
    cx.version < TOPIC_IDS_FROM && topics.iter().any(unsupported)
}

/// The answer to a request that its version cannot mean: no brokers, and an error for each topic.
fn unsupported(topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let refuse = |topic: &MetadataRequestTopic| {
        let name = topic.name.clone().unwrap_or_else(|| topic_name(""));
        MetadataResponseTopic::default()
            .with_name(Some(name))
            .with_topic_id(topic.topic_id)
            .with_error_code(ErrorCode::InvalidRequest.code())
    };
    MetadataResponse::default().with_topics(topics.iter().map(refuse).collect())
}

/// The topics without those that are named a second time.
fn each_once(topics: &[MetadataRequestTopic]) -> Vec<MetadataRequestTopic> {
    let mut seen = HashSet::new();
    let first = |topic: &&MetadataRequestTopic| seen.insert((topic.name.clone(), topic.topic_id));
    topics.iter().filter(first).cloned().collect()
}

fn all_topics(cx: &Context, request: &MetadataRequest) -> Vec<MetadataResponseTopic> {
    cx.image.topics().map(|topic| described(cx, request, topic)).collect()
}

fn named_topics(
    cx: &Context,
    request: &MetadataRequest,
    topics: &[MetadataRequestTopic],
) -> Vec<MetadataResponseTopic> {
    let answer = |asked: &MetadataRequestTopic| match look_up(&cx.image, asked) {
        Ok(topic) => described(cx, request, &topic),
        Err(error) => refused(asked, error).with_topic_authorized_operations(operations(request)),
    };
    topics.iter().map(answer).collect()
}

fn look_up(image: &ClusterImage, asked: &MetadataRequestTopic) -> Result<Arc<Topic>, ErrorCode> {
    if !asked.topic_id.is_nil() {
        let id = TopicId(asked.topic_id);
        return image.topic_by_id(id).cloned().ok_or(ErrorCode::UnknownTopicId);
    }
    let name = asked.name.as_ref().ok_or(ErrorCode::InvalidRequest)?.as_str();
    match image.topic(name) {
        Some(topic) => Ok(Arc::clone(topic)),
        None if crate::cluster::validate_name(name).is_err() => {
            Err(ErrorCode::InvalidTopicException)
        }
        None => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// Creates the named topics that are missing, if the request and the configuration allow it. What
/// cannot be created stays missing and is answered as such.
async fn create_missing(
    cx: &mut Context,
    request: &MetadataRequest,
    topics: &[MetadataRequestTopic],
) {
    // The field exists from v4 on; before that, asking creates.
    let asked = request.allow_auto_topic_creation || cx.version < 4;
    if !asked || !cx.broker.creates_topics() {
        return;
    }
    let missing: Vec<NewTopic> = topics
        .iter()
        .filter(|topic| topic.topic_id.is_nil())
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| cx.image.topic(name.as_str()).is_none())
        .map(|name| cx.broker.default_topic(name.as_str()))
        .collect();
    if missing.is_empty() {
        return;
    }
    for outcome in cx.broker.create_topics(missing).await {
        if let Err(error) = outcome {
            tracing::debug!(code = ?topic_error(&error), %error, "topic not created on request");
        }
    }
    cx.image = cx.broker.image();
}

fn described(cx: &Context, request: &MetadataRequest, topic: &Topic) -> MetadataResponseTopic {
    let node = broker_id(cx.broker.node_id());
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(cx.image.leader_epoch(topic, index).unwrap_or(-1))
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id.0)
        .with_is_internal(super::topics::is_internal(&topic.name))
        .with_partitions((0..topic.partition_count()).map(partition).collect())
        .with_topic_authorized_operations(operations(request))
}

/// What the client may do with a topic, if it asked.
fn operations(request: &MetadataRequest) -> i32 {
    if request.include_topic_authorized_operations {
        operations::TOPIC
    } else {
        operations::NOT_ASKED
    }
}

fn refused(asked: &MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
    // A topic asked for by id has no name to answer with, which versions before 12 cannot say.
    let name = asked.name.clone().or_else(|| asked.topic_id.is_nil().then(|| topic_name("")));
    MetadataResponseTopic::default()
        .with_name(name)
        .with_topic_id(asked.topic_id)
        .with_error_code(error.code())
}
