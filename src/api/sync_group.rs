//! SyncGroup (key 14), versions 0-5 (static members, v3; protocol type and name, KIP-559, v5).

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::error::group_error;
use super::names::{optional, shared, text};
use super::{Answer, Api, Context, Tally};
use crate::group::types::SyncRequest;

/// `SyncGroup`.
pub(super) struct SyncGroup;

impl Api for SyncGroup {
    type Request = SyncGroupRequest;

    async fn handle(cx: Context, request: SyncGroupRequest) -> Answer<SyncGroupResponse> {
        let version = cx.version;
        let assignments = request
            .assignments
            .into_iter()
            .map(|assigned| (shared(&assigned.member_id), assigned.assignment))
            .collect();
        let sync = SyncRequest {
            group: shared(&request.group_id),
            generation: request.generation_id,
            member_id: shared(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
            protocol_type: optional(request.protocol_type.as_ref()),
            protocol_name: optional(request.protocol_name.as_ref()),
            assignments,
        };
        let reply = cx.broker.groups().sync(sync);
        Answer::Later(Box::pin(async move {
            let response = SyncGroupResponse::default();
            match reply.await {
                Err(error) => response.with_error_code(group_error(&error)),
                Ok(synced) if version >= 5 => response
                    .with_protocol_type(synced.protocol_type.as_deref().map(text))
                    .with_protocol_name(synced.protocol_name.as_deref().map(text))
                    .with_assignment(synced.assignment),
                Ok(synced) => response.with_assignment(synced.assignment),
            }
        }))
    }

    fn errors(response: &SyncGroupResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
