//! The flags: what clap reads, and the [`Command`] that it stands for. A file for each group of
//! commands, and those that several share in files of their own.

mod bench;
mod bucket;
pub(super) mod cluster;
mod config;
mod connection;
pub(super) mod consume;
mod demo;
pub(super) mod group;
mod produce;
mod settings;
mod top;
pub(super) mod topic;
mod wal;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::bench::BenchArgs;
use self::bucket::BucketSub;
use self::cluster::ClusterArgs;
use self::config::ConfigSub;
use self::consume::ConsumeArgs;
use self::demo::DemoArgs;
use self::group::GroupArgs;
use self::produce::ProduceArgs;
use self::settings::{EitherArgs, ProxySettingsArgs, SettingsArgs};
use self::top::TopArgs;
use self::topic::TopicArgs;
use self::wal::WalSub;
use super::Command;

/// Reads the process's command line. Prints and exits for `--help`, `--version` and usage errors.
pub(super) fn parse() -> Command {
    Cli::parse().into_command()
}

/// What makes `shell` complete the command line.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut out);
    out
}

/// A Kafka-compatible broker and proxy in one binary.
///
/// Kafka clients connect to it as to Apache Kafka. What it acknowledges is on disk. Without any
/// configuration it listens on 127.0.0.1:9092 and keeps its data in ./tidegate-data.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  tidegate
      run a broker for this machine, with data in ./tidegate-data
  tidegate --data-dir /var/lib/tidegate --listeners PLAINTEXT://0.0.0.0:9092 \\
      --advertised-listeners PLAINTEXT://broker.example.com:9092
      run a broker for other machines too
  tidegate --set log.retention.ms=1d --set num.partitions=6
      set any configuration key
  tidegate serve --config /etc/kafka/server.properties
      take the configuration from a file, in TOML or as a Kafka server.properties
  TIDEGATE_LOG_RETENTION_MS=1d tidegate
      take it from the environment
  tidegate proxy --upstream kafka-1:9092,kafka-2:9092
      stand in front of a Kafka cluster, for clients of 127.0.0.1:19092
  tidegate doctor --config /etc/tidegate.toml
      try bucket, disk and listeners before the first start, or when something is slow
  tidegate doctor --upstream kafka-1.example.com:9092
      try the Kafka cluster that a proxy is to be put before
  tidegate topic create orders --partitions 6 --config retention.ms=86400000
      create a topic on the broker of this machine, or with -b of any Kafka cluster
  tidegate group describe billing
      show where a consumer group is, and its lag
  tidegate consume orders --follow --format '%p:%o %k = %v\\n'
      print records as they come
  tidegate top
      watch topics, groups and what the broker does
  tidegate config reference
      list every key with its type, default and effect"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the broker (what happens without a command, too).
    Serve(SettingsArgs),
    /// Run a proxy in front of a Kafka cluster: clients change one address and nothing else.
    Proxy(ProxySettingsArgs),
    /// List or check the configuration.
    #[command(subcommand)]
    Config(ConfigSub),
    /// Examine the write-ahead log.
    #[command(subcommand)]
    Wal(WalSub),
    /// Examine the bucket, or restore a broker from it.
    #[command(subcommand)]
    Bucket(BucketSub),
    /// Try the bucket, the disk and the listeners of a configuration, or with --upstream the Kafka
    /// cluster behind a proxy, and say what is wrong, what that does and what helps; exit code 1 if
    /// something is.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        either: EitherArgs,
    },
    /// Administer topics of any Kafka cluster.
    Topic(TopicArgs),
    /// Administer consumer groups of any Kafka cluster.
    Group(GroupArgs),
    /// Look at any Kafka cluster as a whole.
    Cluster(ClusterArgs),
    /// Produce records to a topic of any Kafka cluster, one for each line.
    Produce(ProduceArgs),
    /// Measure a Kafka cluster: throughput, and latency of producing and from end to end.
    Bench(BenchArgs),
    /// Fill sample topics of a Kafka cluster and let two consumer groups read them, to look at and
    /// to try commands on.
    Demo(DemoArgs),
    /// Print records of any Kafka cluster.
    Consume(ConsumeArgs),
    /// Watch any Kafka cluster: its nodes, topics, groups and their lag, and Tidegate's metrics.
    Top(TopArgs),
    /// Print what makes a shell complete commands and flags.
    #[command(after_long_help = "Examples:
  tidegate completions bash > /etc/bash_completion.d/tidegate
  tidegate completions zsh > \"${fpath[1]}/_tidegate\"
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

impl Cli {
    fn into_command(self) -> Command {
        match self.command {
            None => Command::Serve(self.settings.into()),
            Some(Sub::Serve(settings)) => Command::Serve(settings.into()),
            Some(Sub::Proxy(settings)) => Command::Proxy(settings.into()),
            Some(Sub::Config(sub)) => sub.into_command(),
            Some(Sub::Wal(sub)) => sub.into_command(),
            Some(Sub::Bucket(sub)) => sub.into_command(),
            Some(Sub::Doctor { json, either }) => {
                let (role, settings) = either.split();
                Command::Doctor { settings, role, json }
            }
            Some(Sub::Topic(args)) => args.into_command(),
            Some(Sub::Group(args)) => args.into_command(),
            Some(Sub::Cluster(args)) => args.into_command(),
            Some(Sub::Produce(args)) => args.into_command(),
            Some(Sub::Bench(args)) => args.into_command(),
            Some(Sub::Demo(args)) => args.into_command(),
            Some(Sub::Consume(args)) => args.into_command(),
            Some(Sub::Top(args)) => args.into_command(),
            Some(Sub::Completions { shell }) => Command::Completions(shell),
        }
    }
}

#[cfg(test)]
mod tests;
