//! The client programs and how to start them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Which client runs the main job.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// Apache Kafka's `VerifiableProducer` and `VerifiableConsumer`.
    Java,
    /// confluent-kafka, that is librdkafka.
    Confluent,
    /// franz-go.
    FranzGo,
}

/// franz-go in one of the modes of its program.
pub fn franz_go(mode: &str, bootstrap: &str, topic: &str, last: &str) -> (Running, Lines) {
    Running::start(&mut Client::FranzGo.program(mode, bootstrap, topic, last))
}

/// confluent-kafka writes a log of so many bytes, at so many a second if that is not 0
/// (`python/log.py`).
pub fn log_writer(
    bootstrap: &str,
    topic: &str,
    partitions: usize,
    bytes: u64,
    rate: u64,
) -> (Running, Lines) {
    let mut command = python("log.py");
    command.args([bootstrap, topic, &partitions.to_string()]);
    command.args([bytes.to_string(), rate.to_string()]);
    Running::start(&mut command)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(folder().join("python/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/python").join(script));
    command
}

/// A running client; killed when dropped.
pub struct Running {
    child: Child,
}

/// The JSON lines that a client prints.
pub type Lines = std::io::Lines<BufReader<ChildStdout>>;

/// The folder into which `tests/run` installs clients.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("TIDEGATE_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"),
        PathBuf::from,
    );
    assert!(folder.is_dir(), "no clients in {}; run tests/run", folder.display());
    folder
}

/// One of Apache Kafka's tools, with a small heap so that several fit beside the broker.
pub fn kafka_tool(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}/java/*", folder().display()));
    command.arg(class);
    command
}

impl Client {
    /// A producer of the values `0` to `records - 1`, idempotent, that retries without end.
    pub fn producer(
        self,
        bootstrap: &str,
        topic: &str,
        records: usize,
        scratch: &Path,
    ) -> (Running, Lines) {
        let records = records.to_string();
        let mut command = match self {
            Client::Java => {
                let config = scratch.join("producer.properties");
                let settings = "enable.idempotence=true\nretries=2147483647\n\
                                delivery.timeout.ms=2147483647\n";
                std::fs::write(&config, settings).unwrap();
                let mut command = kafka_tool("org.apache.kafka.tools.VerifiableProducer");
                command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
                command.args(["--max-messages", &records, "--acks", "-1"]);
                command.arg("--command-config").arg(config);
                command
            }
            other => other.program("produce", bootstrap, topic, &records),
        };
        Running::start(&mut command)
    }

    /// A member of `group` that reads from the beginning and commits what it has read.
    pub fn consumer(self, bootstrap: &str, topic: &str, group: &str) -> (Running, Lines) {
        let mut command = match self {
            Client::Java => {
                let mut command = kafka_tool("org.apache.kafka.tools.VerifiableConsumer");
                command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
                command.args(["--group-id", group, "--reset-policy", "earliest"]);
                command
            }
            other => other.program("consume", bootstrap, topic, group),
        };
        Running::start(&mut command)
    }

    fn program(self, mode: &str, bootstrap: &str, topic: &str, last: &str) -> Command {
        let mut command = match self {
            Client::Confluent => python("main_job.py"),
            _ => Command::new(folder().join("franz-go")),
        };
        command.args([mode, bootstrap, topic, last]);
        command
    }
}

impl Running {
    fn start(command: &mut Command) -> (Self, Lines) {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Self { child }, lines)
    }

    /// Waits for the end and returns the exit code.
    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
