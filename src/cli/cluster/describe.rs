//! `tidegate cluster describe`.

use kafka_protocol::messages::DescribeClusterRequest;
use serde::Serialize;

use super::super::output::{Align, Answer, Failure, Output, Table, column};
use super::super::session::{ANY_VERSION, Session, explain};
use crate::client::{ClusterError, Target};

#[derive(Serialize)]
struct Described {
    cluster_id: Option<String>,
    /// Whom clients are told to ask for changes.
    controller: Option<i32>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: i32,
    host: String,
    port: i32,
    rack: Option<String>,
    /// Whether it is registered and not in service; only brokers of Kafka 4 tell.
    fenced: bool,
}

impl Answer for Described {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("NODE", Align::Right),
            column("ADDRESS", Align::Left),
            column("RACK", Align::Left),
            column("STATE", Align::Left),
        ]);
        table.rows(self.nodes.iter().map(|node| {
            let is_controller = self.controller == Some(node.id);
            let state = match (node.fenced, is_controller) {
                (true, _) => "fenced",
                (false, true) => "controller",
                (false, false) => "broker",
            };
            let host = if node.host.contains(':') {
                format!("[{}]", node.host)
            } else {
                node.host.clone()
            };
            let rack = node.rack.clone().unwrap_or_else(|| "-".to_owned());
            vec![node.id.to_string(), format!("{host}:{}", node.port), rack, state.to_owned()]
        }));
        let id = self.cluster_id.as_deref().unwrap_or("without an id");
        vec![(Some(format!("cluster {id}  nodes {}", self.nodes.len())), table)]
    }
}

/// Shows the cluster.
pub(super) async fn describe(session: &Session, output: Output) -> Result<(), Failure> {
    // Brokers that are not in service are told from version 2 on.
    let build =
        |version: i16| DescribeClusterRequest::default().with_include_fenced_brokers(version >= 2);
    let asked = Box::pin(session.cluster().ask(Target::Any, ANY_VERSION, build)).await;
    let answer = match asked {
        Err(ClusterError::Version { .. }) => return by_metadata(session, output).await,
        answered => answered.map_err(Failure::failed)?,
    };
    if answer.error_code != 0 {
        return Err(Failure::Failed(explain(answer.error_code, answer.error_message.as_ref())));
    }
    let node =
        |row: kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker| Node {
            id: row.broker_id.0,
            host: row.host.to_string(),
            port: row.port,
            rack: row.rack.map(|rack| rack.to_string()),
            fenced: row.is_fenced,
        };
    let mut nodes: Vec<Node> = answer.brokers.into_iter().map(node).collect();
    nodes.sort_by_key(|node| node.id);
    let controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
    output.print(&Described { cluster_id: Some(answer.cluster_id.to_string()), controller, nodes })
}

/// What brokers before Kafka 2.8 tell.
async fn by_metadata(session: &Session, output: Output) -> Result<(), Failure> {
    let answer = session.cluster().metadata(Some(&[]), false).await.map_err(Failure::failed)?;
    let nodes = answer.brokers.into_iter().map(|row| Node {
        id: row.node_id.0,
        host: row.host.to_string(),
        port: row.port,
        rack: row.rack.map(|rack| rack.to_string()),
        fenced: false,
    });
    let mut nodes: Vec<Node> = nodes.collect();
    nodes.sort_by_key(|node| node.id);
    let controller = Some(answer.controller_id.0).filter(|id| *id >= 0);
    let cluster_id = answer.cluster_id.map(|id| id.to_string());
    output.print(&Described { cluster_id, controller, nodes })
}
