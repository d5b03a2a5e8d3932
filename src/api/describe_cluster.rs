//! `DescribeCluster` (key 60), versions 0-2 (KIP-700; endpoint type, KIP-919, v1; fenced
//! brokers, v2).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::names::{broker_id, operations, text};
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `DescribeCluster`.
pub(super) struct DescribeCluster;

/// The endpoint type that asks for brokers.
const BROKERS: i8 = 1;
/// The endpoint type that asks for controllers.
const CONTROLLERS: i8 = 2;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;

    async fn handle(
        cx: Context,
        request: DescribeClusterRequest,
    ) -> Answer<DescribeClusterResponse> {
        if cx.version >= 1 && request.endpoint_type != BROKERS {
            let (code, message) = match request.endpoint_type {
                CONTROLLERS => (
                    ErrorCode::MismatchedEndpointType,
                    "this listener serves brokers; there are no controllers to describe",
                ),
                _ => (ErrorCode::UnsupportedEndpointType, "the endpoint type is 1 for brokers"),
            };
            return Answer::Now(
                DescribeClusterResponse::default()
                    .with_error_code(code.code())
                    .with_error_message(Some(text(message))),
            );
        }
        let address = cx.broker.advertised(&cx.session.listener);
        let node = broker_id(cx.broker.node_id());
        let broker = DescribeClusterBroker::default()
            .with_broker_id(node)
            .with_host(text(&address.host))
            .with_port(i32::from(address.port))
            .with_rack(cx.broker.rack().map(text));
        let operations = if request.include_cluster_authorized_operations {
            operations::CLUSTER
        } else {
            operations::NOT_ASKED
        };
        Answer::Now(
            DescribeClusterResponse::default()
                .with_cluster_id(text(&cx.image.cluster_id().to_string()))
                .with_controller_id(node)
                .with_cluster_authorized_operations(operations)
                .with_brokers(vec![broker]),
        )
    }

    fn errors(response: &DescribeClusterResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
