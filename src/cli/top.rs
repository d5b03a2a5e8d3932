//! `tidegate top`: a cluster at work, on the screen of a terminal or as one picture of text.
//!
//! [`cluster`] and [`groups`] ask what any Kafka tells, [`process`] reads what a Tidegate's metrics
//! tell; [`model`] makes a picture of two such looks, [`sheet`] rows of it, and [`view`] and
//! [`once`] show them. [`screen`] is the only file that knows a terminal.

mod cluster;
mod exposition;
mod figures;
mod groups;
mod http;
mod keys;
mod look;
mod model;
mod once;
mod process;
mod screen;
mod sheet;
mod view;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

pub(super) use self::http::{MetricsFrom, Page};
use self::look::Looker;
use super::connection::Connection;
use super::output::{Failure, Output, end};
use super::run_to_end;

/// What is to be watched, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Which cluster.
    pub connection: Connection,
    /// How one picture is printed.
    pub output: Output,
    /// The time between two looks.
    pub interval: Duration,
    /// Whether one picture is enough.
    pub once: bool,
    /// Where metrics come from.
    pub metrics: MetricsFrom,
}

/// Watches a cluster until somebody has seen enough, or prints one picture; the exit code: 0 done,
/// 1 failed, 2 asked wrongly.
pub fn top(asked: &Top) -> ExitCode {
    let opened = match asked.connection.open() {
        Ok(opened) => opened,
        Err(failure) => return end(Err(failure)),
    };
    let looker = Looker::new(opened, asked.metrics.clone());
    let is_once = asked.once || !asked.output.is_table() || !io::stdout().is_terminal();
    let shown = run_to_end(async {
        if is_once {
            Box::pin(once::once(looker, asked.interval, asked.output)).await
        } else {
            Box::pin(screen::watch(looker, asked.interval)).await
        }
    });
    shown.map_or_else(|code| code, end)
}

/// Why something failed, for the screen.
fn words(failure: Failure) -> String {
    match failure {
        Failure::Usage(reason) | Failure::Failed(reason) => reason,
        Failure::Told => "it failed".to_owned(),
    }
}
