//! `tidegate produce`: the flags.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum, value_parser};

use super::super::Command;
use super::super::produce::{Form, Wanted};
use super::connection::ConnectionArgs;
use super::settings::key_and_value;
use crate::client::Acks;
use crate::protocol::compression::Compression;

/// How much of a record a line may be: what a topic takes by default (`message.max.bytes`).
const LINE_BYTES: usize = 1_048_588;

/// How records are produced, for every command that does.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub(super) struct ProducingArgs {
    /// The codec of batches.
    #[arg(long, value_name = "CODEC", value_parser = codec(), default_value = "none")]
    pub(super) compression: Compression,
    /// What is waited for: nothing, the leader, or all in-sync replicas.
    #[arg(long, value_name = "0|1|all", value_parser = acks(), default_value = "all")]
    pub(super) acks: Acks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// Each line is a value, perhaps with its key before it.
    Lines,
    /// Each line is an object as `tidegate consume --format json` prints it.
    Json,
}

#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  echo hello | tidegate produce greetings
      one record
  tidegate produce orders orders.txt --key-separator : --compression zstd
      a record for each line of a file, with the key before the colon
  tidegate consume orders --format json | tidegate produce orders-copy --format json
      copy a topic, with keys, headers, partitions and timestamps")]
pub(super) struct ProduceArgs {
    /// The topic.
    topic: String,
    /// The file with a record in each line; standard input without it.
    file: Option<PathBuf>,
    /// What a line is.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = FormArg::Lines)]
    format: FormArg,
    /// What stands between key and value in a line; \t is a tab.
    #[arg(long, short = 'K', value_name = "TEXT", value_parser = separator)]
    key_separator: Option<String>,
    /// The key of every record.
    #[arg(long, short, value_name = "KEY", conflicts_with = "key_separator")]
    key: Option<String>,
    /// Add a header to every record; may be given several times.
    #[arg(long, short = 'H', value_name = "KEY=VALUE", value_parser = key_and_value)]
    header: Vec<(String, String)>,
    /// A value of this text is none: a tombstone on a compacted topic.
    #[arg(long, short = 'Z', value_name = "TEXT")]
    null_value: Option<String>,
    /// The partition of every record; without it the key decides, as in Kafka's producer.
    #[arg(long, short, value_name = "PARTITION", value_parser = value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Leave the partition to the key where an object of --format json has one.
    #[arg(long, conflicts_with = "partition")]
    repartition: bool,
    /// The time of every record: YYYY-MM-DDThh:mm:ss.sss, or @ and milliseconds since 1970.
    #[arg(long, value_name = "DATETIME")]
    timestamp: Option<String>,
    #[command(flatten)]
    producing: ProducingArgs,
    /// Refuse longer lines.
    #[arg(long, value_name = "BYTES", default_value_t = LINE_BYTES)]
    max_line_bytes: usize,
    /// Print partition and offset of each record, with a tab between, in the order in which they
    /// are delivered.
    #[arg(long)]
    print_offsets: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl ProduceArgs {
    pub(super) fn into_command(self) -> Command {
        let wanted = Wanted {
            topic: self.topic,
            file: self.file.filter(|file| file.as_os_str() != "-"),
            form: match self.format {
                FormArg::Lines => Form::Lines,
                FormArg::Json => Form::Json,
            },
            key_separator: self.key_separator,
            key: self.key,
            headers: self.header,
            null_value: self.null_value,
            partition: self.partition,
            repartition: self.repartition,
            timestamp: self.timestamp,
            compression: self.producing.compression,
            acks: self.producing.acks,
            line_bytes_max: self.max_line_bytes,
            print_offsets: self.print_offsets,
        };
        Command::Produce { connection: self.connection.into(), wanted: Box::new(wanted) }
    }
}

fn codec() -> impl TypedValueParser<Value = Compression> {
    PossibleValuesParser::new(Compression::ALL.map(Compression::name)).map(|name| {
        let found = Compression::ALL.into_iter().find(|codec| codec.name() == name);
        found.unwrap_or(Compression::None)
    })
}

fn acks() -> impl TypedValueParser<Value = Acks> {
    PossibleValuesParser::new(["0", "1", "all"]).map(|name| match name.as_str() {
        "0" => Acks::None,
        "1" => Acks::Leader,
        _ => Acks::All,
    })
}

/// A text in which `\t` is a tab and `\\` a backslash.
fn separator(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('t') => out.push('\t'),
                Some('0') => out.push('\0'),
                Some('\\') => out.push('\\'),
                _ => return Err("knows \\t, \\0 and \\\\ behind a backslash".to_owned()),
            },
            c => out.push(c),
        }
    }
    if out.is_empty() { Err("must not be empty".to_owned()) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_may_be_a_tab_and_is_never_empty() {
        assert_eq!(separator(":"), Ok(":".to_owned()));
        assert_eq!(separator("a\\t\\\\\\0"), Ok("a\t\\\0".to_owned()));
        for wrong in ["", "\\", "\\n"] {
            assert!(separator(wrong).is_err(), "{wrong}");
        }
    }
}
