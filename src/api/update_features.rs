//! `UpdateFeatures` (key 57), versions 0-2 (KIP-584; kinds of upgrades, KIP-778, v1; no results for
//! single features, KIP-1022, v2).
//!
//! Kafka's features switch formats and protocols that brokers of several releases share. There is
//! none here: what this release can do it does, and `ApiVersions` lists no feature. Level 0, a
//! feature that is off, is what each has; any other is refused.

use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::names::text;
use super::{Answer, Api, Context, Tally};
use crate::protocol::error::ErrorCode;

/// `UpdateFeatures`.
pub(super) struct UpdateFeatures;

/// The last version that answers for each feature.
const RESULTS_UPTO: i16 = 1;

impl Api for UpdateFeatures {
    type Request = UpdateFeaturesRequest;

    async fn handle(cx: Context, request: UpdateFeaturesRequest) -> Answer<UpdateFeaturesResponse> {
        let refused = request.feature_updates.iter().find_map(|update| refusal(&cx, update));
        let Some(message) = refused else {
            let done = |update: FeatureUpdateKey| {
                UpdatableFeatureResult::default().with_feature(update.feature)
            };
            let mut response = UpdateFeaturesResponse::default().with_error_message(None);
            if cx.version <= RESULTS_UPTO {
                response.results = request.feature_updates.into_iter().map(done).collect();
            }
            return Answer::Now(response);
        };
        let response = UpdateFeaturesResponse::default()
            .with_error_code(ErrorCode::InvalidUpdateVersion.code())
            .with_error_message(Some(text(&message)));
        Answer::Now(response)
    }

    fn errors(response: &UpdateFeaturesResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        response.results.iter().for_each(|result| tally.note(result.error_code));
    }
}

/// Why a feature is not updated.
fn refusal(cx: &Context, update: &FeatureUpdateKey) -> Option<String> {
    let (feature, level) = (update.feature.as_str(), update.max_version_level);
    let known_kind = cx.version == 0 || (1..=3).contains(&update.upgrade_type);
    if !known_kind {
        return Some(format!(
            "feature \"{feature}\": the kind of upgrade is 1, 2 or 3, not {}",
            update.upgrade_type
        ));
    }
    (level != 0).then(|| {
        format!("feature \"{feature}\" cannot have level {level}: this broker has no such feature")
    })
}
