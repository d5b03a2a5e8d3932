//! `tidegate completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::args;
use super::output::{end, write};

/// Prints what makes `shell` complete the command line.
pub fn completions(shell: Shell) -> ExitCode {
    end(write(&String::from_utf8_lossy(&args::completions(shell))))
}
