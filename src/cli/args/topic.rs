//! `tidegate topic …`: the flags.

use clap::{Args, Subcommand, value_parser};

use super::super::{Command, Remote};
use super::connection::{ConnectionArgs, OutputArgs};
use super::settings::key_and_value;

#[derive(Args, Debug)]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    action: TopicAction,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is done with topics.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TopicAction {
    /// List topics, with their partitions and replicas.
    List {
        /// List internal topics too, such as that of committed offsets.
        #[arg(long, short)]
        internal: bool,
    },
    /// Show partitions with leader, replicas, offsets and size, and the settings that a topic has
    /// of its own.
    Describe {
        /// The topics; all but internal ones without any.
        #[arg(value_name = "TOPIC")]
        topics: Vec<String>,
        /// Show only partitions without a leader, or with replicas that are not in sync.
        #[arg(long)]
        unhealthy: bool,
    },
    /// Create topics.
    Create {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// How many partitions each has [default: the cluster's num.partitions].
        #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many replicas each partition has [default: the cluster's
        /// default.replication.factor].
        #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// Set a configuration key of the topics; may be given several times.
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = key_and_value)]
        config: Vec<(String, String)>,
        /// A topic that is there already is fine, whatever it is like.
        #[arg(long)]
        if_not_exists: bool,
        /// Only let the cluster check it, and create nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Add partitions to a topic. Keys go to other partitions then, and partitions cannot be taken
    /// away again.
    Alter {
        /// The topic.
        topic: String,
        /// How many partitions it is to have.
        #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(i32).range(1..))]
        partitions: i32,
        /// Only let the cluster check it, and add nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete topics with all their records; without --execute only say what would go.
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// A topic that is not there is fine.
        #[arg(long)]
        if_exists: bool,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
    /// Get and change the configuration of a topic.
    #[command(subcommand)]
    Config(TopicConfig),
    /// Delete the records of partitions up to an offset; without --execute only say which would go.
    DeleteRecords {
        /// The topic, or some partitions of it.
        #[arg(required_unless_present = "from_file", value_name = "TOPIC[:PARTITION,..]")]
        places: Vec<String>,
        #[command(flatten)]
        until: Until,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
}

/// Up to where records are deleted.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
pub struct Until {
    /// Delete the records before this offset.
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,
    /// Delete all records.
    #[arg(long)]
    pub to_latest: bool,
    /// Delete the records before the first one of this time: YYYY-MM-DDThh:mm:ss.sss.
    #[arg(long, value_name = "DATETIME")]
    pub to_datetime: Option<String>,
    /// Delete what FILE says, in the JSON of kafka-delete-records.
    #[arg(long, value_name = "FILE", conflicts_with = "places")]
    pub from_file: Option<std::path::PathBuf>,
}

/// What is done with a topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TopicConfig {
    /// Show what is set for the topic itself.
    Get {
        /// The topic.
        topic: String,
        /// These keys only, wherever their values come from.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        /// Show every key, also what comes from defaults and from the brokers.
        #[arg(long, alias = "defaults")]
        all: bool,
    },
    /// Set keys of the topic. Where that could delete records, --execute is needed.
    Set {
        /// The topic.
        topic: String,
        /// What is set.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = key_and_value)]
        pairs: Vec<(String, String)>,
        /// Do it also where records could go.
        #[arg(long)]
        execute: bool,
    },
    /// Take settings away, so that the default is in force. Where that could delete records,
    /// --execute is needed.
    Unset {
        /// The topic.
        topic: String,
        /// Their keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        /// Do it also where records could go.
        #[arg(long)]
        execute: bool,
    },
}

impl TopicArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { action, connection, output } = self;
        let (connection, output) = (connection.into(), output.into());
        Command::Topic(Box::new(Remote { connection, output, action }))
    }
}
