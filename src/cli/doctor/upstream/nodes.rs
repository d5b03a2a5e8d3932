//! The nodes that the upstream tells of: whether each can be reached, and whether clients can be
//! told an address of the proxy for it.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, DescribeClusterRequest, MetadataRequest,
};
use kafka_protocol::protocol::Request;

use super::super::report::{Report, trouble};
use super::fault::{Fault, Standing};
use super::{Asked, CONCURRENT, Examination, spoken};
use crate::client::{Client, ClientError};
use crate::config::Nodes;
use crate::protocol::versions::VersionRange;
use crate::proxy::policy;

/// More nodes are not tried one by one.
const NODES_MAX: usize = 1_000;

/// What the upstream tells of itself.
#[derive(Default)]
struct Told {
    cluster_id: Option<String>,
    nodes: BTreeMap<i32, (String, i32)>,
}

/// Asks the upstream for its nodes and looks at each.
pub(super) async fn examine(
    report: &mut Report,
    examination: &Examination<'_>,
    client: &mut Client,
    versions: &ApiVersionsResponse,
) {
    let part = format!("nodes{}", examination.of);
    let mut told = Told::default();
    if let Err(error) = ask(client, versions, &mut told).await {
        let fault = Fault::Answer(error);
        let trouble = fault.explain(Standing::Bootstrap);
        report.problem(&part, format!("the upstream does not tell of its nodes: {fault}"), trouble);
        return;
    }
    let count = told.nodes.len();
    let cluster = told.cluster_id.as_deref().unwrap_or("without an id");
    report.fine(&part, format!("cluster {}, nodes: {count}", cluster.escape_debug()));
    if count == 0 {
        report.problem(
            &part,
            "the upstream tells of no node",
            trouble(
                "its brokers are not registered, or that is no listener for clients",
                "clients find nothing to connect to",
                "look at the broker's log, and at which listener upstream.bootstrap.servers names",
            ),
        );
    }
    undeclared(report, &part, examination, &told);
    let nodes: Vec<_> = told.nodes.into_iter().take(NODES_MAX).collect();
    let asked = nodes.iter().map(|(_, (host, port))| try_node(examination, host, *port));
    let asked: Vec<_> = stream::iter(asked).buffered(CONCURRENT).collect().await;
    for ((id, (host, port)), asked) in nodes.iter().zip(asked) {
        let part = format!("node {id}{}", examination.of);
        let at = format!("{}:{port}", host.escape_debug());
        match asked {
            None => impossible(report, &part, &at),
            Some(Err(fault)) => {
                report.problem(&part, format!("{at}: {fault}"), fault.explain(Standing::Node));
            }
            Some(Ok((_, theirs))) => {
                report.fine(&part, format!("{at} answers{}", clients(examination, *id)));
                parted(report, &part, versions, &theirs);
            }
        }
    }
}

/// Asks Metadata of no topics, and `DescribeCluster` where there is one.
async fn ask(
    client: &mut Client,
    versions: &ApiVersionsResponse,
    told: &mut Told,
) -> Result<(), ClientError> {
    // Version 0 takes no topics for all of them.
    if let Some(version) = common(versions, MetadataRequest::KEY).filter(|version| *version > 0) {
        // No topic is asked for, so none is created; before version 4 that cannot be said.
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(version < 4);
        let response = Box::pin(client.call(version, &request)).await?;
        told.cluster_id = response.cluster_id.map(|id| id.to_string());
        for broker in response.brokers {
            told.nodes.insert(broker.node_id.0, (broker.host.to_string(), broker.port));
        }
    }
    if let Some(version) = common(versions, DescribeClusterRequest::KEY) {
        let response = Box::pin(client.call(version, &DescribeClusterRequest::default())).await?;
        if response.error_code != 0 {
            let (api, code) = ("DescribeCluster", response.error_code);
            return Err(ClientError::Refused { api, code });
        }
        told.cluster_id = Some(response.cluster_id.to_string());
        for broker in response.brokers {
            told.nodes.insert(broker.broker_id.0, (broker.host.to_string(), broker.port));
        }
    }
    Ok(())
}

/// The highest version of an API that the upstream speaks and we can decode.
fn common(versions: &ApiVersionsResponse, key: i16) -> Option<i16> {
    let ours = ApiKey::try_from(key).ok()?.valid_versions();
    let both = spoken(versions, key).intersect(VersionRange::new(ours.min, ours.max));
    let known = policy::find(key)?.versions.intersect(both);
    (!known.is_empty()).then_some(known.max)
}

/// Connects to a node; `None` where its port is none.
async fn try_node(examination: &Examination<'_>, host: &str, port: i32) -> Option<Asked> {
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    Some(examination.ask(host.to_owned(), port).await)
}

fn impossible(report: &mut Report, part: &str, at: &str) {
    report.problem(
        part,
        format!("the upstream says that it is at {at}, which is no port"),
        trouble(
            "advertised.listeners of that broker has no usable port",
            "clients that need this node are not served",
            "correct advertised.listeners of that broker",
        ),
    );
}

/// What clients are told for the node.
fn clients(examination: &Examination<'_>, id: i32) -> String {
    match examination.cluster.nodes.advertised(id) {
        Some((_, 0)) => "; clients are told a free port of the proxy".to_owned(),
        Some((host, port)) => format!("; clients are told {host}:{port}"),
        None => String::new(),
    }
}

/// Nodes that the proxy has no address for.
fn undeclared(report: &mut Report, part: &str, examination: &Examination<'_>, told: &Told) {
    let nodes = &examination.cluster.nodes;
    let missing: Vec<String> = told
        .nodes
        .keys()
        .filter(|id| nodes.advertised(**id).is_none())
        .map(ToString::to_string)
        .collect();
    let Nodes::Ports { ids, .. } = nodes else { return };
    if missing.is_empty() {
        return;
    }
    let declared = ids.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    let declared = declared.collect::<Vec<_>>().join(",");
    let missing = missing.join(",");
    report.problem(
        part,
        format!("nodes {missing} are not in node.ids, which has {declared}"),
        trouble(
            "node.ids says which nodes get a port of the proxy",
            "clients are not told of these nodes: their partitions and groups cannot be used",
            format!("set node.ids={declared},{missing}, and open the ports"),
        ),
    );
}

/// A node that speaks other versions than the one that was asked first.
fn parted(
    report: &mut Report,
    part: &str,
    first: &ApiVersionsResponse,
    theirs: &ApiVersionsResponse,
) {
    let keys = first.api_keys.iter().chain(&theirs.api_keys).map(|row| row.api_key);
    if keys.into_iter().all(|key| spoken(first, key) == spoken(theirs, key)) {
        return;
    }
    report.warn(
        part,
        "it speaks other versions than the node that was asked first",
        trouble(
            "brokers of several releases: an upgrade is under way",
            "what clients can use depends on the node, as it does without the proxy",
            "end the upgrade; while it lasts nothing has to be done",
        ),
    );
}
