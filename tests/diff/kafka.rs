//! An Apache Kafka: one process, broker and controller in one, in a directory of its own.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kafka_protocol::messages::ApiVersionsRequest;
use tempfile::TempDir;

use crate::harness::{Wire, free_port};

/// How long a start may take.
const START: Duration = Duration::from_mins(2);

/// The process. Killed when dropped.
pub struct Kafka {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Kafka {
    /// Formats a directory, starts Kafka in it and waits until it answers.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let file = folder.path().join("server.properties");
        std::fs::write(&file, properties(folder.path(), port, controller, settings)).unwrap();
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&file);
        let formatted = format.output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut start = java("kafka.Kafka");
        start.arg(&file).current_dir(folder.path()).stdin(Stdio::null());
        start.stdout(log.try_clone().unwrap()).stderr(log);
        let mut kafka = Self { child: start.spawn().unwrap(), folder, port };
        kafka.wait_until_ready();
        kafka
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The socket opens early; the first answer comes when the broker is ready.
    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < START, "{}", self.log());
            std::thread::yield_now();
        }
        Wire::connect(&self.address()).call(0, &ApiVersionsRequest::default());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- the end of Kafka's log ---\n{}", last.join("\n"));
        }
    }
}

fn properties(folder: &Path, port: u16, controller: u16, settings: &[(&str, &str)]) -> String {
    let data = folder.join("data");
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n",
        data.display()
    );
    for (key, value) in settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn java(class: &str) -> Command {
    let jars = std::env::var_os("TIDEGATE_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"),
        PathBuf::from,
    );
    let jars = jars.join("java");
    assert!(jars.is_dir(), "no jars in {}; run tests/run", jars.display());
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(format!("{}/*", jars.display())).arg(class);
    command
}
