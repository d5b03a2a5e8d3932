//! Asks the upstream where its nodes are: at the start, on a timer, and when somebody needs to know.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::{ApiKey, MetadataResponse};
use tracing::{debug, warn};

use super::cluster::Cluster;
use super::rewrite::UpstreamNode;
use crate::client::Client;
use crate::protocol::versions::VersionRange;

/// How soon an upstream is asked again when somebody waits for a node.
const SOON: Duration = Duration::from_millis(500);
/// How soon an upstream is asked again that did not answer.
const AGAIN: Duration = Duration::from_secs(2);
/// The versions of Metadata that say all there is to know here: none lists topics unasked.
const METADATA: VersionRange = VersionRange::new(1, 12);

/// Keeps the topology of `cluster` up to date. With SASL only clients' responses tell of it, since
/// the proxy has no name of its own.
pub(super) async fn run(cluster: &Arc<Cluster>) {
    if cluster.config.upstream.sasl {
        return;
    }
    let mut was_well = true;
    loop {
        let outcome = ask(cluster).await;
        match &outcome {
            Ok(nodes) => cluster.learn(nodes),
            Err(cause) if was_well => {
                let cluster = &*cluster.config.name;
                warn!(cluster, cause, "the upstream cannot be asked for its nodes");
            }
            Err(cause) => debug!(cause, "the upstream cannot be asked for its nodes"),
        }
        was_well = outcome.is_ok();
        cluster.clock.sleep(SOON).await;
        let rest = if was_well { cluster.config.metadata_refresh } else { AGAIN };
        let rest = rest.saturating_sub(SOON);
        // Whoever waits for a node is answered sooner.
        let _ = cluster.clock.timeout(rest, cluster.refresh.notified()).await;
    }
}

async fn ask(cluster: &Cluster) -> Result<Vec<UpstreamNode>, String> {
    let stream = cluster.connect_any().await.map_err(|error| error.to_string())?;
    let mut client = Client::new(stream, "tidegate-proxy", cluster.clock.clone());
    let versions = client.api_versions().await.map_err(|error| error.to_string())?;
    let key = ApiKey::Metadata as i16;
    let served = versions.api_keys.iter().find(|api| api.api_key == key);
    let served = served.map_or(VersionRange::EMPTY, |api| {
        VersionRange::new(api.min_version, api.max_version).intersect(METADATA)
    });
    if served.is_empty() {
        return Err("the upstream serves no version of Metadata that the proxy knows".to_owned());
    }
    let request = MetadataRequest::default()
        .with_topics(Some(Vec::new()))
        .with_allow_auto_topic_creation(served.max < 4);
    let response: MetadataResponse =
        client.call(served.max, &request).await.map_err(|error| error.to_string())?;
    let nodes = response.brokers.into_iter().map(|broker| UpstreamNode {
        id: broker.node_id.0,
        host: broker.host.to_string(),
        port: broker.port,
    });
    Ok(nodes.collect())
}
