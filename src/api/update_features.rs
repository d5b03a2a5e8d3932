//! `UpdateFeatures` (key 57), versions 0-2 (KIP-584; kinds of upgrades, KIP-778, v1; no results for
//! single features, KIP-1022, v2).
//!
//! Kafka's features switch formats and protocols that brokers of several releases share. There is
//! none here: what this release can do it does, and `ApiVersions` lists no feature. Whichever is
//! named is refused as one that Kafka does not know; only an empty list is nothing to do.

use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::names::text;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `UpdateFeatures`.
pub(super) struct UpdateFeatures;

impl Api for UpdateFeatures {
    type Request = UpdateFeaturesRequest;

    async fn handle(_: Context, request: UpdateFeaturesRequest) -> Answer<UpdateFeaturesResponse> {
        let Some(update) = request.feature_updates.first() else {
            return Answer::Now(UpdateFeaturesResponse::default().with_error_message(None));
        };
        let message = format!(
            "feature \"{}\" cannot have level {}: this broker has no such feature",
            update.feature.as_str(),
            update.max_version_level
        );
        let response = UpdateFeaturesResponse::default()
            .with_error_code(ErrorCode::InvalidUpdateVersion.code())
            .with_error_message(Some(text(&message)));
        Answer::Now(response)
    }

    fn errors(response: &UpdateFeaturesResponse, tally: &mut Tally) {
        tally.note(response.error_code);
    }
}
