//! A proxy process in front of an upstream.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    Metrics, Wire, free_port, free_ports, http_get, send_signal, show_end_of_log, spawn_command,
    status_kib, until,
};

/// Node ids 0 to 9 have a port each.
const NODES: u16 = 10;

/// How a proxy is started.
pub struct ProxyOptions {
    binary: PathBuf,
    upstream: String,
    arguments: Vec<String>,
}

impl ProxyOptions {
    /// In front of `upstream`, a bootstrap list; the binary that Cargo built for this test run, or
    /// the one `TIDEGATE_BIN` names.
    pub fn new(upstream: impl Into<String>) -> Self {
        let binary = super::Options::new().binary;
        let upstream = upstream.into();
        Self { binary, upstream, arguments: Vec::new() }
    }

    /// Adds one setting.
    pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.argument("--set").argument(&format!("{key}={value}"))
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A proxy process. Killed when dropped.
pub struct Proxy {
    child: Child,
    ready: Mutex<Receiver<bool>>,
    port: u16,
    admin_port: u16,
    log: Arc<Mutex<String>>,
    /// Its working directory.
    _folder: TempDir,
}

impl Proxy {
    /// Starts a proxy with default settings and waits until it is ready.
    pub fn start(upstream: impl Into<String>) -> Self {
        Self::start_with(&ProxyOptions::new(upstream))
    }

    /// Starts a proxy and waits until it is ready.
    pub fn start_with(options: &ProxyOptions) -> Self {
        let mut proxy = Self::begin(options);
        let is_ready = proxy.ready.get_mut().unwrap().recv().unwrap();
        assert!(is_ready, "the proxy ended before it was ready:\n{}", proxy.log());
        proxy
    }

    /// Starts a proxy and does not wait.
    pub fn begin(options: &ProxyOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, admin_port) = (free_ports(NODES + 1), free_port());
        let mut command = Command::new(&options.binary);
        command.args(["proxy", "--upstream", &options.upstream]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--admin-listener", &format!("127.0.0.1:{admin_port}")]);
        command.args(&options.arguments);
        // The suites have TIDEGATE_* variables of their own, which are not settings.
        let env = std::env::vars().filter(|(name, _)| !name.starts_with("TIDEGATE_"));
        command.env_clear().envs(env);
        command.current_dir(folder.path()).stdin(Stdio::null());
        let log = Arc::new(Mutex::new(String::new()));
        let (child, ready) = spawn_command(command, &log);
        Self { child, ready, port, admin_port, log, _folder: folder }
    }

    /// Where clients connect first.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where clients find node `id` of the upstream.
    pub fn node_address(&self, id: i32) -> String {
        format!("127.0.0.1:{}", i32::from(self.port) + 1 + id)
    }

    /// A connection to the bootstrap address.
    pub fn connect(&self) -> Wire {
        Wire::connect(&self.address())
    }

    /// A connection to node `id`.
    pub fn connect_to(&self, id: i32) -> Wire {
        Wire::connect(&self.node_address(id))
    }

    /// A `GET` on the admin listener: status and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        http_get(self.admin_port, path)
    }

    /// The port of the admin listener.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// The values of all metrics at one moment.
    pub fn metrics(&self) -> Metrics {
        Metrics(self.admin("/metrics").1)
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the process has logged `text`: its lines come through a pipe.
    pub fn wait_for_log(&self, text: &str) {
        until(&format!("the log says \"{text}\""), || self.log().contains(text).then_some(()));
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:") * 1024
    }

    /// The most memory that was ever resident, in bytes.
    pub fn resident_max(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:") * 1024
    }

    /// Sockets that are open, those that listen too.
    pub fn sockets(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        let open = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
        let link = |path: PathBuf| std::fs::read_link(path).ok();
        let links = open.filter_map(|entry| link(entry.path()));
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        send_signal(self.pid(), Signal::TERM);
    }

    /// Waits for the process to end by itself; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        show_end_of_log("the proxy", &self.log());
    }
}
