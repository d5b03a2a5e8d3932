//! The broker's back end: one file per Kafka API, one row per API in the route table.
//!
//! The front door hands over a request with its header parsed; the row decodes the body behind the
//! guard (DESIGN D9), the handler answers, and the row encodes. Handlers speak Kafka's message
//! types and map inner errors to Kafka's codes through [`mod@error`]; nothing below this room knows
//! either.
//!
//! **Invariant:** a handler's first stage runs in the order of the connection's requests, and
//! whatever only waits is an [`Answer::Later`] (DESIGN D11). A request that changes metadata
//! answers `Now`, so the connection's next request sees its effect.

mod alter_configs;
mod alter_partition_reassignments;
mod configs;
mod context;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
pub mod error;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod names;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod topics;
mod update_features;

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::protocol::{Encodable, Request as Message};

use crate::broker::Broker;
use crate::budget::{
    BytePool, Charge, Pool, SMALL_REQUEST_BYTES, TooLarge, UNCHARGED_RESPONSE_BYTES,
};
use crate::protocol::guard::{self, Limits};
use crate::protocol::versions;
use crate::server::service::{
    ApiVersions, BoxFuture, Disconnect, Piece, Reply, Request, Response, Service, Session,
};

pub(crate) use context::Context;

/// The response message of an API.
pub(crate) type ResponseOf<A> = <<A as Api>::Request as Message>::Response;

/// One Kafka API whose bodies are the crate's messages.
pub(crate) trait Api {
    /// The request message; it names the key and the response.
    type Request: Message<Response: Send + Sync> + Send + 'static;

    /// Answers one request.
    fn handle(
        cx: Context,
        request: Self::Request,
    ) -> impl Future<Output = Answer<ResponseOf<Self>>> + Send;

    /// Notes every error code in the response, for the metrics.
    fn errors(response: &ResponseOf<Self>, tally: &mut Tally);
}

/// What a handler answers.
pub(crate) enum Answer<R> {
    /// At once.
    Now(R),
    /// When the future is ready; the connection's later requests go on meanwhile.
    Later(BoxFuture<R>),
    /// As the answer inside, for which the handler took [`Context::room`] before it was built.
    Within(Charge, Box<Answer<R>>),
}

impl<R> Answer<R> {
    /// This answer with the room that was taken for it. For answers that may be far larger than
    /// their requests: many that wait for memory must not all be built already.
    pub(crate) fn within(self, room: Charge) -> Self {
        Answer::Within(room, Box::new(self))
    }
}

/// Error codes of a response and how often each occurs.
#[derive(Debug, Default)]
pub(crate) struct Tally(Vec<(i16, u32)>);

impl Tally {
    /// Notes a code; 0 (no error) is not listed.
    pub(crate) fn note(&mut self, code: i16) {
        if code == 0 {
            return;
        }
        match self.0.iter_mut().find(|(seen, _)| *seen == code) {
            Some((_, count)) => *count += 1,
            None => self.0.push((code, 1)),
        }
    }

    pub(crate) fn into_inner(self) -> Vec<(i16, u32)> {
        self.0
    }
}

/// The broker behind the front door.
#[derive(Debug)]
pub struct BrokerService {
    broker: Arc<Broker>,
}

impl BrokerService {
    /// The service of `broker`.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

impl Service for BrokerService {
    type Connection = ();

    fn api_versions(&self) -> ApiVersions {
        ApiVersions {
            apis: versions::APIS.iter().map(advertised).collect(),
            supported_features: Vec::new(),
            finalized_features: Vec::new(),
            finalized_features_epoch: -1,
        }
    }

    fn connect(&self, _: &Arc<Session>) {}

    async fn call(
        &self,
        _: &Arc<()>,
        session: &Arc<Session>,
        request: Request,
    ) -> Result<Reply, Disconnect> {
        let cx = Context::new(Arc::clone(&self.broker), Arc::clone(session), &request);
        Box::pin(dispatch(cx, request)).await
    }
}

macro_rules! routes {
    ($($api:ty),* $(,)?) => {
        /// The route table: sends a request to its API's row.
        async fn dispatch(cx: Context, request: Request) -> Result<Reply, Disconnect> {
            match request.api_key {
                produce::KEY => produce::call(cx, request).await,
                fetch::KEY => fetch::call(cx, request).await,
                $(<<$api as Api>::Request as Message>::KEY => serve::<$api>(cx, request).await,)*
                key => Err(Disconnect::UnsupportedVersion {
                    api: name(key),
                    version: request.api_version,
                }),
            }
        }

        /// The keys in the table.
        #[cfg(test)]
        fn routed_keys() -> Vec<i16> {
            vec![
                produce::KEY,
                fetch::KEY,
                $(<<$api as Api>::Request as Message>::KEY,)*
            ]
        }
    };
}

routes! {
    list_offsets::ListOffsets,
    metadata::Metadata,
    offset_commit::OffsetCommit,
    offset_fetch::OffsetFetch,
    find_coordinator::FindCoordinator,
    join_group::JoinGroup,
    heartbeat::Heartbeat,
    leave_group::LeaveGroup,
    sync_group::SyncGroup,
    describe_groups::DescribeGroups,
    list_groups::ListGroups,
    create_topics::CreateTopics,
    delete_topics::DeleteTopics,
    delete_records::DeleteRecords,
    init_producer_id::InitProducerId,
    offset_for_leader_epoch::OffsetForLeaderEpoch,
    describe_configs::DescribeConfigs,
    alter_configs::AlterConfigs,
    describe_log_dirs::DescribeLogDirs,
    create_partitions::CreatePartitions,
    delete_groups::DeleteGroups,
    elect_leaders::ElectLeaders,
    incremental_alter_configs::IncrementalAlterConfigs,
    alter_partition_reassignments::AlterPartitionReassignments,
    list_partition_reassignments::ListPartitionReassignments,
    offset_delete::OffsetDelete,
    describe_quorum::DescribeQuorum,
    update_features::UpdateFeatures,
    describe_cluster::DescribeCluster,
    list_config_resources::ListConfigResources,
    describe_topic_partitions::DescribeTopicPartitions,
}

/// Decodes, handles and encodes one request.
async fn serve<A: Api>(cx: Context, request: Request) -> Result<Reply, Disconnect> {
    let version = request.api_version;
    let pool = cx.broker.budget().pool(Pool::Send).clone();
    let (message, charge) = decode::<A::Request>(&cx, request).await?;
    let answer = Box::pin(A::handle(cx, message)).await;
    // What a small parked request still needs is small: a rebalance must not hold the memory that
    // the requests which end it are read into.
    let charge = (charge.bytes() > SMALL_REQUEST_BYTES).then_some(charge);
    let (mut answer, mut room) = (answer, Charge::none());
    while let Answer::Within(taken, inner) = answer {
        room.merge(taken);
        answer = *inner;
    }
    match answer {
        Answer::Now(response) => encode::<A>(&pool, room, version, &response).await.map(Reply::Now),
        Answer::Later(future) => Ok(Reply::Later(Box::pin(async move {
            let response = future.await;
            drop(charge);
            encode::<A>(&pool, room, version, &response).await
        }))),
        Answer::Within(..) => unreachable!("taken apart above"),
    }
}

/// Decodes a body behind the guard and charges what it became. The frame's own charge is given
/// back first: whoever waits for memory holds none of the same pool.
pub(crate) async fn decode<R: Message>(
    cx: &Context,
    request: Request,
) -> Result<(R, Charge), Disconnect> {
    let malformed = |reason: String| Disconnect::Malformed {
        api: name(R::KEY),
        version: request.api_version,
        reason,
    };
    let size = guard::check(R::KEY, request.api_version, &request.body, Limits::CONTROL)
        .map_err(|refusal| malformed(refusal.to_string()))?;
    let needed = request.body.len() + size.decoded_bytes;
    drop(request.charge);
    let charge = take_memory(cx, needed).await.map_err(|refusal| malformed(refusal.to_string()))?;
    let (message, _) = guard::decode::<R>(request.api_version, &request.body, Limits::CONTROL)
        .map_err(|refusal| malformed(refusal.to_string()))?;
    Ok((message, charge))
}

/// Waits for memory that a request needs while it is handled.
pub(crate) async fn take_memory(cx: &Context, bytes: usize) -> Result<Charge, TooLarge> {
    memory_pool(cx, bytes).take(bytes).await
}

/// The pool that `bytes` are charged to while a request is handled.
fn memory_pool(cx: &Context, bytes: usize) -> &BytePool {
    let pool = if bytes <= SMALL_REQUEST_BYTES { Pool::Small } else { Pool::Receive };
    cx.broker.budget().pool(pool)
}

/// A control-plane response is at most this large, as a decoded request is.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Waits for room for a response of `bytes`; see [`Context::room`].
async fn response_room(pool: &BytePool, bytes: usize) -> Charge {
    match bytes {
        ..UNCHARGED_RESPONSE_BYTES => Charge::none(),
        _ => pool.take_up_to(bytes).await,
    }
}

/// Room for a response of `bytes` that must not wait for readers: what is not free is owed, and the
/// slowest readers are closed for it. For responses that are little more than their requests.
fn room_now(cx: &Context, bytes: usize) -> Charge {
    match bytes {
        ..UNCHARGED_RESPONSE_BYTES => Charge::none(),
        _ => cx.broker.budget().pool(Pool::Send).take_or_owe(bytes),
    }
}

/// Makes the room that was taken for a response the one for its `bytes`.
async fn resize(pool: &BytePool, mut room: Charge, bytes: usize) -> Charge {
    if bytes.min(pool.capacity()) <= room.bytes() {
        return room.split(bytes.min(pool.capacity())).unwrap_or_default();
    }
    // Whoever waits for memory holds none of the same pool.
    drop(room);
    response_room(pool, bytes).await
}

/// Encodes a response, charged to `pool` in place of `room`. A field that the version cannot carry
/// is a bug of the handler: the connection is closed, since no parseable answer is left.
async fn encode<A: Api>(
    pool: &BytePool,
    room: Charge,
    version: i16,
    response: &ResponseOf<A>,
) -> Result<Response, Disconnect> {
    let api = name(<A::Request as Message>::KEY);
    // The line about the connection's end tells it.
    let failed = |cause: &dyn std::fmt::Display| {
        Disconnect::Unavailable(format!("{api} v{version} response not encodable: {cause}"))
    };
    let size = response.compute_size(version).map_err(|cause| failed(&cause))?;
    if size > MAX_RESPONSE_BYTES {
        return Err(failed(&format!(
            "it has {size} bytes and at most {MAX_RESPONSE_BYTES} are allowed; ask for less at once"
        )));
    }
    let charge = resize(pool, room, size).await;
    let mut body = BytesMut::with_capacity(size);
    response.encode(&mut body, version).map_err(|cause| failed(&cause))?;
    let mut tally = Tally::default();
    A::errors(response, &mut tally);
    let pieces = vec![Piece::Ready(body.freeze())];
    Ok(Response { pieces, errors: tally.into_inner(), charge })
}

fn advertised(api: &versions::Api) -> (i16, i16, i16) {
    (api.key as i16, api.advertised.min, api.advertised.max)
}

/// An API's name, for messages.
fn name(key: i16) -> &'static str {
    versions::find(key).map_or("unknown", |api| api.name)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kafka_protocol::messages::MetadataResponse;
    use kafka_protocol::messages::metadata_response::MetadataResponseTopic;

    use super::*;

    fn topics(count: usize) -> MetadataResponse {
        let topic = |number| {
            let name = names::topic_name(&format!("{number:08}"));
            MetadataResponseTopic::default().with_name(Some(name))
        };
        MetadataResponse::default().with_topics((0..count).map(topic).collect())
    }

    async fn encoded(pool: &BytePool, room: Charge, count: usize) -> Response {
        encode::<metadata::Metadata>(pool, room, 12, &topics(count)).await.unwrap()
    }

    #[tokio::test]
    async fn a_response_is_charged_with_its_size_as_long_as_it_is_there() {
        let pool = BytePool::new(Pool::Send, 1 << 20);
        let small = encoded(&pool, Charge::none(), 1).await;
        assert_eq!(pool.used(), 0, "{} bytes are not worth it", small.len());
        for taken in [0, 10, 900_000] {
            let room = pool.take(taken).await.unwrap();
            let large = encoded(&pool, room, 1_000).await;
            assert!(large.len() > 10_000);
            assert_eq!(pool.used(), large.len());
            drop(large);
            assert_eq!(pool.used(), 0);
        }
    }

    #[tokio::test]
    async fn a_response_waits_for_room_and_one_above_the_pool_takes_all_of_it() {
        let pool = BytePool::new(Pool::Send, 20_000);
        let held = pool.take(1).await.unwrap();
        let room = pool.take(19_999).await.unwrap();
        let mut waiting = std::pin::pin!(encoded(&pool, room, 10_000));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(pool.is_exhausted(), "the relief sees that somebody waits");
        drop(held);
        let response = waiting.await;
        assert!(response.len() > 100_000);
        assert_eq!(pool.used(), 20_000);
    }

    #[test]
    fn every_advertised_api_has_a_row_and_every_row_is_advertised() {
        const API_VERSIONS: i16 = 18;
        let mut routed = routed_keys();
        // ApiVersions is answered by the front door.
        routed.push(API_VERSIONS);
        routed.sort_unstable();
        let mut advertised: Vec<i16> = versions::APIS.iter().map(|api| api.key as i16).collect();
        advertised.sort_unstable();
        assert_eq!(routed, advertised);
    }
}
