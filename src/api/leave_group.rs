//! LeaveGroup (key 13), versions 0-5 (a list of members with instance ids, KIP-345, v3; reason,
//! KIP-800, v5). Up to v2 the one member's error is the response's own.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::error::group_error;
use super::names::{optional, shared, text};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{LeaveRequest, LeavingMember};

/// `LeaveGroup`.
pub(super) struct LeaveGroup;

/// From this version on a request lists members.
const LIST_FROM: i16 = 3;

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;

    async fn handle(cx: Context, request: LeaveGroupRequest) -> Answer<LeaveGroupResponse> {
        let version = cx.version;
        let listed = |member: MemberIdentity| LeavingMember {
            member_id: shared(&member.member_id),
            instance_id: optional(member.group_instance_id.as_ref()),
            reason: optional(member.reason.as_ref()),
        };
        let members = if version >= LIST_FROM {
            request.members.into_iter().map(listed).collect()
        } else {
            let member_id = shared(&request.member_id);
            vec![LeavingMember { member_id, instance_id: None, reason: None }]
        };
        let leave = LeaveRequest { group: shared(&request.group_id), members };
        let reply = cx.broker.groups().leave(leave);
        Answer::Later(Box::pin(async move {
            let response = LeaveGroupResponse::default();
            let left = match reply.await {
                Ok(left) => left,
                Err(error) => return response.with_error_code(group_error(&error)),
            };
            let code = |result: &Result<(), crate::group::Error>| {
                result.as_ref().map_or_else(group_error, |()| 0)
            };
            if version < LIST_FROM {
                let first = left.first().map_or(0, |member| code(&member.result));
                return response.with_error_code(first);
            }
            let answered = left.iter().map(|member| {
                MemberResponse::default()
                    .with_member_id(text(&member.member_id))
                    .with_group_instance_id(member.instance_id.as_deref().map(text))
                    .with_error_code(code(&member.result))
            });
            response.with_members(answered.collect())
        }))
    }

    fn errors(response: &LeaveGroupResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        response.members.iter().for_each(|member| tally.note(member.error_code));
    }
}
