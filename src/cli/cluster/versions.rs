//! `tidegate cluster api-versions`.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;

use super::super::output::{Align, Answer, Failure, Output, Table, column};
use super::super::session::{ANY_VERSION, Session, explain};
use crate::client::Target;
use crate::protocol::guard::shape::kafka_api;

#[derive(Serialize)]
struct Shown {
    brokers: Vec<Broker>,
}

#[derive(Serialize)]
struct Broker {
    id: i32,
    apis: Vec<Spoken>,
    /// Finalized features with their level, such as metadata.version.
    features: Vec<Feature>,
}

#[derive(Serialize)]
struct Spoken {
    key: i16,
    /// Nothing where Kafka 4.3 has no such API.
    name: Option<&'static str>,
    min: i16,
    max: i16,
}

#[derive(Serialize)]
struct Feature {
    name: String,
    level: i16,
}

impl Answer for Shown {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        self.brokers.iter().map(|broker| (Some(title(broker)), apis(broker))).collect()
    }
}

fn title(broker: &Broker) -> String {
    let features = broker.features.iter().map(|it| format!("  {} {}", it.name, it.level));
    format!("broker {}{}", broker.id, features.collect::<String>())
}

fn apis(broker: &Broker) -> Table {
    let mut table = Table::new(vec![
        column("KEY", Align::Right),
        column("API", Align::Left),
        column("VERSIONS", Align::Left),
    ]);
    table.rows(broker.apis.iter().map(|api| {
        let name = api.name.unwrap_or("-").to_owned();
        vec![api.key.to_string(), name, format!("{}-{}", api.min, api.max)]
    }));
    table
}

/// Shows what brokers speak.
pub(super) async fn versions(
    session: &Session,
    output: Output,
    brokers: &[i32],
) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for id in super::nodes(session, brokers).await? {
        // Who asks is told from version 3 on.
        let build = |version: i16| {
            if version < 3 {
                return ApiVersionsRequest::default();
            }
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("tidegate"))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")))
        };
        let target = Target::Node(id);
        let answer = Box::pin(session.cluster().ask(target, ANY_VERSION, build)).await;
        let answer = answer.map_err(Failure::failed)?;
        if answer.error_code != 0 {
            let reason = explain(answer.error_code, None);
            return Err(Failure::Failed(format!("broker {id}: {reason}")));
        }
        shown.push(broker(id, answer));
    }
    output.print(&Shown { brokers: shown })
}

fn broker(id: i32, answer: ApiVersionsResponse) -> Broker {
    let apis = answer.api_keys.into_iter().map(|row| Spoken {
        key: row.api_key,
        name: kafka_api(row.api_key).map(|api| api.name),
        min: row.min_version,
        max: row.max_version,
    });
    let features = answer.finalized_features.into_iter();
    let features = features
        .map(|row| Feature { name: row.name.to_string(), level: row.max_version_level })
        .collect();
    Broker { id, apis: apis.collect(), features }
}
