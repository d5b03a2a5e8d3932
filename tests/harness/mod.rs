//! A broker process, a data directory of its own and a plain Kafka connection, for every suite; and
//! what the proxy's suites have beside it.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::print_stderr, reason = "the broker's log belongs to a failed test's output")]
#![allow(clippy::disallowed_methods, reason = "tests own their files, threads and clocks")]

pub mod authority;
pub mod bucket;
pub mod cli;
pub mod kafka;
pub mod kfake;
pub mod prometheus;
pub mod proxy;
pub mod relay;
pub mod servers;
pub mod tables;
pub mod topology;
pub mod wire;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

pub use wire::Wire;

/// How often, and how many times, a condition is looked at that no event tells.
const POLL: Duration = Duration::from_millis(20);
const POLLS: u32 = 6_000;
/// Lines of the broker's log that a failed test shows: its own words are not to be lost among them.
const LINES_OF_LOG: usize = 60;

/// The variable that names the place where a debug build kills itself (`src/failpoint.rs`).
pub const FAILPOINT: &str = "TIDEGATE_FAILPOINT";
/// The variable that tells a debug build other times than hours (`src/broker/delays.rs`).
pub const DELAYS: &str = "DELAYS_FOR_TESTS";

/// How a broker is started.
pub struct Options {
    /// The binary to start.
    pub binary: PathBuf,
    /// Further `key=value` settings; `{port}` is the port that clients connect to.
    pub settings: Vec<String>,
    /// The data directory; one in a temporary folder without it.
    pub data_dir: Option<PathBuf>,
    /// A library that takes the place of functions of the C library.
    pub preload: Option<PathBuf>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
}

impl Options {
    /// The binary that Cargo built for this test run, or the one `TIDEGATE_BIN` names.
    pub fn new() -> Self {
        let binary = std::env::var_os("TIDEGATE_BIN")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tidegate")), PathBuf::from);
        Self { binary, settings: Vec::new(), data_dir: None, preload: None, env: Vec::new() }
    }

    /// Adds one setting.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// Keeps the data on the disk of the build, where the system's folder for temporary files may
    /// be in memory. The folder goes with what is returned.
    pub fn on_disk(self) -> (Self, TempDir) {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        (self.data_dir(folder.path().join("data")), folder)
    }

    /// Keeps the data in `path`.
    pub fn data_dir(mut self, path: PathBuf) -> Self {
        self.data_dir = Some(path);
        self
    }
}

/// A broker process. Killed when dropped.
pub struct Broker {
    child: Child,
    /// Says once whether the process has become ready, or has ended before.
    ready: Mutex<Receiver<bool>>,
    options: Options,
    folder: Arc<TempDir>,
    port: u16,
    admin_port: u16,
    log: Arc<Mutex<String>>,
}

impl Broker {
    /// Starts a broker with default settings and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(Options::new())
    }

    /// Starts a broker in a fresh data directory and waits until it is ready.
    pub fn start_with(options: Options) -> Self {
        let mut broker = Self::begin(options);
        broker.become_ready();
        broker
    }

    /// Starts a broker in a fresh data directory and does not wait.
    pub fn begin(options: Options) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (port, admin_port) = (free_port(), free_port());
        let log = Arc::new(Mutex::new(String::new()));
        let (child, ready) = spawn(&options, folder.path(), port, admin_port, &log);
        Self { child, ready, options, folder, port, admin_port, log }
    }

    /// Waits until the process that was begun is ready; it must not end before.
    pub fn become_ready(&mut self) {
        assert!(self.is_ready_at_last(), "the broker ended before it was ready:\n{}", self.log());
    }

    /// Waits until the process that was begun is ready, or has ended before it was: false.
    pub fn is_ready_at_last(&mut self) -> bool {
        self.ready.get_mut().unwrap().recv().unwrap()
    }

    /// Kills the process as a power button would (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to drain (SIGTERM) and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.terminate();
        self.child.wait().unwrap().code()
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        send_signal(self.child.id(), Signal::TERM);
    }

    /// Starts the process again on the same ports and data directory; it must have ended.
    pub fn restart(&mut self) {
        self.begin_again();
        self.become_ready();
    }

    /// [`Broker::restart`] without the wait.
    pub fn begin_again(&mut self) {
        (self.child, self.ready) =
            spawn(&self.options, self.folder.path(), self.port, self.admin_port, &self.log);
    }

    /// [`Broker::begin_again`], with further environment variables, for this once.
    pub fn begin_again_with(&mut self, env: &[(&str, &str)]) {
        let known = self.options.env.len();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.options.env.extend(env);
        self.begin_again();
        self.options.env.truncate(known);
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.options.settings.push(format!("{key}={value}"));
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.options, self.folder.path())
    }

    /// Keeps the data in another directory from the next start on.
    pub fn move_to(&mut self, data_dir: PathBuf) {
        self.options.data_dir = Some(data_dir);
    }

    /// Runs another command of the binary with this broker's settings, which must end by itself;
    /// with a place where it kills itself, if one is named.
    pub fn output_of(&self, args: &[&str], failpoint: Option<&str>) -> Output {
        let (options, folder) = (&self.options, self.folder.path());
        let mut command = command(args, options, folder, free_port(), free_port());
        command.envs(failpoint.map(|place| (FAILPOINT, place)));
        command.output().unwrap()
    }

    /// Bytes of the write-ahead log's files.
    pub fn wal_bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.data_dir().join("wal")).unwrap().map(Result::unwrap);
        let is_of_log = |name: &str| !name.starts_with("checkpoint-");
        let files = files.filter(|file| file.file_name().to_str().is_some_and(is_of_log));
        // One that was removed meanwhile is none.
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// Starts another process on this one's data directory, which must end by itself: its exit code
    /// and what it wrote to standard error.
    pub fn start_beside(&self) -> (Option<i32>, String) {
        let output = self.output_of(&["serve"], None);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs another command of the binary with this one's settings: its exit code, and what it
    /// wrote to standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.output_of(arguments, None);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A plain Kafka connection.
    pub fn connect(&self) -> Wire {
        Wire::connect(&self.address())
    }

    /// A `GET` on the admin listener: status and body.
    pub fn admin(&self, path: &str) -> (u16, String) {
        http_get(self.admin_port, path)
    }

    /// The port of the admin listener.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// A `PUT` on the admin listener: status and body.
    pub fn admin_put(&self, path: &str, body: &str) -> (u16, String) {
        let (host, length) = (format!("127.0.0.1:{}", self.admin_port), body.len());
        let head = format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}");
        try_http(self.admin_port, &format!("{head}\r\n\r\n{body}")).expect("the process answers")
    }

    /// The value of a metric, `name` with its labels as the exposition writes them.
    pub fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        metrics.find(name).unwrap_or_else(|| panic!("no metric {name} in\n{}", metrics.0))
    }

    /// The values of all metrics at one moment.
    pub fn metrics(&self) -> Metrics {
        Metrics(self.admin("/metrics").1)
    }

    /// [`Broker::metrics`] of a process that may end: `None` when it has.
    pub fn try_metrics(&self) -> Option<Metrics> {
        Some(Metrics(try_http_get(self.admin_port, "/metrics")?.1))
    }

    /// Waits until `condition` holds, looking again and again: only for what no event tells.
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        until(what, || condition(self).then_some(()));
    }

    /// Waits until the process has logged `text`: its lines come through a pipe.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_until(&format!("the log says \"{text}\""), |broker| broker.log().contains(text));
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        status_kib(self.child.id(), "VmRSS:") * 1024
    }

    /// The most memory that was ever resident, in bytes.
    pub fn resident_max(&self) -> u64 {
        status_kib(self.child.id(), "VmHWM:") * 1024
    }

    /// Waits until the process has killed itself where it was told to.
    pub fn wait_for_the_failpoint(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end by itself; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// The metrics of one moment.
pub struct Metrics(String);

impl Metrics {
    /// The value of `name` with its labels as the exposition writes them; 0 for a series that has
    /// not begun.
    pub fn get(&self, name: &str) -> f64 {
        let family = name.split('{').next().unwrap();
        assert!(self.0.contains(&format!("# TYPE {family} ")), "no metric {family}");
        self.find(name).unwrap_or(0.0)
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.0.lines().filter(|line| !line.starts_with('#')).count()
    }

    /// The value of `name`, also of a family of which no series has begun.
    pub fn find(&self, name: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        show_end_of_log("the broker", &self.log());
    }
}

/// Shows the last lines of a log if a test fails now.
fn show_end_of_log(whose: &str, log: &str) {
    if std::thread::panicking() {
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES_OF_LOG)..];
        eprintln!("--- the end of the log of {whose} ---\n{}", last.join("\n"));
    }
}

/// Looks again and again until there is something: only for what no event tells.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..POLLS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(POLL);
    }
    panic!("not within {:?}: {what}", POLL * POLLS);
}

/// Sends a signal to a process.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Lets this process, and those that it starts from now on, open `files` files and sockets, or as
/// many as it may; how many that is. Only root may raise the hard limit.
pub fn raise_limit_of_files(files: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(files), maximum: limit.maximum.max(Some(files)) };
    if limit.maximum.is_none_or(|maximum| maximum >= files)
        || setrlimit(Resource::Nofile, wanted).is_err()
    {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A field of `/proc/PID/status` that is in KiB.
fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The folder or file `name` among what `tests/run` installs.
pub fn installation(name: &str) -> PathBuf {
    let folder = std::env::var_os("TIDEGATE_CLIENTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"),
        PathBuf::from,
    );
    let path = folder.join(name);
    assert!(path.exists(), "no {}; run tests/run", path.display());
    path
}

fn data_dir(options: &Options, folder: &Path) -> PathBuf {
    options.data_dir.clone().unwrap_or_else(|| folder.join("data"))
}

fn command(
    arguments: &[&str],
    options: &Options,
    folder: &Path,
    port: u16,
    admin_port: u16,
) -> Command {
    let mut command = Command::new(&options.binary);
    command.args(arguments);
    command.args(["--set", &format!("listeners=PLAINTEXT://127.0.0.1:{port}")]);
    command.args(["--set", &format!("admin.listener=127.0.0.1:{admin_port}")]);
    command.args(["--set", &format!("data.dir={}", data_dir(options, folder).display())]);
    for setting in &options.settings {
        command.args(["--set", &setting.replace("{port}", &port.to_string())]);
    }
    // The suites have TIDEGATE_* variables of their own, which are not settings.
    command.env_clear().envs(std::env::vars().filter(|(name, _)| !name.starts_with("TIDEGATE_")));
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    if let Some(library) = &options.preload {
        command.env("LD_PRELOAD", library);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A process, and what says once whether it has become ready or has ended before.
fn spawn(
    options: &Options,
    folder: &Path,
    port: u16,
    admin_port: u16,
    log: &Arc<Mutex<String>>,
) -> (Child, Mutex<Receiver<bool>>) {
    spawn_command(command(&["serve"], options, folder, port, admin_port), log)
}

fn spawn_command(mut command: Command, log: &Arc<Mutex<String>>) -> (Child, Mutex<Receiver<bool>>) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    collect_log(child.stderr.take().unwrap(), Arc::clone(log));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (told, ready) = channel();
    std::thread::spawn(move || {
        let is_ready = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("ready"));
        let _ = told.send(is_ready);
        // The rest of standard output is read away, so that the process never blocks on it.
        lines.for_each(drop);
    });
    (child, Mutex::new(ready))
}

fn collect_log(stderr: ChildStderr, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// A port that is free now and below the ephemeral range: while a broker is down, no client's own
/// connection can take its port.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` ports in a row, each as [`free_port`] has it.
pub fn free_ports(count: u16) -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;
    let start = (std::process::id() as u16).wrapping_mul(251) % COUNT;
    loop {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + start.wrapping_add(step) % COUNT;
        let mut ports = first..first + count;
        if ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
}

fn http_get(port: u16, path: &str) -> (u16, String) {
    try_http_get(port, path).expect("the process answers")
}

fn try_http_get(port: u16, path: &str) -> Option<(u16, String)> {
    try_http(port, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
}

fn try_http(port: u16, request: &str) -> Option<(u16, String)> {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
