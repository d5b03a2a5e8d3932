//! `ListConfigResources` (key 74), versions 0-1 (KIP-714 as `ListClientMetricsResources`; other
//! types, KIP-1142, v1).
//!
//! Client metrics and groups have no configuration of their own here, so that there is none to
//! list.

use std::collections::BTreeSet;

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::configs::kind;
use super::names::{TEXT_BYTES, text};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `ListConfigResources`.
pub(super) struct ListConfigResources;

/// Every type; what an empty list of version 1 asks for.
const TYPES: [i8; 5] =
    [kind::TOPIC, kind::BROKER, kind::BROKER_LOGGER, kind::CLIENT_METRICS, kind::GROUP];

impl Api for ListConfigResources {
    type Request = ListConfigResourcesRequest;

    async fn handle(
        cx: Context,
        request: ListConfigResourcesRequest,
    ) -> Answer<ListConfigResourcesResponse> {
        let types: BTreeSet<i8> = match cx.version {
            0 => BTreeSet::from([kind::CLIENT_METRICS]),
            _ if request.resource_types.is_empty() => TYPES.into(),
            _ => request.resource_types.into_iter().collect(),
        };
        if types.iter().any(|of| !TYPES.contains(of)) {
            let code = ErrorCode::UnsupportedVersion.code();
            return Answer::Now(ListConfigResourcesResponse::default().with_error_code(code));
        }
        let each = size_of::<ConfigResource>() + TEXT_BYTES;
        let topics = if types.contains(&kind::TOPIC) { cx.image.topic_count() } else { 0 };
        let room = cx.room(topics * each).await;
        let resources = types.into_iter().flat_map(|of| named(&cx, of)).collect();
        let response = ListConfigResourcesResponse::default().with_config_resources(resources);
        Answer::Now(response).within(room)
    }

    fn errors(response: &ListConfigResourcesResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}

/// The resources of a type that can be described.
fn named(cx: &Context, of: i8) -> Vec<ConfigResource> {
    let resource = |name: &str| {
        ConfigResource::default().with_resource_type(of).with_resource_name(text(name))
    };
    match of {
        kind::TOPIC => cx.image.topics().map(|topic| resource(&topic.name)).collect(),
        kind::BROKER | kind::BROKER_LOGGER => vec![resource(&cx.broker.node_id().to_string())],
        _ => Vec::new(),
    }
}
