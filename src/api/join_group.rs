//! JoinGroup (key 11), versions 0-9.
//!
//! KIPs: 62 (rebalance timeout, v1), 394 (member id required, v4), 345 (static members, v5), 559
//! (protocol type and name in the answer, v7), 800 (reason, v8), 814 (skip assignment, v9).

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::error::group_error;
use super::names::{optional, shared, text};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{Error, JoinRequest, JoinResponse, Protocol};

/// `JoinGroup`.
pub(super) struct JoinGroup;

impl Api for JoinGroup {
    type Request = JoinGroupRequest;

    async fn handle(cx: Context, request: JoinGroupRequest) -> Answer<JoinGroupResponse> {
        let version = cx.version;
        let member_id = request.member_id.clone();
        let reply = cx.broker.groups().join(join_request(&cx, request));
        Answer::Later(Box::pin(async move {
            match reply.await {
                Ok(joined) => joined_response(version, joined),
                Err(error) => {
                    let assigned = match &error {
                        Error::MemberIdRequired(id) => text(id),
                        _ => member_id,
                    };
                    refused(version).with_error_code(group_error(&error)).with_member_id(assigned)
                }
            }
        }))
    }

    fn errors(response: &JoinGroupResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}

fn join_request(cx: &Context, request: JoinGroupRequest) -> JoinRequest {
    let protocol = |protocol: JoinGroupRequestProtocol| Protocol {
        name: shared(&protocol.name),
        metadata: protocol.metadata,
    };
    // v0 has no rebalance timeout of its own.
    let rebalance_timeout_ms = match cx.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    JoinRequest {
        group: shared(&request.group_id),
        member_id: shared(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        client_id: cx.client_id.clone(),
        client_host: format!("/{}", cx.session.peer.ip()).into(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: shared(&request.protocol_type),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        member_id_required: cx.version >= 4,
        can_skip_assignment: cx.version >= 9,
        reason: optional(request.reason.as_ref()),
    }
}

fn joined_response(version: i16, joined: JoinResponse) -> JoinGroupResponse {
    let member = |member: crate::group::types::JoinMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_metadata(member.metadata)
    };
    let mut response = refused(version)
        .with_generation_id(joined.generation)
        .with_leader(text(joined.leader.as_deref().unwrap_or("")))
        .with_member_id(text(&joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect());
    if let Some(name) = joined.protocol_name {
        response = response.with_protocol_name(Some(text(&name)));
    }
    if version >= 7 {
        response = response.with_protocol_type(joined.protocol_type.as_deref().map(text));
    }
    if version >= 9 {
        response = response.with_skip_assignment(joined.skip_assignment);
    }
    response
}

/// A response without a generation. The protocol name is nullable from v7 on.
fn refused(version: i16) -> JoinGroupResponse {
    let name = if version >= 7 { None } else { Some(text("")) };
    JoinGroupResponse::default().with_generation_id(-1).with_protocol_name(name)
}
