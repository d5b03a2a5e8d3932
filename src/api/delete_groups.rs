//! DeleteGroups (key 42), versions 0-2 (KIP-229).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::error::group_error;
use super::names::shared;
use super::{Answer, Api, Context, Tally};

/// `DeleteGroups`.
pub(super) struct DeleteGroups;

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;

    async fn handle(cx: Context, request: DeleteGroupsRequest) -> Answer<DeleteGroupsResponse> {
        let mut replies = Vec::with_capacity(request.groups_names.len());
        for group in request.groups_names {
            let reply = cx.broker.groups().delete(&shared(&group));
            replies.push((group, reply));
        }
        Answer::Later(Box::pin(async move {
            let mut results = Vec::with_capacity(replies.len());
            for (group, reply) in replies {
                let code = reply.await.map_or_else(|error| group_error(&error), |()| 0);
                let result = DeletableGroupResult::default().with_group_id(group);
                results.push(result.with_error_code(code));
            }
            DeleteGroupsResponse::default().with_results(results)
        }))
    }

    fn errors(response: &DeleteGroupsResponse, tally: &mut Tally) {
        response.results.iter().for_each(|group| tally.note(group.error_code));
    }
}
