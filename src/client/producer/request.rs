//! One Produce request: some batches of a topic, for the node that leads their partitions.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::{Cluster, ClusterError, Target};
use super::queue::{Batch, Identity};
use super::{Acks, ProducerOptions};
use crate::protocol::batch::{BatchBuilder, ProducerRef};
use crate::protocol::compression::Compression;
use crate::protocol::produce::MAX_VERSION;
use crate::protocol::record::Header;
use crate::protocol::topic::FIRST_TOPIC_ID_VERSION;
use crate::protocol::versions::{PRODUCE_MIN_SERVED, VersionRange};
use crate::task;

/// The first version of Produce that allows Zstandard (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;
/// How long a leader may wait for its followers (`request.timeout.ms`).
const TIMEOUT_MS: i32 = 30_000;
/// More than this is compressed where it holds nobody up.
const INLINE_BYTES: usize = 64 << 10;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) partition: i32,
    pub(super) identity: Option<Identity>,
    pub(super) batch: Batch,
}

/// What is asked of a node.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) node: i32,
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
    pub(super) parts: Vec<Part>,
}

/// What a leader says of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) code: i16,
    pub(super) message: Option<String>,
    pub(super) base_offset: i64,
    /// The time of the append, where that is the records' time.
    pub(super) append_time: Option<i64>,
    /// The records that are wrong, by their position, and why.
    pub(super) wrong: Vec<(usize, Option<String>)>,
}

/// A request and what became of it: for each of its batches what the leader says, or why it says
/// nothing.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) request: Request,
    pub(super) outcome: Result<Vec<Row>, ClusterError>,
}

/// Sends the request and waits for its answer. With acks=0 there is none, and all went well.
pub(super) async fn send(
    cluster: Cluster,
    options: ProducerOptions,
    mut request: Request,
) -> Answered {
    let bytes: usize = request.parts.iter().map(|part| part.batch.bytes()).sum();
    let codec = options.compression;
    let encoded: Vec<(i32, Bytes)> = if codec == Compression::None || bytes <= INLINE_BYTES {
        encode_all(&request.parts, codec)
    } else {
        let parts = std::mem::take(&mut request.parts);
        let work = task::blocking(move || (encode_all(&parts, codec), parts));
        let (encoded, parts) = work.await.expect("encoding does not panic");
        request.parts = parts;
        encoded
    };
    let outcome = ask(&cluster, &options, &request, &encoded).await;
    Answered { request, outcome }
}

async fn ask(
    cluster: &Cluster,
    options: &ProducerOptions,
    request: &Request,
    encoded: &[(i32, Bytes)],
) -> Result<Vec<Row>, ClusterError> {
    let versions = versions(request.topic_id, options.compression);
    let acks = match options.acks {
        Acks::None => 0,
        Acks::Leader => 1,
        Acks::All => -1,
    };
    let data = |(index, records): &(i32, Bytes)| {
        PartitionProduceData::default().with_index(*index).with_records(Some(records.clone()))
    };
    let name = TopicName(StrBytes::from_string(request.topic.clone()));
    let build = |version: i16| {
        let topic = if version < FIRST_TOPIC_ID_VERSION {
            TopicProduceData::default().with_name(name.clone())
        } else {
            TopicProduceData::default().with_topic_id(request.topic_id)
        };
        let topic = topic.with_partition_data(encoded.iter().map(data).collect());
        ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(vec![topic])
    };
    let target = Target::Node(request.node);
    if options.acks == Acks::None {
        Box::pin(cluster.tell(target, versions, build)).await?;
        return Ok(request.parts.iter().map(|_| Row::NO_ANSWER).collect());
    }
    let response = Box::pin(cluster.ask(target, versions, build)).await?;
    let rows: Vec<&PartitionProduceResponse> =
        response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
    let of = |part: &Part| {
        let found = rows.iter().find(|row| row.index == part.partition);
        found.map_or(Row::MISSING, |found| Row::of(found))
    };
    Ok(request.parts.iter().map(of).collect())
}

/// The versions in which this can be said.
fn versions(topic_id: Uuid, codec: Compression) -> VersionRange {
    let min = if codec == Compression::Zstd { FIRST_ZSTD_VERSION } else { PRODUCE_MIN_SERVED };
    let max = if topic_id.is_nil() { FIRST_TOPIC_ID_VERSION - 1 } else { MAX_VERSION };
    VersionRange::new(min, max)
}

fn encode_all(parts: &[Part], codec: Compression) -> Vec<(i32, Bytes)> {
    let encode = |part: &Part| (part.partition, encode(&part.batch, part.identity, codec));
    parts.iter().map(encode).collect()
}

fn encode(batch: &Batch, identity: Option<Identity>, codec: Compression) -> Bytes {
    let producer = identity.map_or(ProducerRef::NONE, |it| ProducerRef {
        id: it.id,
        epoch: it.epoch,
        sequence: it.sequence,
    });
    let mut builder = BatchBuilder::new().producer(producer);
    for pending in &batch.records {
        let record = &pending.record;
        let headers = record.headers.iter();
        let headers: Vec<Header<'_>> = headers
            .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.append(pending.timestamp, key, value, &headers);
    }
    builder.build_compressed(codec)
}

impl Row {
    const NO_ANSWER: Row =
        Row { code: 0, message: None, base_offset: -1, append_time: None, wrong: Vec::new() };
    /// The answer says nothing of the partition.
    const MISSING: Row =
        Row { code: -1, message: None, base_offset: -1, append_time: None, wrong: Vec::new() };

    fn of(row: &PartitionProduceResponse) -> Row {
        let text = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
        let wrong = row.record_errors.iter().filter_map(|it| {
            let position = usize::try_from(it.batch_index).ok()?;
            Some((position, text(&it.batch_index_error_message)))
        });
        Row {
            code: row.error_code,
            message: text(&row.error_message),
            base_offset: row.base_offset,
            append_time: (row.log_append_time_ms >= 0).then_some(row.log_append_time_ms),
            wrong: wrong.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_an_id_and_a_codec_of_later_have_their_versions() {
        let id = Uuid::from_u128(7);
        assert_eq!(versions(id, Compression::Gzip), VersionRange::new(3, 13));
        assert_eq!(versions(Uuid::nil(), Compression::None), VersionRange::new(3, 12));
        assert_eq!(versions(Uuid::nil(), Compression::Zstd), VersionRange::new(7, 12));
    }

    #[test]
    fn what_is_wrong_is_read_with_the_record_it_is_of() {
        use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
        let said = StrBytes::from_static_str("no key");
        let wrong = |at| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(at)
                .with_batch_index_error_message(Some(said.clone()))
        };
        let row = PartitionProduceResponse::default()
            .with_error_code(87)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_record_errors(vec![wrong(2), wrong(-1)]);
        let row = Row::of(&row);
        assert_eq!((row.code, row.append_time), (87, None));
        assert_eq!(row.wrong, [(2, Some("no key".to_owned()))]);
    }
}
