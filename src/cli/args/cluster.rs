//! `tidegate cluster …`: the flags.

use clap::{Args, Subcommand};

use super::super::{Command, Remote};
use super::connection::{ConnectionArgs, OutputArgs};
use super::settings::key_and_value;

#[derive(Args, Debug)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    action: ClusterAction,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is asked of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ClusterAction {
    /// Show the cluster's id, its nodes and its controller.
    Describe,
    /// Get and change the configuration of brokers that can be changed while they run.
    #[command(subcommand)]
    Config(ClusterConfig),
    /// Show the log directories of every broker, with what each topic takes.
    LogDirs {
        /// Only of these brokers.
        #[arg(long = "broker", value_name = "ID", value_delimiter = ',')]
        brokers: Vec<i32>,
        /// Only these topics.
        #[arg(long = "topic", value_name = "TOPIC", value_delimiter = ',')]
        topics: Vec<String>,
    },
    /// Show the quorum of the cluster's metadata: its leader, and how far each node is.
    Quorum,
    /// Show which versions of which APIs every broker speaks.
    ApiVersions {
        /// Only of these brokers.
        #[arg(long = "broker", value_name = "ID", value_delimiter = ',')]
        brokers: Vec<i32>,
    },
}

/// Whose configuration.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Of {
    /// Of this broker, and not what all brokers start from.
    #[arg(long, value_name = "ID")]
    pub broker: Option<i32>,
}

/// What is done with the configuration of brokers.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ClusterConfig {
    /// Show what was set while the cluster runs.
    Get {
        #[command(flatten)]
        of: Of,
        /// These keys only, wherever their values come from.
        #[arg(value_name = "KEY", requires = "broker")]
        keys: Vec<String>,
        /// Show every key, also what a broker was started with and its defaults.
        #[arg(long, alias = "defaults", requires = "broker")]
        all: bool,
    },
    /// Set keys. Where that could delete records, --execute is needed.
    Set {
        #[command(flatten)]
        of: Of,
        /// What is set.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
        pairs: Vec<(String, String)>,
        /// Do it also where records could go.
        #[arg(long)]
        execute: bool,
    },
    /// Take settings away. Where that could delete records, --execute is needed.
    Unset {
        #[command(flatten)]
        of: Of,
        /// Their keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        /// Do it also where records could go.
        #[arg(long)]
        execute: bool,
    },
}

impl ClusterArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { action, connection, output } = self;
        let (connection, output) = (connection.into(), output.into());
        Command::Cluster(Box::new(Remote { connection, output, action }))
    }
}
