//! `tidegate group …`: the flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::{Command, Remote};
use super::connection::{ConnectionArgs, OutputArgs};

#[derive(Args, Debug)]
pub(super) struct GroupArgs {
    #[command(subcommand)]
    action: GroupAction,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which groups.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
pub struct Groups {
    /// The groups.
    #[arg(value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Every group.
    #[arg(long)]
    pub all_groups: bool,
}

/// What is done with groups.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum GroupAction {
    /// List groups with their state.
    List {
        /// Only those in these states, such as Stable or Empty.
        #[arg(long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<String>,
        /// Only those of these types, such as classic or consumer.
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        types: Vec<String>,
    },
    /// Show where groups are: committed offsets and lag, with the member that reads each partition.
    Describe {
        #[command(flatten)]
        groups: Groups,
        /// Only those in these states.
        #[arg(long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<String>,
        /// Show the members, and how many partitions each has.
        #[arg(long)]
        members: bool,
        /// Show more: which partitions a member has, a group's coordinator and strategy.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Delete groups with their committed offsets; without --execute only say which would go.
    Delete {
        #[command(flatten)]
        groups: Groups,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
    /// Move the committed offsets of groups that have no members; without --execute only say where
    /// to.
    ResetOffsets(Box<Reset>),
    /// Delete committed offsets of a group; without --execute only say which would go.
    DeleteOffsets {
        /// The group.
        group: String,
        /// Of this topic, or of some partitions of it; may be given several times.
        #[arg(long = "topic", required = true, value_name = "TOPIC[:PARTITION,..]")]
        topics: Vec<String>,
        /// Do it.
        #[arg(long)]
        execute: bool,
    },
}

/// How committed offsets are moved.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Reset {
    #[command(flatten)]
    pub(in super::super) groups: Groups,
    /// Of this topic, or of some partitions of it; may be given several times.
    #[arg(
        long = "topic",
        value_name = "TOPIC[:PARTITION,..]",
        required_unless_present_any = ["all_topics", "from_file"],
        conflicts_with = "all_topics",
    )]
    pub topics: Vec<String>,
    /// Of every partition that the group has committed.
    #[arg(long)]
    pub all_topics: bool,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    pub execute: bool,
    /// Only say where to, which is what happens without --execute.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the plan as the CSV that --from-file takes.
    #[arg(long)]
    pub export: bool,
    #[command(flatten)]
    pub(in super::super) to: ResetTo,
}

/// Where to.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
#[command(next_help_heading = "Where to")]
pub(in super::super) struct ResetTo {
    /// To the first record.
    #[arg(long)]
    pub(in super::super) to_earliest: bool,
    /// Behind the last record.
    #[arg(long)]
    pub(in super::super) to_latest: bool,
    /// To what is committed; behind the last record where nothing is.
    #[arg(long)]
    pub(in super::super) to_current: bool,
    /// To this offset, or to the nearest that the partition has.
    #[arg(long, value_name = "OFFSET", allow_negative_numbers = true)]
    pub(in super::super) to_offset: Option<i64>,
    /// So many records on, or back if negative.
    #[arg(long, value_name = "RECORDS", allow_negative_numbers = true)]
    pub(in super::super) shift_by: Option<i64>,
    /// To the first record of this time or later: YYYY-MM-DDThh:mm:ss.sss, in UTC without a zone.
    #[arg(long, value_name = "DATETIME")]
    pub(in super::super) to_datetime: Option<String>,
    /// To the first record that is at most so old, such as P1DT2H30M.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(in super::super) by_duration: Option<String>,
    /// To the offsets in FILE: lines of topic,partition,offset, or of group,topic,partition,offset.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topics", "all_topics"])]
    pub(in super::super) from_file: Option<PathBuf>,
}

impl GroupArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { action, connection, output } = self;
        let (connection, output) = (connection.into(), output.into());
        Command::Group(Box::new(Remote { connection, output, action }))
    }
}
