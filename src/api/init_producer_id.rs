//! `InitProducerId` (key 22), versions 0-5, for idempotent producers.
//!
//! Without a transactional id every call gets a fresh producer id with epoch 0, as in Apache Kafka:
//! a bump of (producer id, epoch) is a matter of transactional producers (KIP-360). Transactions
//! are not served yet: a transactional id answers `INVALID_REQUEST`, and the reason is logged,
//! since this response has no field for words.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use tracing::warn;

use super::error::cluster_error;
use super::{Answer, Api, Context, Tally};
use crate::log_limit::LogLimit;
use crate::protocol::error::ErrorCode;

/// A client that is refused tries again, perhaps for ever.
static REFUSED: LogLimit = LogLimit::new();

/// `InitProducerId`.
pub(super) struct InitProducerId;

/// No producer id, no epoch: a request has both or neither.
const NONE: i64 = -1;

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;

    async fn handle(cx: Context, request: InitProducerIdRequest) -> Answer<InitProducerIdResponse> {
        let refuse = |code: ErrorCode| {
            InitProducerIdResponse::default()
                .with_error_code(code.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        };
        if let Some(id) = &request.transactional_id {
            if let Some(more) = REFUSED.allow(cx.broker.clock()) {
                warn!(
                    transactional_id = id.as_str(),
                    more, "transactions are not served yet; unset transactional.id"
                );
            }
            return Answer::Now(refuse(ErrorCode::InvalidRequest));
        }
        let (id, epoch) = (request.producer_id.0, request.producer_epoch);
        if (id == NONE) != (i64::from(epoch) == NONE) {
            return Answer::Now(refuse(ErrorCode::InvalidRequest));
        }
        match cx.broker.next_producer_id().await {
            Ok(id) => Answer::Now(
                InitProducerIdResponse::default()
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(0),
            ),
            Err(error) => Answer::Now(refuse(cluster_error(&error))),
        }
    }

    fn errors(response: &InitProducerIdResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
