//! `tidegate demo`: the flags.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use super::super::Command;
use super::super::demo::Shown;
use super::connection::ConnectionArgs;
use crate::config::duration;

#[derive(Args, Debug)]
#[command(after_long_help = "Topics: demo.orders (3 partitions), demo.clicks (6), demo.customers \
                             (compacted).
Groups: demo-billing reads orders and keeps up; demo-reports reads orders and clicks and lags.

Examples:
  tidegate demo
      until Ctrl-C; the topics stay
  tidegate demo --clean --duration 1s
      end soon, and delete the topics and groups")]
pub(super) struct DemoArgs {
    /// Records a second of each topic.
    #[arg(long, value_name = "COUNT", default_value = "20")]
    rate: NonZeroU32,
    /// End after so long, such as 30s or 5m [default: not before Ctrl-C].
    #[arg(long, short, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,
    /// Delete the topics and groups at the end.
    #[arg(long)]
    clean: bool,
    /// Draw other records; the same ones for the same number.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl DemoArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { rate, duration, clean, seed, connection } = self;
        let shown = Shown { rate, duration, clean, seed };
        Command::Demo { connection: connection.into(), shown }
    }
}
