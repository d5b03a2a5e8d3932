//! Apache Kafka: a cluster of one or more processes, each broker and controller in one, in a
//! directory of their own.

use std::fmt::{Display, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use kafka_protocol::messages::ApiVersionsRequest;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Wire, free_port, installation, send_signal, topology, until};

/// The ids of the directories and of the cluster.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// What keeps a Kafka small beside others; a few partitions of the internal topics are enough.
const SMALL: &str = "num.network.threads=1\nnum.io.threads=2\nbackground.threads=2\n\
    num.recovery.threads.per.data.dir=1\nlog.cleaner.dedupe.buffer.size=4194304\n\
    offsets.topic.num.partitions=3\nshare.coordinator.state.topic.num.partitions=3\n\
    group.initial.rebalance.delay.ms=0\n";

/// Whose jars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The newest that is installed: 4.3.
    Current,
    /// An older one.
    V3_9,
}

impl Release {
    fn folder(self) -> PathBuf {
        installation(match self {
            Release::Current => "java",
            Release::V3_9 => "kafka-3.9",
        })
    }

    /// A command-line tool of Kafka's.
    pub fn tool(self, class: &str) -> Command {
        self.java(class, "-Xmx128m")
    }

    fn java(self, class: &str, heap: &str) -> Command {
        let mut command = Command::new("java");
        command.args([heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(format!("{}/*", self.folder().display())).arg(class);
        command
    }
}

/// How a cluster is started.
pub struct KafkaOptions {
    release: Release,
    nodes: i32,
    host: fn(i32) -> String,
    heap: &'static str,
    settings: String,
    advertised: Vec<String>,
    /// Name, port and protocol of one more listener.
    listener: Option<(&'static str, u16, &'static str)>,
}

impl KafkaOptions {
    /// One small node at an address of its own, which no client is told but by Kafka.
    pub fn new() -> Self {
        Self {
            release: Release::Current,
            nodes: 1,
            host: |id| format!("127.0.1.{id}"),
            heap: "-Xmx320m",
            settings: SMALL.to_owned(),
            advertised: Vec::new(),
            listener: None,
        }
    }

    /// One node with Kafka's own defaults.
    pub fn of_defaults() -> Self {
        Self { heap: "-Xmx512m", settings: String::new(), ..Self::new() }
    }

    /// With the jars of `release`.
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// With nodes 1 to `nodes`.
    pub fn nodes(mut self, nodes: i32) -> Self {
        self.nodes = nodes;
        self
    }

    /// Adds one setting; `{id}` is the node's id.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        let _ = writeln!(self.settings, "{key}={value}");
        self
    }

    /// Gives each node one more listener, which speaks `protocol` and tells its own address.
    pub fn listener(mut self, name: &'static str, port: u16, protocol: &'static str) -> Self {
        self.listener = Some((name, port, protocol));
        self
    }

    /// Tells clients these addresses, node by node, and not those that it listens on; brokers have
    /// a listener of their own then.
    pub fn advertise(mut self, addresses: Vec<String>) -> Self {
        self.advertised = addresses;
        self
    }
}

/// A process of the cluster. Killed when dropped.
struct Node {
    id: i32,
    host: String,
    port: u16,
    controller: u16,
    /// Where brokers reach each other when clients are told something else.
    internal: u16,
    child: Option<Child>,
}

/// A cluster. Killed when dropped.
pub struct Kafka {
    options: KafkaOptions,
    nodes: Vec<Node>,
    folder: Arc<TempDir>,
}

impl Kafka {
    /// Formats a directory, starts Kafka in it with its own defaults and waits until it answers.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let mut options = KafkaOptions::of_defaults();
        options.host = |_| "127.0.0.1".to_owned();
        let set = |options: KafkaOptions, (key, value): &(&str, &str)| options.set(key, value);
        Self::start_with(settings.iter().fold(options, set))
    }

    /// Formats directories, starts the nodes and waits until they know each other.
    pub fn start_with(options: KafkaOptions) -> Self {
        let folder = Arc::new(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let node = |id| Node {
            id,
            host: (options.host)(id),
            port: free_port(),
            controller: free_port(),
            internal: free_port(),
            child: None,
        };
        let nodes = (1..=options.nodes).map(node).collect();
        let mut kafka = Self { options, nodes, folder };
        std::thread::scope(|threads| {
            for id in kafka.ids() {
                let kafka = &kafka;
                threads.spawn(move || kafka.format(id));
            }
        });
        kafka.ids().for_each(|id| kafka.begin_node(id));
        kafka.ids().for_each(|id| kafka.wait_for_node(id));
        kafka
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> std::ops::RangeInclusive<i32> {
        1..=self.options.nodes
    }

    /// Where the first node listens for clients.
    pub fn address(&self) -> String {
        self.node_address(1)
    }

    /// Where node `id` listens for clients.
    pub fn node_address(&self, id: i32) -> String {
        let node = self.node(id);
        format!("{}:{}", node.host, node.port)
    }

    /// Where node `id` listens for controllers.
    pub fn controller_address(&self, id: i32) -> String {
        let node = self.node(id);
        format!("{}:{}", node.host, node.controller)
    }

    /// The folder that has all of the cluster's files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All addresses, as a bootstrap list.
    pub fn bootstrap(&self) -> String {
        self.ids().map(|id| self.node_address(id)).collect::<Vec<_>>().join(",")
    }

    /// A connection to a node.
    pub fn connect(&self, id: i32) -> Wire {
        Wire::connect(&self.node_address(id))
    }

    /// The process id of a node that runs.
    pub fn pid(&self, id: i32) -> u32 {
        self.node(id).child.as_ref().unwrap().id()
    }

    /// Ends a node as an operator does (SIGTERM, a controlled shutdown) and waits for its end.
    pub fn stop_node(&mut self, id: i32) {
        send_signal(self.pid(id), Signal::TERM);
        self.node_mut(id).child.take().unwrap().wait().unwrap();
    }

    /// Ends a node as a power button does (SIGKILL).
    pub fn kill_node(&mut self, id: i32) {
        let mut child = self.node_mut(id).child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Halts a node (SIGSTOP): the kernel goes on taking connections and bytes for it.
    pub fn halt_node(&self, id: i32) {
        send_signal(self.pid(id), Signal::STOP);
    }

    /// Lets a halted node go on.
    pub fn resume_node(&self, id: i32) {
        send_signal(self.pid(id), Signal::CONT);
    }

    /// Starts a node that has ended again, where it was, and waits until the others know it.
    pub fn start_node(&mut self, id: i32) {
        self.begin_node(id);
        self.wait_for_node(id);
    }

    /// Starts a node that has ended again, with the same data, at another port for clients.
    pub fn start_node_at_a_new_port(&mut self, id: i32) {
        self.node_mut(id).port = free_port();
        self.start_node(id);
    }

    /// Stops and starts one node after the other; each is in sync again before the next.
    pub fn restart_in_turn(&mut self) {
        for id in self.ids() {
            self.stop_node(id);
            self.start_node(id);
            self.wait_until_in_sync();
        }
    }

    /// Waits until each partition of each topic has a leader and all its replicas in sync.
    pub fn wait_until_in_sync(&self) {
        let mut wire = self.connect(1);
        until("all replicas are in sync", || topology::is_in_sync(&mut wire).then_some(()));
    }

    /// What node `id` has printed and logged.
    pub fn log(&self, id: i32) -> String {
        std::fs::read_to_string(self.node_folder(id).join("log")).unwrap_or_default()
    }

    fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap()
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).unwrap()
    }

    fn node_folder(&self, id: i32) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn format(&self, id: i32) {
        let folder = self.node_folder(id);
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("server.properties");
        std::fs::write(&file, self.properties(id)).unwrap();
        let mut format = self.options.release.java("kafka.tools.StorageTool", "-Xmx64m");
        format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(&file);
        let formatted = format.output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
    }

    fn begin_node(&mut self, id: i32) {
        let folder = self.node_folder(id);
        let file = folder.join("server.properties");
        std::fs::write(&file, self.properties(id)).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let log = options.create(true).append(true).open(folder.join("log")).unwrap();
        let mut start = self.options.release.java("kafka.Kafka", self.options.heap);
        start.arg(&file).current_dir(folder).stdin(Stdio::null());
        start.stdout(log.try_clone().unwrap()).stderr(log);
        self.node_mut(id).child = Some(start.spawn().unwrap());
    }

    /// The socket opens early; the first answer comes when the broker is ready.
    fn wait_for_node(&mut self, id: i32) {
        let address = self.node_address(id);
        until(&format!("Kafka's node {id} listens"), || {
            let ended = self.node_mut(id).child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log(id));
            TcpStream::connect(&address).ok()
        });
        Wire::connect(&address).call(0, &ApiVersionsRequest::default());
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        let running: Vec<i32> = running.map(|node| node.id).collect();
        let told = |id: &i32| self.told_address(*id);
        let expected: Vec<String> = running.iter().map(told).collect();
        for id in running {
            // One that is only begun is waited for in its turn.
            let Some(mut wire) = Wire::try_connect(&self.node_address(id)) else { continue };
            until(&format!("node {id} knows all others"), || {
                let known = topology::addresses(&mut wire)?;
                expected.iter().all(|address| known.contains(address)).then_some(())
            });
        }
    }

    /// The address that clients are told.
    fn told_address(&self, id: i32) -> String {
        let told = self.options.advertised.get(id as usize - 1).cloned();
        told.unwrap_or_else(|| self.node_address(id))
    }

    fn properties(&self, id: i32) -> String {
        let (node, options) = (self.node(id), &self.options);
        let (host, port, controller) = (&node.host, node.port, node.controller);
        let voter = |node: &Node| format!("{}@{}:{}", node.id, node.host, node.controller);
        let voters: Vec<String> = self.nodes.iter().map(voter).collect();
        let replicas = options.nodes.min(3);
        let mut text = format!(
            "process.roles=broker,controller\nnode.id={id}\n\
             controller.quorum.voters={}\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={}\ntransaction.state.log.num.partitions={replicas}\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr=1\n",
            voters.join(","),
            self.node_folder(id).join("data").display(),
            (replicas + 1) / 2,
        );
        let mut own = format!("PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}");
        if let Some((name, port, protocol)) = options.listener {
            let _ = write!(own, ",{name}://{host}:{port}");
            let _ = writeln!(
                text,
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,\
                 {name}:{protocol}"
            );
        }
        if options.advertised.is_empty() {
            let _ = writeln!(text, "listeners={own}");
        } else {
            let internal = format!("INTERNAL://{host}:{}", node.internal);
            let told = self.told_address(id);
            let _ = write!(
                text,
                "listeners={own},{internal}\ninter.broker.listener.name=INTERNAL\n\
                 advertised.listeners=PLAINTEXT://{told},{internal}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,\
                 CONTROLLER:PLAINTEXT\n",
            );
        }
        // The last of two settings of one name counts.
        text + &options.settings.replace("{id}", &id.to_string())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for id in self.ids() {
                let log = self.log(id);
                let lines: Vec<&str> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(30)..];
                eprintln!("--- the end of the log of Kafka's node {id} ---\n{}", last.join("\n"));
            }
        }
    }
}
