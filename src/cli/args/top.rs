//! `tidegate top`: the flags.

use std::time::Duration;

use clap::Args;

use super::super::Command;
use super::super::top::{MetricsFrom, Page, Top};
use super::connection::{ConnectionArgs, OutputArgs};
use crate::config::duration;

#[derive(Args, Debug)]
#[command(after_long_help = "Keys:
  1-4, Tab   overview, topics, groups, metrics
  < >        sort by another column, r the other way round
  /          show what has these letters in its name; Esc shows all again
  p          pause          q, Ctrl-C  quit          ?  all keys

Examples:
  tidegate top
      watch the broker of this machine
  tidegate top -b kafka-1.example.com:9092 --interval 5s
      watch any Kafka cluster
  tidegate top -b broker.example.com:9092 --metrics http://broker.example.com:9464/metrics
      with what only the broker's metrics tell: latencies, memory, tiering, the bucket
  tidegate top --once --format json
      look for one interval, and print it for a program")]
pub(super) struct TopArgs {
    /// The time between two looks, such as 2s or 500ms; rates are over it.
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "2s")]
    interval: Duration,
    /// Look twice, print one picture and end, as it is done where standard output is no terminal or
    /// --format is not table.
    #[arg(long)]
    once: bool,
    /// Read Tidegate's metrics there, too [default: port 9464 of this machine, where the cluster is
    /// on it and a Tidegate answers].
    #[arg(long, value_name = "URL", value_parser = Page::parse)]
    metrics: Option<Page>,
    /// Read no metrics.
    #[arg(long, conflicts_with = "metrics")]
    no_metrics: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// No cluster is to be asked without a pause.
fn interval(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(100);
    match duration(text)? {
        short if short < LEAST => Err(format!("must be at least {} ms", LEAST.as_millis())),
        length => Ok(length),
    }
}

impl TopArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { interval, once, metrics, no_metrics, connection, output } = self;
        let metrics = match metrics {
            Some(page) => MetricsFrom::Page(page),
            None if no_metrics => MetricsFrom::Nowhere,
            None => MetricsFrom::WhereTheyMayBe,
        };
        let (connection, output) = (connection.into(), output.into());
        Command::Top(Box::new(Top { connection, output, interval, once, metrics }))
    }
}
