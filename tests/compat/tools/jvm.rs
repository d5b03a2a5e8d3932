//! One Java process that runs tools one after another (`tests/compat/java/Tools.java`).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::clients::folder;

/// The process; it ends when dropped.
pub struct Jvm {
    child: Child,
    calls: ChildStdin,
    results: BufReader<ChildStdout>,
}

/// What became of a tool's run.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i64,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

impl Jvm {
    /// Starts the process; the source is compiled as it starts.
    pub fn start() -> Self {
        const JAVA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compat/java");
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg(format!("-Dlog4j2.configurationFile={JAVA}/log4j2.properties"));
        command.args(["-cp", &format!("{}/java/*", folder().display())]);
        command.arg(format!("{JAVA}/Tools.java"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let calls = child.stdin.take().unwrap();
        let results = BufReader::new(child.stdout.take().unwrap());
        Self { child, calls, results }
    }

    /// Runs the main of `class` with `input` as its standard input.
    pub fn run(&mut self, class: &str, args: &[&str], input: &str) -> Ended {
        writeln!(self.calls, "{}", json!({ "class": class, "args": args, "input": input }))
            .unwrap();
        self.calls.flush().unwrap();
        let mut line = String::new();
        self.results.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the process of the tools has ended");
        let result: Value = serde_json::from_str(&line).unwrap();
        let text = |field: &str| result[field].as_str().unwrap().to_owned();
        let code = result["code"].as_i64().unwrap();
        Ended { code, output: text("output"), errors: text("errors") }
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
