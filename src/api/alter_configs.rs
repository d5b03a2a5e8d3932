//! `AlterConfigs` (key 33), versions 0-2: replaces all configs of a topic or of this broker that
//! are set. Deprecated since KIP-339; kafkajs and sarama still use it.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::configs::{Asked, Edit, Operation, alter};
use super::names::text;
use super::{Answer, Api, Context, Tally};

/// `AlterConfigs`.
pub(super) struct AlterConfigs;

impl Api for AlterConfigs {
    type Request = AlterConfigsRequest;

    async fn handle(cx: Context, request: AlterConfigsRequest) -> Answer<AlterConfigsResponse> {
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
        Answer::Now(AlterConfigsResponse::default().with_responses(answers.collect()))
    }

    fn errors(response: &AlterConfigsResponse, tally: &mut Tally) {
        response.responses.iter().for_each(|resource| tally.note(resource.error_code));
    }
}

fn asked(resource: AlterConfigsResource) -> Asked {
    let edits = resource.configs.into_iter().map(|config| Edit {
        key: config.name,
        operation: Some(Operation::Set),
        value: config.value,
    });
    Asked {
        kind: resource.resource_type,
        name: resource.resource_name,
        edits: edits.collect(),
        replaces: true,
    }
}
