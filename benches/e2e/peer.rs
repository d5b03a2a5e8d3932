//! The three servers that are compared: how each is started on an empty directory.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{self, Process};
use super::replay::Connection;
use super::wire::{self, fault};

/// The cluster id of the Kafka under test: 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "TidegateBenchClusterAA";
/// The topic of the first acknowledged produce.
const FIRST_TOPIC: &str = "first";
/// `TOPIC_ALREADY_EXISTS`, the answer to a `CreateTopics` that was sent again.
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// What Kafka's start script passes, beside the heap (`kafka-run-class.sh`,
/// `KAFKA_JVM_PERFORMANCE_OPTS`).
const JVM_OPTIONS: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Apache Kafka, combined `KRaft` mode.
    Kafka,
    /// The broker of this repository.
    Tidegate,
    /// The floor probe.
    Floor,
}

impl Kind {
    /// All of them, in the order of the tables' columns.
    pub(crate) const ALL: [Kind; 3] = [Kind::Kafka, Kind::Tidegate, Kind::Floor];

    /// The lane of a user who sets nothing.
    pub(crate) fn default_lane(self) -> Lane {
        match self {
            Kind::Kafka | Kind::Floor => Lane::PageCache,
            Kind::Tidegate => Lane::Durable,
        }
    }

    /// As arguments, tables and JSON name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kafka => "kafka",
            Kind::Tidegate => "tidegate",
            Kind::Floor => "floor",
        }
    }
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The page cache has it.
    PageCache,
    /// The disk has it.
    Durable,
}

/// Where things are, and how tidegate is set up.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The tidegate binary.
    pub(crate) tidegate: PathBuf,
    /// The folder with the folder `java`, which holds Kafka's jars.
    pub(crate) clients: PathBuf,
    /// The folder, on a real disk, in which every server gets its own.
    pub(crate) scratch: PathBuf,
    /// Configuration for tidegate beside what a lane needs, `key=value`.
    pub(crate) settings: Vec<String>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
}

/// What the start of a server cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// From exec to the first acknowledged produce.
    pub(crate) wall: Duration,
    /// The CPU time until then.
    pub(crate) cpu: Duration,
}

impl Peer {
    /// Starts a server on an empty directory, and returns at once.
    pub(crate) fn start(kind: Kind, lane: Lane, places: &Places) -> io::Result<Peer> {
        let prefix = format!("e2e-{}-", kind.name());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir_in(&places.scratch)?;
        let port = process::free_ports(2)?;
        let second = port + 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let command = match kind {
            Kind::Kafka => kafka(lane, [port, second], directory.path(), places)?,
            Kind::Tidegate => tidegate(lane, [port, second], directory.path(), places),
            Kind::Floor => floor(lane, port, directory.path())?,
        };
        let process = Process::start(kind.name(), command, directory)?;
        Ok(Peer { kind, address, process })
    }

    /// Where a tidegate tells its metrics.
    pub(crate) fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + 1)
    }

    /// Waits for the first acknowledged produce.
    pub(crate) fn first_produce(&mut self) -> io::Result<Start> {
        let records = wire::single_record(100);
        let mut produce = wire::produce(FIRST_TOPIC, 0, &records);
        let mut connection = self.connect()?;
        self.ask_for_topic(&mut connection, FIRST_TOPIC, 1)?;
        let since = Instant::now();
        loop {
            let error = wire::produced(connection.call(&mut produce)?)?.error;
            if error == 0 {
                let wall = self.process.begun.elapsed();
                return Ok(Start { wall, cpu: self.process.cpu()?.total() });
            }
            self.process.step(since, &format!("produce answers error {error}"))?;
        }
    }

    /// Waits until the server listens; later connections succeed at once.
    pub(crate) fn connect(&mut self) -> io::Result<Connection> {
        let since = Instant::now();
        loop {
            match Connection::open(self.address) {
                Ok(connection) => return Ok(connection),
                Err(error) => self.process.step(since, &format!("connect: {error}"))?,
            }
        }
    }

    /// Creates a topic and waits until its partitions have leaders.
    pub(crate) fn create_topic(
        &mut self,
        connection: &mut Connection,
        topic: &str,
        partitions: i32,
    ) -> io::Result<()> {
        if self.kind == Kind::Floor {
            return Ok(());
        }
        self.ask_for_topic(connection, topic, partitions)?;
        let since = Instant::now();
        for partition in 0..partitions {
            let mut probe = wire::fetch_nothing(topic, partition);
            loop {
                let (error, _) = wire::fetched(connection.call(&mut probe)?)?;
                if error == 0 {
                    break;
                }
                self.process
                    .step(since, &format!("fetch of {topic}-{partition} answers error {error}"))?;
            }
        }
        Ok(())
    }

    /// Creates a topic; a starting broker is asked again. The floor probe needs none.
    fn ask_for_topic(
        &mut self,
        connection: &mut Connection,
        topic: &str,
        partitions: i32,
    ) -> io::Result<()> {
        if self.kind == Kind::Floor {
            return Ok(());
        }
        let mut create = wire::create_topic(topic, partitions);
        let since = Instant::now();
        loop {
            let error = wire::topic_error(connection.call(&mut create)?)?;
            if error == 0 || error == TOPIC_ALREADY_EXISTS {
                return Ok(());
            }
            self.process.step(since, &format!("creating topic {topic:?} answers error {error}"))?;
        }
    }

    /// Deletes a topic, so that its disk space can be used again.
    pub(crate) fn delete_topic(&self, connection: &mut Connection, topic: &str) -> io::Result<()> {
        if self.kind == Kind::Floor {
            return Ok(());
        }
        match wire::topic_error(connection.call(&mut wire::delete_topic(topic))?)? {
            0 => Ok(()),
            error => Err(fault(format!("deleting topic {topic:?} answers error {error}"))),
        }
    }
}

fn kafka(
    lane: Lane,
    [port, controller]: [u16; 2],
    directory: &Path,
    places: &Places,
) -> io::Result<Command> {
    let flush = match lane {
        Lane::Durable => "log.flush.interval.messages=1\n",
        Lane::PageCache => "",
    };
    let data = directory.join("data");
    let properties = directory.join("server.properties");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             log.dirs={}\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             auto.create.topics.enable=false\n\
             log.segment.delete.delay.ms=100\n\
             log.retention.ms=-1\n\
             {flush}",
            data.display(),
        ),
    )?;
    let logging = directory.join("log4j2.properties");
    fs::write(
        &logging,
        "rootLogger.level = warn\n\
         rootLogger.appenderRef.console.ref = console\n\
         appender.console.type = Console\n\
         appender.console.name = console\n\
         appender.console.layout.type = PatternLayout\n\
         appender.console.layout.pattern = %p %c %m%n\n",
    )?;
    let java = || {
        let mut command = Command::new("java");
        command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
        command.arg("-cp").arg(places.clients.join("java").join("*"));
        command
    };
    let mut format = java();
    format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
    let formatted = format.arg(&properties).output()?;
    if !formatted.status.success() {
        let said = String::from_utf8_lossy(&formatted.stderr).into_owned();
        return Err(fault(format!("formatting Kafka's directory: {said}")));
    }
    let mut command = java();
    command.args(JVM_OPTIONS).arg("kafka.Kafka").arg(&properties);
    Ok(command)
}

fn tidegate(lane: Lane, [port, admin]: [u16; 2], directory: &Path, places: &Places) -> Command {
    let mut command = Command::new(&places.tidegate);
    // The bench's own variables have the prefix of the broker's configuration.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.arg("serve");
    let sync = match lane {
        Lane::PageCache => "wal.sync=interval",
        Lane::Durable => "wal.sync=always",
    };
    let settings = [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("admin.listener=127.0.0.1:{admin}"),
        format!("data.dir={}", directory.join("data").display()),
        "log.level=warn".to_owned(),
        sync.to_owned(),
    ];
    for setting in settings.iter().chain(&places.settings) {
        command.arg("--set").arg(setting);
    }
    command
}

fn floor(lane: Lane, port: u16, directory: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let durable = if lane == Lane::Durable { "durable" } else { "page-cache" };
    command.arg("--floor").arg(port.to_string()).arg(directory).arg(durable);
    Ok(command)
}
