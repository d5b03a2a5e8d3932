//! `ListGroups` (key 16), versions 0-5 (state filter, KIP-518, v4; type filter, KIP-848, v5).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::error::group_error;
use super::names::{TEXT_BYTES, shared, text};
use super::{Answer, Api, Context, Tally};
use crate::group::types::{CLASSIC, ListRequest, ListedGroup as Listed};

/// `ListGroups`.
pub(super) struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;

    async fn handle(cx: Context, request: ListGroupsRequest) -> Answer<ListGroupsResponse> {
        let version = cx.version;
        let list = ListRequest {
            states: request.states_filter.iter().map(shared).collect(),
            types: request.types_filter.iter().map(shared).collect(),
        };
        cx.broker.groups().load_all().await;
        let each = size_of::<Listed>() + size_of::<ListedGroup>() + 2 * TEXT_BYTES;
        let room = cx.room(cx.broker.groups().count() * each).await;
        let response = ListGroupsResponse::default();
        let groups = match cx.broker.groups().list(&list) {
            Ok(groups) => groups,
            Err(error) => return Answer::Now(response.with_error_code(group_error(&error))),
        };
        let listed = groups.iter().map(|group| {
            let mut listed = ListedGroup::default()
                .with_group_id(GroupId(text(&group.group)))
                .with_protocol_type(text(&group.protocol_type));
            if version >= 4 {
                listed = listed.with_group_state(text(group.state.name()));
            }
            if version >= 5 {
                listed = listed.with_group_type(text(CLASSIC));
            }
            listed
        });
        Answer::Now(response.with_groups(listed.collect())).within(room)
    }

    fn errors(response: &ListGroupsResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
