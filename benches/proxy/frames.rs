//! Requests in the versions that clients of today send, and the answers to them.
//!
//! Produce from version 10 on and Fetch from version 16 on are those in whose responses a proxy has
//! to look for the upstream's addresses; responses of older ones it can pass on as they are.

use std::io;

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::replay::Connection;
use super::wire::{self, Frame, Records, fault};

/// The last version of Produce that names topics, which needs no topic id.
pub(crate) const PRODUCE: i16 = 12;
/// A version of Fetch that current clients send.
pub(crate) const FETCH: i16 = 17;
/// A version of Produce whose responses have no addresses.
pub(crate) const PRODUCE_PLAIN: i16 = 9;
/// A version of Fetch whose responses have no addresses.
pub(crate) const FETCH_PLAIN: i16 = 15;
const METADATA: i16 = 12;
/// The id of the only node, at both upstreams.
pub(crate) const NODE: i32 = 1;
/// What the stand-in advertises.
const ADVERTISED: [(ApiKey, i16, i16); 4] = [
    (ApiKey::Produce, 0, 13),
    (ApiKey::Fetch, 4, 18),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::ApiVersions, 0, 4),
];

/// A topic under both its names.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) id: Uuid,
}

/// The topic that the stand-in has.
pub(crate) const TOPIC: Topic = Topic { name: "proxy", id: Uuid::from_u128(1) };

impl Topic {
    fn wire_name(&self) -> TopicName {
        TopicName(StrBytes::from_static_str(self.name))
    }

    /// Asks `connection` for the topic's id.
    pub(crate) fn ask(name: &'static str, connection: &mut Connection) -> io::Result<Topic> {
        let unnamed = Topic { name, id: Uuid::nil() };
        let wanted = MetadataRequestTopic::default().with_name(Some(unnamed.wire_name()));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let mut frame = request_frame(ApiKey::Metadata, METADATA, &request)?;
        let body = connection.call(&mut frame)?;
        let mut body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
        let response = MetadataResponse::decode(&mut body, METADATA).map_err(undecodable)?;
        let topic = response.topics.first().filter(|topic| topic.error_code == 0);
        let topic = topic.ok_or_else(|| fault(format!("no topic {name:?}")))?;
        Ok(Topic { name, id: topic.topic_id })
    }
}

fn undecodable(error: impl std::fmt::Display) -> io::Error {
    fault(format!("a response cannot be decoded: {error}"))
}

/// A request with a flexible header, except `ApiVersions` 0.
fn request_frame<R: Encodable>(key: ApiKey, version: i16, request: &R) -> io::Result<Frame> {
    Frame::of(key as i16, version, |out| {
        if key.request_header_version(version) >= 2 {
            out.put_u8(0);
        }
        request.encode(out, version).map_err(|error| fault(format!("{key:?}: {error}")))
    })
}

/// `ApiVersions` in the version that everything answers.
pub(crate) fn api_versions() -> io::Result<Frame> {
    request_frame(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default())
}

/// Produce of one batch to partition 0, acknowledged by all replicas.
pub(crate) fn produce(version: i16, topic: &Topic, records: &Records) -> io::Result<Frame> {
    let partition = PartitionProduceData::default().with_records(Some(records.bytes.clone()));
    let data = TopicProduceData::default()
        .with_name(topic.wire_name())
        .with_partition_data(vec![partition]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data]);
    request_frame(ApiKey::Produce, version, &request)
}

/// Fetch of at most `bytes` of partition 0 from `offset`, without a session.
pub(crate) fn fetch(version: i16, topic: &Topic, offset: i64, bytes: i32) -> io::Result<Frame> {
    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes);
    let mut wanted = FetchTopic::default().with_partitions(vec![partition]);
    if version >= 13 {
        wanted = wanted.with_topic_id(topic.id);
    } else {
        wanted = wanted.with_topic(topic.wire_name());
    }
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(bytes)
        .with_session_epoch(-1)
        .with_topics(vec![wanted]);
    request_frame(ApiKey::Fetch, version, &request)
}

/// A whole response frame to `request`, with correlation id 0; `None` if nothing answers it.
pub(crate) fn answer(request: Request, port: u16) -> io::Result<Option<Bytes>> {
    let (key, version) = (request.key, request.version);
    Ok(Some(match key {
        ApiKey::Produce => response_frame(key, version, &produced(version))?,
        ApiKey::Fetch => response_frame(key, version, &fetched(version, request.fetch_bytes)?)?,
        ApiKey::Metadata => response_frame(key, version, &metadata(version, port))?,
        ApiKey::ApiVersions if version <= 4 => response_frame(key, version, &versions(0))?,
        // KIP-511: a version that is not known is answered with version 0.
        ApiKey::ApiVersions => response_frame(key, 0, &versions(35))?,
        _ => return Ok(None),
    }))
}

fn response_frame<R: Encodable>(key: ApiKey, version: i16, response: &R) -> io::Result<Bytes> {
    let mut out = vec![0; 8];
    if key.response_header_version(version) >= 1 {
        out.put_u8(0);
    }
    response.encode(&mut out, version).map_err(|error| fault(format!("{key:?}: {error}")))?;
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Bytes::from(out))
}

fn produced(version: i16) -> ProduceResponse {
    let partition =
        PartitionProduceResponse::default().with_base_offset(7).with_log_start_offset(0);
    let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
    let topic = match version {
        13.. => topic.with_topic_id(TOPIC.id),
        _ => topic.with_name(TOPIC.wire_name()),
    };
    ProduceResponse::default().with_responses(vec![topic])
}

fn fetched(version: i16, bytes: i32) -> io::Result<FetchResponse> {
    let records = wire::batch_of(usize::try_from(bytes).unwrap_or(0))?;
    let partition = PartitionData::default()
        .with_high_watermark(1 << 40)
        .with_last_stable_offset(1 << 40)
        .with_log_start_offset(0)
        .with_aborted_transactions(None)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(records.bytes));
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let topic = match version {
        13.. => topic.with_topic_id(TOPIC.id),
        _ => topic.with_topic(TOPIC.wire_name()),
    };
    Ok(FetchResponse::default().with_responses(vec![topic]))
}

fn metadata(version: i16, port: u16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE))
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(i32::from(port));
    let partition = MetadataResponsePartition::default()
        .with_leader_id(BrokerId(NODE))
        .with_replica_nodes(vec![BrokerId(NODE)])
        .with_isr_nodes(vec![BrokerId(NODE)]);
    let mut topic = MetadataResponseTopic::default()
        .with_name(Some(TOPIC.wire_name()))
        .with_partitions(vec![partition]);
    if version >= 10 {
        topic = topic.with_topic_id(TOPIC.id);
    }
    let response = MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]);
    match version {
        0 => response,
        1 => response.with_controller_id(BrokerId(NODE)),
        _ => response
            .with_controller_id(BrokerId(NODE))
            .with_cluster_id(Some(StrBytes::from_static_str("TidegateBenchStandIn"))),
    }
}

fn versions(error: i16) -> ApiVersionsResponse {
    let one = |(key, least, greatest): (ApiKey, i16, i16)| {
        let versions = ApiVersion::default().with_api_key(key as i16);
        versions.with_min_version(least).with_max_version(greatest)
    };
    let keys = ADVERTISED.into_iter().map(one).collect();
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys)
}

/// What the stand-in has to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    /// Fetch: how many record bytes are wanted.
    pub(crate) fetch_bytes: i32,
}

impl Request {
    /// Reads a request's frame without its length, and its correlation id.
    pub(crate) fn read(frame: &[u8]) -> io::Result<(Request, [u8; 4])> {
        let cut = || fault("a request is cut short");
        let short = |at: usize| frame.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        let key = i16::from_be_bytes(short(0).ok_or_else(cut)?);
        let version = i16::from_be_bytes(short(2).ok_or_else(cut)?);
        let correlation =
            frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
        let key = ApiKey::try_from(key).map_err(|()| fault(format!("no API has the key {key}")))?;
        let fetch_bytes = match key {
            ApiKey::Fetch => Request::fetch_bytes(frame, version).ok_or_else(cut)?,
            _ => 0,
        };
        Ok((Request { key, version, fetch_bytes }, correlation))
    }

    /// The wanted size stands after client id, tags, replica id, max wait and min bytes.
    fn fetch_bytes(frame: &[u8], version: i16) -> Option<i32> {
        let client = i16::from_be_bytes(frame.get(8..10)?.try_into().ok()?);
        let tags = usize::from(version >= 12);
        let replica = if version < 15 { 4 } else { 0 };
        let at = 10 + usize::try_from(client).unwrap_or(0) + tags + replica + 8;
        Some(i32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?))
    }
}
