//! How a command that speaks to a cluster is told which, and how it prints.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::connection::Connection;
use super::super::output::{Format, Output};
use super::settings::key_and_value;
use crate::config::{BOOTSTRAP_VARIABLE, COMMAND_CONFIG_VARIABLE, duration};

/// Which cluster, and how to connect to it.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Some servers of the cluster; the others are learnt from them [default: 127.0.0.1:9092].
    #[arg(long, short = 'b', value_name = "HOST:PORT,..", env = BOOTSTRAP_VARIABLE, global = true)]
    bootstrap_server: Option<String>,
    /// Connect as the properties of a Kafka client in FILE say: security.protocol, ssl.*,
    /// bootstrap.servers, client.id, request.timeout.ms.
    #[arg(long, value_name = "FILE", env = COMMAND_CONFIG_VARIABLE, global = true)]
    command_config: Option<PathBuf>,
    /// Set one property of a Kafka client; may be given several times.
    #[arg(long, short = 'X', value_name = "KEY=VALUE", value_parser = key_and_value, global = true)]
    command_property: Vec<(String, String)>,
    /// Give up after so long, such as 30s or 500ms; on each record that produce and bench deliver
    /// [default: 60s; for a record 2m].
    #[arg(long, value_name = "DURATION", value_parser = duration, global = true)]
    timeout: Option<Duration>,
}

impl From<ConnectionArgs> for Connection {
    fn from(args: ConnectionArgs) -> Self {
        let ConnectionArgs { bootstrap_server, command_config, command_property, timeout } = args;
        Self {
            bootstrap: bootstrap_server,
            file: command_config,
            properties: command_property,
            timeout,
        }
    }
}

/// How an answer is printed.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print the answer in this form; JSON and YAML have the same, documented fields.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Table, global = true)]
    format: Format,
    /// Leave the names of the columns out of tables.
    #[arg(long, global = true)]
    no_header: bool,
}

impl From<OutputArgs> for Output {
    fn from(OutputArgs { format, no_header }: OutputArgs) -> Self {
        Self::of_terminal(format, !no_header)
    }
}
