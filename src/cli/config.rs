//! `tidegate config reference`, `tidegate config schema` and `tidegate config check`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command's answer is its output")]

use std::io::Write as _;
use std::process::ExitCode;

use super::{EXIT_USAGE, Settings, proxy_warnings, warnings};
use crate::config::Role;

/// Prints the reference of every key of a broker or proxy.
pub fn reference(role: Role, markdown: bool) -> ExitCode {
    print(&if markdown { role.reference_markdown() } else { role.reference_text() })
}

/// Prints every key of a broker or proxy as a JSON Schema.
pub fn schema(role: Role) -> ExitCode {
    print(&role.json_schema())
}

fn print(text: &str) -> ExitCode {
    // A reader that stops early (`| head`) is no failure of ours, so this does not panic like
    // print! would.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Loads the configuration as a start would and says what is wrong with it, or what a start would
/// warn of.
pub fn check(settings: &Settings, role: Role) -> ExitCode {
    let warnings = match role {
        Role::Broker => settings.load().map(|config| warnings(&config)),
        Role::Proxy => settings.load_proxy().map(|config| proxy_warnings(&config)),
    };
    match warnings {
        Ok(warnings) => {
            for warning in warnings {
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
