//! The binary's commands that speak to a cluster.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]

use std::process::{Command, Stdio};

use serde_json::Value;

use super::Options;

/// The command line, with a cluster to speak to.
pub struct Cli {
    address: String,
}

/// What became of a command.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Cli {
    /// Speaks to the cluster that has a server at `address`.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Runs a command, which must end by itself.
    pub fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(Options::new().binary);
        command.args(args).env("TIDEGATE_BOOTSTRAP_SERVER", &self.address);
        command.env_remove("TIDEGATE_COMMAND_CONFIG").stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        Ran { code: output.status.code(), out, err }
    }

    /// Runs a command that must end well.
    pub fn done(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran
    }

    /// Runs a command that must end well with `--format json`; its answer.
    pub fn json(&self, args: &[&str]) -> Value {
        let ran = self.done(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Runs a command that must fail with this exit code; what it says.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
        ran.err
    }
}
