//! Heartbeat (key 12), versions 0-4 (static members, v3).

use kafka_protocol::messages::{HeartbeatRequest as Message, HeartbeatResponse};

use super::error::group_error;
use super::names::{optional, shared};
use super::{Answer, Api, Context, Tally};
use crate::group::types::HeartbeatRequest;

/// `Heartbeat`.
pub(super) struct Heartbeat;

impl Api for Heartbeat {
    type Request = Message;

    async fn handle(cx: Context, request: Message) -> Answer<HeartbeatResponse> {
        let heartbeat = HeartbeatRequest {
            group: shared(&request.group_id),
            generation: request.generation_id,
            member_id: shared(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
        };
        let reply = cx.broker.groups().heartbeat(heartbeat);
        Answer::Later(Box::pin(async move {
            let code = reply.await.map_or_else(|error| group_error(&error), |()| 0);
            HeartbeatResponse::default().with_error_code(code)
        }))
    }

    fn errors(response: &HeartbeatResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
