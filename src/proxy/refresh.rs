//! Asks the upstream where its nodes are: at the start, on a timer, and when somebody needs to
//! know.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::{ApiKey, MetadataResponse};
use tracing::{debug, info, warn};

use super::cluster::Cluster;
use super::policy;
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
    let (mut was_well, mut said) = (true, Said::default());
    loop {
        let outcome = ask(cluster, &mut said).await;
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

/// What was last said of what the upstream serves.
#[derive(Default)]
struct Said(Option<Vec<(i16, VersionRange)>>);

impl Said {
    /// Says what the upstream serves when that is new.
    fn say(&mut self, cluster: &Cluster, apis: Vec<(i16, VersionRange)>) {
        if self.0.as_ref() == Some(&apis) {
            return;
        }
        let (newer, unknown) = policy::newer(apis.iter().copied());
        let usable = policy::usable(apis.iter().copied()).len();
        let (name, served, newer) = (&*cluster.config.name, apis.len(), newer.join(", "));
        info!(cluster = name, served, usable, newer, ?unknown, "upstream APIs");
        self.0 = Some(apis);
    }
}

async fn ask(cluster: &Cluster, said: &mut Said) -> Result<Vec<UpstreamNode>, String> {
    let stream = cluster.connect_any().await.map_err(|error| error.to_string())?;
    let mut client = Client::new(stream, "tidegate-proxy", cluster.clock.clone());
    let versions = client.api_versions().await.map_err(|error| error.to_string())?;
    let apis = versions.api_keys.iter();
    let apis = apis.map(|api| (api.api_key, VersionRange::new(api.min_version, api.max_version)));
    let apis: Vec<_> = apis.collect();
    let key = ApiKey::Metadata as i16;
    let served = apis.iter().find(|(served, _)| *served == key);
    let served = served.map_or(VersionRange::EMPTY, |(_, served)| served.intersect(METADATA));
    said.say(cluster, apis);
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
