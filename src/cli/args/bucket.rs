//! `tidegate bucket …`: the flags.

use clap::Subcommand;

use super::super::{Command, Wanted};
use super::settings::SettingsArgs;
use crate::broker::restore::{OFFSET_GAP, OFFSET_GAP_MAX};

#[derive(Debug, Subcommand)]
pub(super) enum BucketSub {
    /// Read all that a broker which is not running has in its bucket, and say whether a restore
    /// would find everything; exit code 1 if not. Nothing is changed.
    Check {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Fill an empty data directory from the bucket, for a broker whose own is lost; stop that one
    /// first. What had not reached the bucket is lost and told. Repeat it if it was cut.
    Restore {
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        /// Go on so many offsets behind the last one known of each partition, so that none of a
        /// lost record is given out again.
        #[arg(
            long,
            value_name = "OFFSETS",
            default_value_t = OFFSET_GAP,
            value_parser = clap::value_parser!(i64).range(1..=OFFSET_GAP_MAX),
        )]
        offset_gap: i64,
        /// Go on without objects and groups that cannot be read; what they hold is lost then.
        #[arg(long)]
        skip_damaged: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

impl BucketSub {
    pub(super) fn into_command(self) -> Command {
        match self {
            Self::Check { json, settings } => {
                Command::BucketCheck { settings: settings.into(), json }
            }
            Self::Restore { json, offset_gap, skip_damaged, settings } => {
                let wanted = Wanted { json, offset_gap, skip_damaged };
                Command::BucketRestore { settings: settings.into(), wanted }
            }
        }
    }
}
