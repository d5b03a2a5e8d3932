//! `tidegate config reference` and `tidegate config check`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

use std::io::Write as _;
use std::process::ExitCode;

use super::{EXIT_USAGE, Settings, warnings};
use crate::config;

/// Prints the reference of every key.
pub fn reference(markdown: bool) -> ExitCode {
    let text = if markdown { config::reference_markdown() } else { config::reference_text() };
    // A reader that stops early (`| head`) is no failure of ours, so this does not panic like
    // print! would.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Loads the configuration as a start would and says what is wrong with it, or what a start would
/// warn of.
pub fn check(settings: &Settings) -> ExitCode {
    match settings.load() {
        Ok(config) => {
            for warning in warnings(&config) {
                eprintln!("warning: {warning}");
            }
            println!("the configuration is valid");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
