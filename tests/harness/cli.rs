//! The binary's commands that speak to a cluster.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Options, send_signal, until};

/// No line of a running command takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

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

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Options::new().binary);
        command.args(args).env("TIDEGATE_BOOTSTRAP_SERVER", &self.address);
        command.env_remove("TIDEGATE_COMMAND_CONFIG").stdin(Stdio::null());
        command
    }

    /// Runs a command, which must end by itself.
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().unwrap();
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

    /// Creates a topic and waits until each of its leaders answers: Apache Kafka's controller says
    /// that a topic is created before every broker knows of it.
    pub fn create_topic(&self, topic: &str, args: &[&str]) {
        self.done(&[&["topic", "create", topic], args].concat());
        until("every leader answers", || {
            let ran = self.run(&["topic", "describe", topic, "--format", "json"]);
            let told: Value = serde_json::from_str(&ran.out).ok()?;
            let partitions = told["topics"][0]["partitions"].as_array()?;
            partitions.iter().all(|partition| partition["end_offset"].is_i64()).then_some(())
        });
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

    /// Starts a command that goes on until it is told to end.
    pub fn begin(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || read_lines(out, |line| told.send(line).is_ok()));
        Running { child, lines }
    }

    /// Runs a command whose standard output is closed after its first line, as `| head -1` does.
    pub fn run_until_first_line(&self, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = String::new();
        BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut out).unwrap();
        let ended = child.wait_with_output().unwrap();
        Ran { code: ended.status.code(), out, err: String::from_utf8(ended.stderr).unwrap() }
    }
}

fn read_lines(mut out: BufReader<ChildStdout>, mut tell: impl FnMut(String) -> bool) {
    loop {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 || !tell(line) {
            return;
        }
    }
}

/// A command that goes on. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// The next line that it prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap().trim_end().to_owned()
    }

    /// The lines that it has printed since this was asked last.
    pub fn lines(&self) -> Vec<String> {
        self.lines.try_iter().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Ends it as Ctrl-C does; what became of it, with the lines that were not asked for.
    pub fn interrupt(self) -> Ran {
        send_signal(self.child.id(), Signal::INT);
        self.ended()
    }

    /// Waits until it ends by itself; what became of it, with the lines that were not asked for.
    pub fn ended(mut self) -> Ran {
        let mut out = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => out.push_str(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on; it printed {out}"),
            }
        }
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Ran { code: self.child.wait().unwrap().code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
