//! `DescribeGroups` (key 15), versions 0-6 (authorized operations, v3; static members, v4; an
//! unknown group is an error with words, KIP-1043, v6). Up to v5 an unknown group is shown as
//! "Dead".

use std::collections::HashSet;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::error::group_error;
use super::names::{TEXT_BYTES, operations, shared, text};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{DescribedGroup as Described, DescribedMember, Error};

/// `DescribeGroups`.
pub(super) struct DescribeGroups;

/// About what a member takes in memory on its way into an answer; its metadata and assignment are
/// shared with the group.
const MEMBER_BYTES: usize =
    size_of::<DescribedMember>() + size_of::<DescribedGroupMember>() + 4 * TEXT_BYTES;

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;

    async fn handle(cx: Context, request: DescribeGroupsRequest) -> Answer<DescribeGroupsResponse> {
        let version = cx.version;
        let operations = if request.include_authorized_operations {
            operations::GROUP
        } else {
            operations::NOT_ASKED
        };
        let groups = cx.broker.groups();
        let members = request.groups.iter().map(|group| groups.size(group).members).sum::<usize>();
        let room = cx.room(members * MEMBER_BYTES).await;
        let mut replies = Vec::with_capacity(request.groups.len());
        let mut seen = HashSet::new();
        for group in request.groups.into_iter().filter(|group| seen.insert(group.clone())) {
            let reply = groups.describe(&shared(&group));
            replies.push((group, reply));
        }
        Answer::Later(Box::pin(async move {
            let mut groups = Vec::with_capacity(replies.len());
            for (group, reply) in replies {
                let described = described(version, group, reply.await);
                // About a group that cannot be described there is nothing to be allowed.
                groups.push(match described.error_code {
                    0 => described.with_authorized_operations(operations),
                    _ => described,
                });
            }
            DescribeGroupsResponse::default().with_groups(groups)
        }))
        .within(room)
    }

    fn errors(response: &DescribeGroupsResponse, tally: &mut Tally) {
        response.groups.iter().for_each(|group| tally.note(group.error_code));
    }
}

fn described(version: i16, id: GroupId, outcome: Result<Described, Error>) -> DescribedGroup {
    let response = DescribedGroup::default().with_group_id(id);
    match outcome {
        Ok(group) => response
            .with_group_state(text(group.state.name()))
            .with_protocol_type(text(&group.protocol_type))
            .with_protocol_data(text(&group.protocol_name))
            .with_members(group.members.into_iter().map(|one| member(version, one)).collect()),
        Err(Error::GroupIdNotFound) if version < 6 => response.with_group_state(text("Dead")),
        Err(error) => {
            let response = response.with_error_code(group_error(&error));
            if version < 6 {
                return response;
            }
            let dead = matches!(error, Error::GroupIdNotFound);
            response
                .with_group_state(text(if dead { "Dead" } else { "" }))
                .with_error_message(Some(text(&error.to_string())))
        }
    }
}

fn member(version: i16, member: DescribedMember) -> DescribedGroupMember {
    let response = DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version < 4 {
        return response;
    }
    response.with_group_instance_id(member.instance_id.as_deref().map(text))
}
