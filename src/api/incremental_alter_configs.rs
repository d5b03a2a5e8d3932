//! `IncrementalAlterConfigs` (key 44), versions 0-1 (KIP-339): sets, removes and edits single
//! configs of topics and of this broker.
//!
//! All resources change in one metadata entry, and what they change acts when the answer leaves.

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::configs::{Asked, Edit, Operation, alter};
use super::names::text;
use super::{Answer, Api, Context, Tally};

/// `IncrementalAlterConfigs`.
pub(super) struct IncrementalAlterConfigs;

impl Api for IncrementalAlterConfigs {
    type Request = IncrementalAlterConfigsRequest;

    async fn handle(
        cx: Context,
        request: IncrementalAlterConfigsRequest,
    ) -> Answer<IncrementalAlterConfigsResponse> {
        let asked: Vec<Asked> = request.resources.into_iter().map(asked).collect();
        let outcomes = alter(&cx, &asked, request.validate_only).await;
        let answers = asked.into_iter().zip(outcomes).map(|(asked, outcome)| {
            let answer = AlterConfigsResourceResponse::default()
                .with_resource_type(asked.kind)
                .with_resource_name(asked.name);
            match outcome {
                Ok(()) => answer.with_error_message(None),
                Err((code, message)) => {
                    answer.with_error_code(code.code()).with_error_message(Some(text(&message)))
                }
            }
        });
        Answer::Now(IncrementalAlterConfigsResponse::default().with_responses(answers.collect()))
    }

    fn errors(response: &IncrementalAlterConfigsResponse, tally: &mut Tally) {
        response.responses.iter().for_each(|resource| tally.note(resource.error_code));
    }
}

fn asked(resource: AlterConfigsResource) -> Asked {
    let edits = resource.configs.into_iter().map(|config| Edit {
        key: config.name,
        operation: Operation::of_id(config.config_operation),
        value: config.value,
    });
    Asked {
        kind: resource.resource_type,
        name: resource.resource_name,
        edits: edits.collect(),
        replaces: false,
    }
}
