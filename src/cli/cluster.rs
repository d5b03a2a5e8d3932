//! `tidegate cluster …`: a whole cluster by the Kafka protocol, whoever it is of.

mod describe;
mod log_dirs;
mod quorum;
mod versions;

use std::process::ExitCode;

use super::Remote;
use super::args::cluster::{ClusterAction, ClusterConfig, Of};
use super::configs::{self, Resource};
use super::output::{Failure, Output};
use super::session::{Session, carry_out};

/// Does what is asked of a cluster and gives the exit code: 0 done, 1 failed, 2 asked wrongly.
pub fn cluster(remote: &Remote<ClusterAction>) -> ExitCode {
    let work = async |session: &Session| run(session, remote.output, &remote.action).await;
    carry_out(&remote.connection, work)
}

async fn run(session: &Session, output: Output, action: &ClusterAction) -> Result<(), Failure> {
    match action {
        ClusterAction::Describe => describe::describe(session, output).await,
        ClusterAction::Config(action) => config(session, output, action).await,
        ClusterAction::LogDirs { brokers, topics } => {
            log_dirs::log_dirs(session, output, brokers, topics).await
        }
        ClusterAction::Quorum => quorum::quorum(session, output).await,
        ClusterAction::ApiVersions { brokers } => {
            versions::versions(session, output, brokers).await
        }
    }
}

async fn config(session: &Session, output: Output, action: &ClusterConfig) -> Result<(), Failure> {
    let whose = |of: &Of| of.broker.map_or(Resource::Brokers, Resource::Broker);
    match action {
        ClusterConfig::Get { of, keys, all } => {
            configs::get(session, output, whose(of), keys, *all).await
        }
        ClusterConfig::Set { of, pairs, execute } => {
            configs::change(session, output, whose(of), &configs::set(pairs), *execute).await
        }
        ClusterConfig::Unset { of, keys, execute } => {
            configs::change(session, output, whose(of), &configs::unset(keys), *execute).await
        }
    }
}

/// These nodes, or all; one that is not there is an error.
async fn nodes(session: &Session, wanted: &[i32]) -> Result<Vec<i32>, Failure> {
    session.cluster().metadata(Some(&[]), false).await.map_err(Failure::failed)?;
    let known = session.cluster().nodes();
    if let Some(missing) = wanted.iter().find(|id| !known.contains_key(id)) {
        let known: Vec<String> = known.keys().map(ToString::to_string).collect();
        let known = known.join(", ");
        return Err(Failure::Failed(format!(
            "broker {missing} is not there; the cluster has {known}"
        )));
    }
    Ok(if wanted.is_empty() { known.into_keys().collect() } else { wanted.to_vec() })
}
