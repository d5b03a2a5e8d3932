//! FindCoordinator (key 10), versions 0-6.
//!
//! KIPs: 699 (a batch of keys, v4), 890 (v5), 932 (share groups' keys, v6). This broker coordinates
//! every group. The first look-up creates `__consumer_offsets`. Transactions and share groups are
//! not served yet: their keys answer INVALID_REQUEST, which no client retries.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::error::topic_error;
use super::names::{broker_id, text};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `FindCoordinator`.
pub(super) struct FindCoordinator;

/// The key type of a group.
const GROUP: i8 = 0;
/// The key type of a transactional id.
const TRANSACTION: i8 = 1;
/// From this version on a request carries several keys.
const BATCH_FROM: i16 = 4;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;

    async fn handle(
        cx: Context,
        request: FindCoordinatorRequest,
    ) -> Answer<FindCoordinatorResponse> {
        let outcome = available(&cx, request.key_type).await;
        let response = FindCoordinatorResponse::default();
        if cx.version >= BATCH_FROM {
            let answer = |key| coordinator(&cx, key, outcome.as_ref());
            let coordinators = request.coordinator_keys.into_iter().map(answer).collect();
            return Answer::Now(response.with_coordinators(coordinators));
        }
        let one = coordinator(&cx, request.key, outcome.as_ref());
        let message = one.error_message.filter(|_| cx.version >= 1);
        Answer::Now(
            response
                .with_error_code(one.error_code)
                .with_error_message(message)
                .with_node_id(one.node_id)
                .with_host(one.host)
                .with_port(one.port),
        )
    }

    fn errors(response: &FindCoordinatorResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        response.coordinators.iter().for_each(|one| tally.note(one.error_code));
    }
}

/// Whether coordinators of this type are here, or why not.
async fn available(cx: &Context, key_type: i8) -> Result<(), (ErrorCode, String)> {
    match key_type {
        GROUP => cx
            .broker
            .ensure_offsets_topic()
            .await
            .map_err(|error| (topic_error(&error), error.to_string())),
        TRANSACTION => {
            let message = "transactions are not served yet; unset transactional.id";
            Err((ErrorCode::InvalidRequest, message.to_owned()))
        }
        other => {
            let message = format!("coordinators of type {other} are not served");
            Err((ErrorCode::InvalidRequest, message))
        }
    }
}

fn coordinator(
    cx: &Context,
    key: StrBytes,
    outcome: Result<&(), &(ErrorCode, String)>,
) -> Coordinator {
    let answer = Coordinator::default().with_key(key);
    match outcome {
        Ok(()) => {
            let address = cx.broker.advertised(&cx.session.listener);
            answer
                .with_node_id(broker_id(cx.broker.node_id()))
                .with_host(text(&address.host))
                .with_port(i32::from(address.port))
        }
        Err((code, message)) => answer
            .with_node_id(broker_id(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message(Some(text(message))),
    }
}
