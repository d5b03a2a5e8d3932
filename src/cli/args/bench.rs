//! `tidegate bench`: the flags.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, value_parser};

use super::super::bench::{RECORD_BYTES_LEAST, Wanted};
use super::super::{Command, Remote};
use super::connection::{ConnectionArgs, OutputArgs};
use super::produce::ProducingArgs;
use crate::config::duration;

#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  tidegate bench
      as fast as it goes, for ten seconds
  tidegate bench --rate 10000 --record-bytes 500 --duration 1m
      latencies at a rate that is given
  tidegate bench -b kafka-1:9092 --replication-factor 3 --format json
      any Kafka cluster, for programs to read

Without --rate records wait for each other in the producers' buffers, and so latencies are those of
a cluster that is given more than it takes. With it each record has its time, and a record that
leaves late is counted from that time, so that a cluster that stands still is not measured less
often while it does.")]
pub(super) struct BenchArgs {
    /// Write to this topic, which must be there, instead of one that is made and deleted. Records
    /// stay in it.
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["partitions", "replication_factor"])]
    topic: Option<String>,
    /// How many partitions the topic is made with.
    #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(i32).range(1..))]
    #[arg(default_value_t = 6)]
    partitions: i32,
    /// How many replicas each partition has [default: the cluster's default.replication.factor].
    #[arg(long, short, value_name = "COUNT", value_parser = value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// The bytes of each record's value.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    #[arg(value_parser = value_parser!(u32).range(i64::from(RECORD_BYTES_LEAST)..=64 << 20))]
    record_bytes: u32,
    /// Records a second, of all producers together [default: as many as go].
    #[arg(long, value_name = "COUNT")]
    rate: Option<NonZeroU32>,
    /// How long records are produced, such as 30s or 5m.
    #[arg(long, short, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    duration: Duration,
    /// How many producers there are.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=1000))]
    #[arg(default_value_t = 1)]
    producers: u32,
    /// How many consumers there are; without any only producing is measured.
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(0..=1000))]
    #[arg(default_value_t = 1)]
    consumers: u32,
    #[command(flatten)]
    producing: ProducingArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl BenchArgs {
    pub(super) fn into_command(self) -> Command {
        let action = Wanted {
            topic: self.topic,
            partitions: self.partitions,
            replication_factor: self.replication_factor,
            record_bytes: self.record_bytes,
            rate: self.rate,
            duration: self.duration,
            producers: self.producers,
            consumers: self.consumers,
            compression: self.producing.compression,
            acks: self.producing.acks,
        };
        let (connection, output) = (self.connection.into(), self.output.into());
        Command::Bench(Box::new(Remote { connection, output, action }))
    }
}
