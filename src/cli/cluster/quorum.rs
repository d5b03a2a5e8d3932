//! `tidegate cluster quorum`.

use kafka_protocol::messages::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use serde::Serialize;

use super::super::output::{Align, Answer, Failure, Output, Table, column};
use super::super::session::{Session, explain, topic_name, uuid_text};
use super::super::when;
use crate::client::Target;

/// The topic that a cluster of Kafka keeps its metadata in.
const METADATA_TOPIC: &str = "__cluster_metadata";

#[derive(Serialize)]
struct Quorum {
    leader: i32,
    leader_epoch: i32,
    high_watermark: i64,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: i32,
    /// Whether it votes; it observes otherwise.
    voter: bool,
    /// Nothing from brokers before Kafka 3.9.
    directory_id: Option<String>,
    log_end_offset: Option<i64>,
    /// How far it is behind the leader.
    lag: Option<i64>,
    last_fetch: Option<String>,
    last_caught_up: Option<String>,
}

impl Answer for Quorum {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("NODE", Align::Right),
            column("ROLE", Align::Left),
            column("LOG END", Align::Right),
            column("LAG", Align::Right),
            column("LAST CAUGHT UP", Align::Left),
        ]);
        let or_dash =
            |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
        table.rows(self.nodes.iter().map(|node| {
            let role = match (node.id == self.leader, node.voter) {
                (true, _) => "leader",
                (false, true) => "follower",
                (false, false) => "observer",
            };
            let caught_up = node.last_caught_up.clone().unwrap_or_else(|| "-".to_owned());
            let (end, lag) = (or_dash(node.log_end_offset), or_dash(node.lag));
            vec![node.id.to_string(), role.to_owned(), end, lag, caught_up]
        }));
        let title = format!(
            "leader {}  epoch {}  high watermark {}",
            self.leader, self.leader_epoch, self.high_watermark
        );
        vec![(Some(title), table)]
    }
}

/// Shows the quorum of the metadata.
pub(super) async fn quorum(session: &Session, output: Output) -> Result<(), Failure> {
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default()
        .with_topic_name(topic_name(METADATA_TOPIC))
        .with_partitions(vec![partition]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    let answer = Box::pin(session.ask(Target::Any, &request)).await.map_err(Failure::failed)?;
    if answer.error_code != 0 {
        let reason = explain(answer.error_code, answer.error_message.as_ref());
        return Err(Failure::Failed(format!("the quorum is unknown: {reason}")));
    }
    let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let found = found.ok_or_else(|| Failure::failed("the quorum is unknown: nothing was told"))?;
    if found.error_code != 0 {
        let reason = explain(found.error_code, found.error_message.as_ref());
        return Err(Failure::Failed(format!("the quorum is unknown: {reason}")));
    }
    let leader = found.leader_id.0;
    let rows = || found.current_voters.iter().chain(&found.observers);
    let end = rows().find(|row| row.replica_id.0 == leader).map(|row| row.log_end_offset);
    let of = |row: &ReplicaState, voter| node(row, voter, end);
    let voters = found.current_voters.iter().map(|row| of(row, true));
    let observers = found.observers.iter().map(|row| of(row, false));
    output.print(&Quorum {
        leader,
        leader_epoch: found.leader_epoch,
        high_watermark: found.high_watermark,
        nodes: voters.chain(observers).collect(),
    })
}

fn node(row: &ReplicaState, voter: bool, end: Option<i64>) -> Node {
    let known = |value: i64| (value >= 0).then_some(value);
    let log_end_offset = known(row.log_end_offset);
    Node {
        id: row.replica_id.0,
        voter,
        directory_id: (!row.replica_directory_id.is_nil())
            .then(|| uuid_text(row.replica_directory_id.as_bytes())),
        log_end_offset,
        lag: end.zip(log_end_offset).map(|(end, own)| (end - own).max(0)),
        last_fetch: known(row.last_fetch_timestamp).map(when::text),
        last_caught_up: known(row.last_caught_up_timestamp).map(when::text),
    }
}
