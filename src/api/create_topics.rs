//! `CreateTopics` (key 19), versions 2-7.
//!
//! KIPs: 464 (defaults by -1, v4), 525 (configs in the answer, v5), 516 (topic id, v7). Any
//! replication factor is accepted and stored (DESIGN D13); manual assignments may name any broker,
//! because there is one owner whatever they say.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::configs::{Refusal, check_new_topic, source_id, wire_text};
use super::error::topic_error;
use super::names::{TEXT_BYTES, text};
use super::{Answer, Api, Context, MAX_RESPONSE_BYTES, Tally};
use crate::broker::{NewTopic, TopicError};
use crate::cluster::Topic;
use crate::config::topic::{TOPIC_KEYS, TopicKey, check_topic_config};
use crate::protocol::error::ErrorCode;

/// `CreateTopics`.
pub(super) struct CreateTopics;

/// From this version on the answer lists every config of a topic.
const CONFIGS_FROM: i16 = 5;

/// About what the answer about a topic takes in memory.
fn topic_bytes(version: i16) -> usize {
    let config = size_of::<CreatableTopicConfigs>() + TEXT_BYTES;
    let configs = if version >= CONFIGS_FROM { TOPIC_KEYS.len() * config } else { 0 };
    size_of::<CreatableTopicResult>() + TEXT_BYTES + configs
}

/// How many topics a request may create: as many as can be answered with all their configs in what
/// a response may take, which is far more than any tool asks for at once.
fn most_topics(version: i16) -> usize {
    MAX_RESPONSE_BYTES / topic_bytes(version)
}

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;

    async fn handle(cx: Context, request: CreateTopicsRequest) -> Answer<CreateTopicsResponse> {
        let mut seen = HashSet::new();
        let twice: HashSet<_> = request
            .topics
            .iter()
            .filter(|topic| !seen.insert(topic.name.clone()))
            .map(|topic| topic.name.clone())
            .collect();
        let once = request.topics.iter().filter(|topic| !twice.contains(&topic.name));
        let (asked, beyond): (Vec<_>, Vec<_>) =
            once.enumerate().partition(|(index, _)| *index < most_topics(cx.version));
        let checked: Vec<_> =
            asked.into_iter().map(|(_, topic)| (topic, new_topic(&cx, topic))).collect();
        let made = create(&cx, &checked, request.validate_only).await;
        // Not taken before: the bucket may be waited for.
        let refused = request.topics.len() - checked.len();
        let expected =
            checked.len() * topic_bytes(cx.version) + refused * size_of::<CreatableTopicResult>();
        let room = cx.room(expected).await;
        let mut results = described_all(&cx, checked, made);
        let too_many = text("too many topics in one request; split it");
        results.extend(beyond.into_iter().map(|(_, topic)| {
            refusal(topic.name.clone(), ErrorCode::InvalidRequest, too_many.clone())
        }));
        results.extend(twice.into_iter().map(|name| {
            let message =
                format!("topic \"{}\" stands more than once in the request", name.as_str());
            refusal(name, ErrorCode::InvalidRequest, text(&message))
        }));
        Answer::Now(CreateTopicsResponse::default().with_topics(results)).within(room)
    }

    fn errors(response: &CreateTopicsResponse, tally: &mut Tally) {
        response.topics.iter().for_each(|topic| tally.note(topic.error_code));
    }
}

fn refusal(name: TopicName, code: ErrorCode, message: StrBytes) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(code.code())
        .with_error_message(Some(message))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

/// Creates what passed the checks in one metadata entry; an outcome for each of these.
async fn create(
    cx: &Context,
    checked: &[(&CreatableTopic, Result<NewTopic, Refusal>)],
    validate_only: bool,
) -> Vec<Result<Arc<Topic>, TopicError>> {
    let wanted: Vec<NewTopic> =
        checked.iter().filter_map(|(_, outcome)| outcome.as_ref().ok().cloned()).collect();
    if validate_only {
        return cx.broker.check_new_topics(wanted);
    }
    cx.broker.create_topics(wanted).await
}

/// The answers in the request's order.
fn described_all(
    cx: &Context,
    checked: Vec<(&CreatableTopic, Result<NewTopic, Refusal>)>,
    made: Vec<Result<Arc<Topic>, TopicError>>,
) -> Vec<CreatableTopicResult> {
    let mut made = made.into_iter();
    let answer = |(asked, outcome): (&CreatableTopic, Result<NewTopic, Refusal>)| {
        let result = outcome.and_then(|_| {
            let created = made.next().expect("each topic that passed has an outcome");
            created.map_err(|error| (topic_error(&error), error.to_string()))
        });
        described(cx, asked, result)
    };
    checked.into_iter().map(answer).collect()
}

fn described(
    cx: &Context,
    asked: &CreatableTopic,
    result: Result<Arc<Topic>, Refusal>,
) -> CreatableTopicResult {
    match result {
        Ok(topic) => CreatableTopicResult::default()
            .with_name(asked.name.clone())
            .with_topic_id(topic.id.0)
            .with_num_partitions(topic.partition_count())
            .with_replication_factor(topic.replication_factor)
            .with_error_message(None)
            .with_configs(Some(configs(cx, asked, &topic))),
        Err((code, message)) => refusal(asked.name.clone(), code, text(&message)),
    }
}

/// Every topic config with its effective value; none where the version has no place for them.
fn configs(cx: &Context, asked: &CreatableTopic, topic: &Topic) -> Vec<CreatableTopicConfigs> {
    if cx.version < CONFIGS_FROM {
        return Vec::new();
    }
    let dynamic = cx.broker.dynamic_configs(&cx.image);
    let describe = |key: &TopicKey| {
        let config = cx.broker.config();
        let described = config.describe_topic_config(key.name, &topic.configs, dynamic)?;
        // What the request set is answered as it was written; of a key named twice, the last.
        let own = asked.configs.iter().rfind(|own| own.name.as_str() == key.name);
        let own = own.and_then(|own| own.value.clone());
        Some(
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(key.name))
                .with_value(own.or_else(|| described.value.map(wire_text)))
                .with_config_source(source_id(described.source)),
        )
    };
    TOPIC_KEYS.iter().filter_map(describe).collect()
}

fn new_topic(cx: &Context, asked: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let mut topic = cx.broker.default_topic(asked.name.as_str());
    if asked.assignments.is_empty() {
        sizes(asked, &mut topic)?;
    } else {
        assigned_sizes(asked, &mut topic)?;
    }
    let mut configs = BTreeMap::new();
    for config in &asked.configs {
        let name = config.name.as_str();
        let value = config.value.as_ref().ok_or_else(|| {
            (ErrorCode::InvalidConfig, format!("topic config \"{name}\" has no value"))
        })?;
        let stored = check_topic_config(name, value.as_str())
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        configs.insert(name.to_owned(), stored);
    }
    check_new_topic(cx, &configs)?;
    topic.configs = configs;
    Ok(topic)
}

/// Partition count and replication factor as numbers, -1 for the broker's default: in every
/// version, although clients offer it from v4 on (KIP-464).
fn sizes(asked: &CreatableTopic, topic: &mut NewTopic) -> Result<(), Refusal> {
    match asked.num_partitions {
        -1 => {}
        count if count > 0 => topic.partitions = count,
        count => {
            let message = format!("number of partitions is {count}; it must be larger than 0");
            return Err((ErrorCode::InvalidPartitions, message));
        }
    }
    match asked.replication_factor {
        -1 => {}
        factor if factor > 0 => topic.replication_factor = factor,
        factor => {
            let message = format!("replication factor is {factor}; it must be larger than 0");
            return Err((ErrorCode::InvalidReplicationFactor, message));
        }
    }
    Ok(())
}

/// Partition count and replication factor from a manual assignment: partitions 0 to n-1, each with
/// as many different brokers.
fn assigned_sizes(asked: &CreatableTopic, topic: &mut NewTopic) -> Result<(), Refusal> {
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let message = "a manual assignment excludes partition count and replication factor; \
                       set both to -1";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let refuse = |message: &str| Err((ErrorCode::InvalidReplicaAssignment, message.to_owned()));
    let mut indexes: Vec<i32> =
        asked.assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if !indexes.iter().zip(0..).all(|(index, expected)| *index == expected) {
        return refuse("assigned partitions must be numbered from 0 without gaps");
    }
    let factor = asked.assignments.first().map_or(0, |first| first.broker_ids.len());
    for assignment in &asked.assignments {
        let different: HashSet<_> = assignment.broker_ids.iter().collect();
        if different.len() != assignment.broker_ids.len() {
            return refuse("a partition's replicas must be different brokers");
        }
        if assignment.broker_ids.len() != factor || factor == 0 {
            return refuse("every partition needs the same number of replicas, at least one");
        }
    }
    topic.partitions = i32::try_from(asked.assignments.len()).unwrap_or(i32::MAX);
    topic.replication_factor = i16::try_from(factor).unwrap_or(i16::MAX);
    Ok(())
}
