//! `tidegate wal check`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

use std::process::ExitCode;

use super::{EXIT_USAGE, Settings};
use crate::wal::check;
use crate::wal::disk::RealDisk;

/// Reads the whole write-ahead log of the configured data directory, changes nothing, and says
/// whether a start would accept it: exit code 0 if it would, 1 if not.
pub fn wal_check(settings: &Settings) -> ExitCode {
    let config = match settings.load() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let Some(data_dir) = config.storage.data_dir else {
        eprintln!("the data directory is temporary; there is no write-ahead log to check");
        return ExitCode::from(EXIT_USAGE);
    };
    match check::check(&*RealDisk::new(data_dir.join("wal"))) {
        Ok(report) => {
            print!("{report}");
            if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
