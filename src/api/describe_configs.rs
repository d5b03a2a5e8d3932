//! `DescribeConfigs` (key 32), versions 1-4.
//!
//! KIPs: 133, 226 (broker configs and synonyms), 569 (types and documentation, v3), 714 (client
//! metrics), 1043 (groups). Names, types, defaults and documentation are those of Apache Kafka
//! 4.3.1; what a config is worth here is decided by `config::describe`.
//!
//! A few bytes can ask for much: all configs of a broker with documentation are over 100 KiB. Once
//! an answer has [`ANSWER_BYTES_MAX`], the resources that are left are refused one by one.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::configs::{Refusal, check_broker, find_topic, kind, on_the_wire};
use super::names::{TEXT_BYTES, text};
use super::{Answer, Api, Context, Tally};
use crate::cluster::Topic;
use crate::config::describe::{
    Described, broker_config_names, describe_client_metrics_config, describe_cluster_wide_config,
    describe_group_config,
};
use crate::config::kafka::{KafkaConfig, kafka_configs};
use crate::protocol::error::ErrorCode;

/// `DescribeConfigs`.
pub(super) struct DescribeConfigs;

/// What one answer may come to, in memory and on the wire together.
const ANSWER_BYTES_MAX: usize = 32 << 20;

const TOO_LARGE: &str = "the answer is too large; ask for fewer resources at a time";

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;

    async fn handle(
        cx: Context,
        request: DescribeConfigsRequest,
    ) -> Answer<DescribeConfigsResponse> {
        let room = cx.room(estimate(&request)).await;
        let mut left = ANSWER_BYTES_MAX;
        let mut results = Vec::with_capacity(request.resources.len());
        for resource in &request.resources {
            let answer = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            if left == 0 {
                let message = StrBytes::from_static_str(TOO_LARGE);
                results.push(refused(answer, ErrorCode::InvalidRequest, message));
                continue;
            }
            results.push(match describe(&cx, &request, resource) {
                Ok(configs) => {
                    let bytes = configs.iter().map(size_of_config).sum::<usize>();
                    left = left.saturating_sub(bytes + size_of::<DescribeConfigsResult>());
                    answer.with_error_message(Some(text(""))).with_configs(configs)
                }
                Err((code, message)) => refused(answer, code, text(&message)),
            });
        }
        Answer::Now(DescribeConfigsResponse::default().with_results(results)).within(room)
    }

    fn errors(response: &DescribeConfigsResponse, tally: &mut Tally) {
        response.results.iter().for_each(|result| tally.note(result.error_code));
    }
}

fn refused(
    answer: DescribeConfigsResult,
    code: ErrorCode,
    message: StrBytes,
) -> DescribeConfigsResult {
    answer.with_error_code(code.code()).with_error_message(Some(message))
}

/// About what the answer will take, in memory and on the wire together.
fn estimate(request: &DescribeConfigsRequest) -> usize {
    /// The values that most configs have: what is set, and the default.
    const SYNONYMS: usize = 2;
    /// Kafka's documentation of a config, on average.
    const DOCUMENTATION_BYTES: usize = 300;
    let (table, config) = (kafka_configs(), size_of::<DescribeConfigsResourceResult>());
    let synonym = size_of::<DescribeConfigsSynonym>() + TEXT_BYTES;
    let synonyms = if request.include_synonyms { SYNONYMS * synonym } else { 0 };
    let documentation = if request.include_documentation { DOCUMENTATION_BYTES } else { 0 };
    let configs = |asked: &DescribeConfigsResource| {
        let all = match asked.resource_type {
            kind::TOPIC => table.topic.len(),
            kind::BROKER => table.broker.len(),
            _ => table.group.len(),
        };
        let keys = asked.configuration_keys.as_ref().map_or(0, Vec::len);
        if keys == 0 { all } else { keys.min(all) }
    };
    let configs = request.resources.iter().map(configs).sum::<usize>();
    let configs = configs.saturating_mul(config + TEXT_BYTES + synonyms + documentation);
    request.resources.len() * (size_of::<DescribeConfigsResult>() + TEXT_BYTES)
        + configs.min(ANSWER_BYTES_MAX)
}

/// Something that has configs.
enum Resource<'a> {
    Topic(&'a Topic),
    Broker,
    AllBrokers,
    Loggers,
    Group,
    ClientMetrics,
}

impl<'a> Resource<'a> {
    fn find(cx: &'a Context, asked: &DescribeConfigsResource) -> Result<Self, Refusal> {
        let name = asked.resource_name.as_str();
        let refuse = |message: String| Err((ErrorCode::InvalidRequest, message));
        match asked.resource_type {
            kind::TOPIC => find_topic(&cx.image, name).map(Self::Topic),
            kind::BROKER if name.is_empty() => Ok(Self::AllBrokers),
            kind::BROKER => check_broker(cx, name).map(|()| Self::Broker),
            kind::BROKER_LOGGER => check_broker(cx, name).map(|()| Self::Loggers),
            kind::GROUP if name.is_empty() => refuse("the group has no name".to_owned()),
            kind::GROUP => Ok(Self::Group),
            kind::CLIENT_METRICS if name.is_empty() => {
                refuse("the client metrics subscription has no name".to_owned())
            }
            kind::CLIENT_METRICS => Ok(Self::ClientMetrics),
            other => refuse(format!("unknown resource type {other}")),
        }
    }

    /// The names of all its configs; none for loggers, which are few and have no fixed names.
    fn names(&self) -> Vec<&'static str> {
        let names = |configs: &'static [KafkaConfig]| configs.iter().map(|config| config.name);
        let table = kafka_configs();
        match self {
            Self::Topic(_) => names(&table.topic).collect(),
            Self::Broker | Self::AllBrokers => broker_config_names().collect(),
            Self::Group => names(&table.group).collect(),
            Self::ClientMetrics => names(&table.client_metrics).collect(),
            Self::Loggers => Vec::new(),
        }
    }

    fn describe(&self, cx: &Context, name: &str) -> Option<Described> {
        let dynamic = cx.broker.dynamic_configs(&cx.image);
        let config = cx.broker.config();
        match self {
            Self::Topic(topic) => config.describe_topic_config(name, &topic.configs, dynamic),
            Self::Broker => config.describe_broker_config(name, dynamic),
            Self::AllBrokers => describe_cluster_wide_config(name, dynamic),
            Self::Group => describe_group_config(name),
            Self::ClientMetrics => describe_client_metrics_config(name),
            Self::Loggers => None,
        }
    }
}

/// The configs of a resource that were asked for; one that nobody knows is left out.
fn describe(
    cx: &Context,
    request: &DescribeConfigsRequest,
    asked: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let resource = Resource::find(cx, asked)?;
    // No keys and an empty list of keys both ask for all.
    let keys = asked.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let keys = keys.map(|keys| keys.iter().map(StrBytes::as_str).collect::<BTreeSet<_>>());
    let described: Vec<Described> = match (&resource, &keys) {
        (Resource::Loggers, keys) => {
            let is_asked =
                |logger: &Described| keys.as_ref().is_none_or(|keys| keys.contains(&*logger.name));
            cx.broker.config().describe_loggers().into_iter().filter(is_asked).collect()
        }
        (_, Some(keys)) => keys.iter().filter_map(|key| resource.describe(cx, key)).collect(),
        (_, None) => {
            resource.names().into_iter().filter_map(|key| resource.describe(cx, key)).collect()
        }
    };
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    Ok(described.into_iter().map(|one| on_the_wire(one, synonyms, documentation)).collect())
}

/// About what a config takes, in memory and on the wire together.
fn size_of_config(config: &DescribeConfigsResourceResult) -> usize {
    let length = |text: &Option<_>| text.as_deref().map_or(0, str::len);
    let synonym = |synonym: &DescribeConfigsSynonym| {
        size_of::<DescribeConfigsSynonym>() + synonym.name.len() + 2 * length(&synonym.value)
    };
    size_of::<DescribeConfigsResourceResult>()
        + config.name.len()
        + 2 * length(&config.value)
        + length(&config.documentation)
        + config.synonyms.iter().map(synonym).sum::<usize>()
}
