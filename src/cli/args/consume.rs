//! `tidegate consume …`: the flags.

use clap::{Args, ValueEnum, value_parser};

use super::super::Command;
use super::super::consume::{BytesForm, Format, Start, Stop};
use super::connection::ConnectionArgs;

#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  tidegate consume orders --from -10
      print the last ten records of each partition
  tidegate consume orders --follow --format '%T %p:%o %k = %v\\n'
      print records as they come, with time, place and key
  tidegate consume orders --from 2026-11-22T10:00:00 --to 2026-11-22T11:00:00 --format json
      print an hour's records as JSON, one to a line
  tidegate consume orders --group billing --follow
      read as a member of a consumer group, from where it stands")]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    consume: Consume,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What is read, and how it is printed.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Consume {
    /// The topics, or some partitions of them.
    #[arg(required = true, value_name = "TOPIC[:PARTITION,..]")]
    pub(in super::super) topics: Vec<String>,
    /// Read this partition only; may be given several times.
    #[arg(long, short, value_name = "PARTITION", value_parser = value_parser!(i32).range(0..))]
    pub(in super::super) partition: Vec<i32>,
    /// Begin here: beginning, end, an offset, -N for the last N records of each partition, or the
    /// first record of a time, @MS or YYYY-MM-DDThh:mm:ss [default: beginning; with --follow end].
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = Start::parse)]
    pub(in super::super) from: Option<Start>,
    /// End before this offset, or before the first record of a time, @MS or YYYY-MM-DDThh:mm:ss
    /// [default: end, which is where the partitions end now].
    #[arg(long, value_name = "WHERE", value_parser = Stop::parse)]
    pub(in super::super) to: Option<Stop>,
    /// End after so many records.
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = value_parser!(u64).range(1..))]
    pub(in super::super) max_records: Option<u64>,
    /// Go on with records that are yet to come.
    #[arg(long, short)]
    pub(in super::super) follow: bool,
    /// Read as a member of this consumer group, from where it stands, and commit what was printed.
    /// --from says where it begins if it has committed nothing.
    #[arg(long, short, value_name = "GROUP", conflicts_with_all = ["partition", "to"])]
    pub(in super::super) group: Option<String>,
    /// Which records of transactions are read.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Isolation::ReadUncommitted)]
    pub(in super::super) isolation: Isolation,
    /// Print each record so: json, or a text with %t topic, %p partition, %o offset, %T timestamp
    /// in ms, %k key, %v value, %h headers, %K and %V length of key and value (-1 for null), %%,
    /// \n, \r, \t, \0, \\ and \xHH.
    #[arg(long, value_name = "FORMAT", default_value = "%v\\n", value_parser = Format::parse)]
    pub(in super::super) format: Format,
    /// Print keys in this form.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = BytesForm::Text)]
    pub(in super::super) key_format: BytesForm,
    /// Print values in this form.
    #[arg(long, value_enum, value_name = "FORM", default_value_t = BytesForm::Text)]
    pub(in super::super) value_format: BytesForm,
}

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Isolation {
    /// Those of transactions that are committed.
    #[value(name = "read_committed", alias = "read-committed")]
    ReadCommitted,
    /// All of them, also of transactions that are open or were aborted.
    #[value(name = "read_uncommitted", alias = "read-uncommitted")]
    ReadUncommitted,
}

impl ConsumeArgs {
    pub(super) fn into_command(self) -> Command {
        let Self { consume, connection } = self;
        Command::Consume(Box::new((connection.into(), consume)))
    }
}
