//! What a command answers: a table for people, or JSON or YAML with fixed fields for programs, on
//! standard output; all else goes to standard error.
#![allow(clippy::print_stderr, reason = "a command's messages are for whoever typed it")]

mod table;
mod yaml;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;

pub(super) use table::{Align, Table, column};

use super::EXIT_USAGE;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns for people; what they are may change.
    Table,
    /// One JSON document.
    Json,
    /// The same as a YAML document.
    Yaml,
}

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    format: Format,
    header: bool,
    colours: bool,
}

/// What a command was asked for: its fields are what programs read, its tables what people do.
pub(super) trait Answer: Serialize {
    /// The tables, each with a line above it if there is one.
    fn tables(&self) -> Vec<(Option<String>, Table)>;
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It was asked for something that cannot be: exit code 2.
    Usage(String),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// What failed was told already: exit code 1.
    Told,
}

impl Failure {
    /// It was tried and failed, for this reason.
    pub(super) fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }

    /// It cannot be done, for this reason.
    pub(super) fn usage(reason: impl Display) -> Self {
        Self::Usage(reason.to_string())
    }
}

/// Says why a command failed, if it did, and gives its exit code.
pub(super) fn end(outcome: Result<(), Failure>) -> ExitCode {
    let (code, reason) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Told) => return ExitCode::FAILURE,
        Err(Failure::Failed(reason)) => (ExitCode::FAILURE, reason),
        Err(Failure::Usage(reason)) => (ExitCode::from(EXIT_USAGE), reason),
    };
    complain(reason);
    code
}

/// Says what failed, on standard error.
pub(super) fn complain(reason: impl Display) {
    eprintln!("{} {reason}", label("error:", "1;31"));
}

/// Says what may surprise, on standard error.
pub(super) fn warn(reason: impl Display) {
    eprintln!("{} {reason}", label("warning:", "1;33"));
}

/// Says what happened, on standard error.
pub(super) fn note(text: impl Display) {
    eprintln!("{text}");
}

fn label(text: &str, colour: &str) -> String {
    if has_colours(io::stderr().is_terminal()) {
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// Colours are for a terminal, and for nobody who set `NO_COLOR` (no-color.org).
fn has_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Output {
    /// Prints in this form, in colours where standard output is a terminal.
    pub(super) fn of_terminal(format: Format, header: bool) -> Self {
        Self { format, header, colours: has_colours(io::stdout().is_terminal()) }
    }

    /// Prints an answer.
    pub(super) fn print(self, answer: &impl Answer) -> Result<(), Failure> {
        write(&self.render(answer)?)
    }

    /// Whether people read it, who may be told more in words.
    pub(super) fn is_table(self) -> bool {
        self.format == Format::Table
    }

    fn render(self, answer: &impl Answer) -> Result<String, Failure> {
        let unwritable = |error: serde_json::Error| Failure::failed(format!("write: {error}"));
        match self.format {
            Format::Table => Ok(self.tables(answer)),
            Format::Json => {
                let mut text = serde_json::to_string_pretty(answer).map_err(unwritable)?;
                text.push('\n');
                Ok(text)
            }
            Format::Yaml => Ok(yaml::document(&serde_json::to_value(answer).map_err(unwritable)?)),
        }
    }

    fn tables(self, answer: &impl Answer) -> String {
        let mut out = String::new();
        for (at, (title, table)) in answer.tables().iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            if let Some(title) = title {
                out.push_str(title);
                out.push('\n');
            }
            out.push_str(&table.render(self.header, self.colours));
        }
        out
    }
}

/// Writes to standard output. A reader that has read enough (`| head`) is no failure.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Two {
        zeta: Vec<i32>,
        alpha: Option<String>,
    }

    impl Answer for Two {
        fn tables(&self) -> Vec<(Option<String>, Table)> {
            let mut one = Table::new(vec![column("ZETA", Align::Right)]);
            one.rows(self.zeta.iter().map(|number| vec![number.to_string()]));
            let mut other = Table::new(vec![column("ALPHA", Align::Left)]);
            other.row(&[self.alpha.clone().unwrap_or_else(|| "-".to_owned())]);
            vec![(Some("first".to_owned()), one), (None, other)]
        }
    }

    fn rendered(format: Format, header: bool) -> String {
        let output = Output { format, header, colours: false };
        output.render(&Two { zeta: vec![7, 10], alpha: None }).unwrap()
    }

    #[test]
    fn one_answer_in_every_form() {
        assert_eq!(rendered(Format::Table, true), "first\nZETA\n   7\n  10\n\nALPHA\n-\n");
        assert_eq!(rendered(Format::Table, false), "first\n 7\n10\n\n-\n");
        let json = "{\n  \"zeta\": [\n    7,\n    10\n  ],\n  \"alpha\": null\n}\n";
        assert_eq!(rendered(Format::Json, true), json);
        assert_eq!(rendered(Format::Yaml, true), "alpha: null\nzeta:\n- 7\n- 10\n");
    }
}
