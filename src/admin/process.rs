//! What `/metrics` says of the process itself, whatever its role: what runs, what the operating
//! system has given it, its byte budget, its async runtime.
//!
//! The `process_*` names are those of Prometheus' own client libraries.
#![allow(clippy::disallowed_methods, reason = "/proc is told by the kernel, and no file of ours")]

use std::fs;

use rustix::process::{Resource, getrlimit};
use tokio::runtime::Handle;

use crate::budget::Budget;
use crate::metrics::Kind::{Counter, Gauge};
use crate::metrics::{Family, Page, Registry, Source, labels};

/// What the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has partitions.
    Broker,
    /// It stands before other brokers.
    Proxy,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Broker => "broker",
            Role::Proxy => "proxy",
        }
    }
}

const BUILD_INFO: Family =
    Family::new("tidegate_build_info", Gauge, "1, with what runs here.", &["version", "role"]);
const CPU_SECONDS: Family = Family::new(
    "process_cpu_seconds_total",
    Counter,
    "Total user and system CPU time spent in seconds.",
    &[],
);
const RESIDENT_BYTES: Family =
    Family::new("process_resident_memory_bytes", Gauge, "Resident memory size in bytes.", &[]);
const VIRTUAL_BYTES: Family =
    Family::new("process_virtual_memory_bytes", Gauge, "Virtual memory size in bytes.", &[]);
const OPEN_FDS: Family =
    Family::new("process_open_fds", Gauge, "Number of open file descriptors.", &[]);
const MAX_FDS: Family =
    Family::new("process_max_fds", Gauge, "Maximum number of open file descriptors.", &[]);
const THREADS: Family =
    Family::new("process_threads", Gauge, "Number of OS threads in the process.", &[]);
const START_SECONDS: Family = Family::new(
    "process_start_time_seconds",
    Gauge,
    "Start time of the process since unix epoch in seconds.",
    &[],
);
const MEMORY_USED: Family = Family::new(
    "tidegate_memory_used_bytes",
    Gauge,
    "Bytes of memory.budget.bytes in use, by pool.",
    &["pool"],
);
const MEMORY_LIMIT: Family = Family::new(
    "tidegate_memory_limit_bytes",
    Gauge,
    "Bytes of memory.budget.bytes that a pool holds at most.",
    &["pool"],
);
const WORKERS: Family = Family::new(
    "tidegate_runtime_workers",
    Gauge,
    "Threads that run the process's asynchronous tasks.",
    &[],
);
const TASKS: Family =
    Family::new("tidegate_runtime_tasks", Gauge, "Asynchronous tasks that have not ended.", &[]);
const QUEUED: Family = Family::new(
    "tidegate_runtime_queued_tasks",
    Gauge,
    "Asynchronous tasks in the queue that all workers share.",
    &[],
);
const BUSY: Family = Family::new(
    "tidegate_runtime_busy_seconds_total",
    Counter,
    "Time for which workers were at work, of all workers together.",
    &[],
);

const CONNECTIONS: Family = Family::new(
    "tidegate_server_connections_limit",
    Gauge,
    "The most connections at a time: max.connections, or the limit of open files if that is less.",
    &[],
);

const FAMILIES: [&Family; 15] = [
    &BUILD_INFO,
    &CPU_SECONDS,
    &RESIDENT_BYTES,
    &VIRTUAL_BYTES,
    &OPEN_FDS,
    &MAX_FDS,
    &THREADS,
    &START_SECONDS,
    &MEMORY_USED,
    &MEMORY_LIMIT,
    &WORKERS,
    &TASKS,
    &QUEUED,
    &BUSY,
    &CONNECTIONS,
];

/// The process as a source of metrics.
#[derive(Debug)]
struct Process {
    role: Role,
    budget: Budget,
    connections_max: u32,
    runtime: Handle,
    /// When the machine started, in seconds since the Unix epoch, if the kernel tells.
    machine_start: Option<f64>,
}

/// Adds the metrics of the process, which runs on the present runtime and takes so many
/// connections.
pub fn register(registry: &Registry, role: Role, budget: &Budget, connections_max: u32) {
    let source = Process {
        role,
        budget: budget.clone(),
        connections_max,
        runtime: Handle::current(),
        machine_start: machine_start(),
    };
    registry.add(std::sync::Arc::new(source));
}

impl Source for Process {
    fn families(&self) -> Vec<&'static Family> {
        FAMILIES.to_vec()
    }

    fn collect(&self, page: &mut Page) {
        let build = [("version", env!("CARGO_PKG_VERSION")), ("role", self.role.name())];
        page.family(&BUILD_INFO, [(labels(&build).as_str(), 1.0)]);
        self.system(page);
        self.memory(page);
        self.work(page);
    }
}

impl Process {
    /// What the kernel knows; nothing where it does not tell.
    fn system(&self, page: &mut Page) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::of)
        {
            page.value(&CPU_SECONDS, stat.cpu_seconds);
            page.value(&RESIDENT_BYTES, stat.resident_bytes);
            page.value(&VIRTUAL_BYTES, stat.virtual_bytes);
            page.value(&THREADS, stat.threads);
            if let Some(machine_start) = self.machine_start {
                page.value(&START_SECONDS, machine_start + stat.start_seconds);
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is for this look.
            page.value(&OPEN_FDS, open.count().saturating_sub(1) as f64);
        }
        let files = getrlimit(Resource::Nofile).current;
        if let Some(most) = files {
            page.value(&MAX_FDS, most as f64);
        }
        let connections = u64::from(self.connections_max).min(files.unwrap_or(u64::MAX));
        page.value(&CONNECTIONS, connections as f64);
    }

    fn memory(&self, page: &mut Page) {
        let pools = self.budget.pools().iter().filter(|pool| pool.capacity() > 0);
        let pools: Vec<_> = pools.map(|pool| (labels(&[("pool", pool.name())]), pool)).collect();
        let used = pools.iter().map(|(labels, pool)| (labels.as_str(), pool.used() as f64));
        page.family(&MEMORY_USED, used);
        let limit = pools.iter().map(|(labels, pool)| (labels.as_str(), pool.capacity() as f64));
        page.family(&MEMORY_LIMIT, limit);
    }

    fn work(&self, page: &mut Page) {
        let runtime = self.runtime.metrics();
        let workers = runtime.num_workers();
        let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
        page.value(&WORKERS, workers as f64);
        page.value(&TASKS, runtime.num_alive_tasks() as f64);
        page.value(&QUEUED, runtime.global_queue_depth() as f64);
        page.value(&BUSY, busy.map(|busy| busy.as_secs_f64()).sum());
    }
}

/// What `/proc/self/stat` says (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    /// From the machine's start to the process's.
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    /// The second field is the program's name, which may hold anything; fields are counted from
    /// the one behind it, the third.
    fn of(text: &str) -> Option<Self> {
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            threads: field(20)?,
            start_seconds: field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * rustix::param::page_size() as f64,
        })
    }
}

/// When the machine started, in seconds since the Unix epoch.
fn machine_start() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is counted in whole numbers is exact")]

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_programs_name_may_hold_anything() {
        let text = "1 (a ) b) S 0 1 1 0 -1 4194560 10 0 0 0 150 50 0 0 20 0 7 0 300 4096 2 18446";
        let stat = Stat::of(text).unwrap();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(stat.cpu_seconds, 200.0 / ticks);
        assert_eq!((stat.threads, stat.start_seconds), (7.0, 300.0 / ticks));
        assert_eq!(stat.virtual_bytes, 4096.0);
        assert_eq!(stat.resident_bytes, 2.0 * rustix::param::page_size() as f64);
        assert_eq!(Stat::of("1 (a) S 0"), None);
    }

    #[tokio::test]
    async fn the_process_tells_what_it_is_and_has() {
        let registry = Registry::new();
        register(&registry, Role::Proxy, &Budget::of_proxy(64 << 20), 7);
        let text = registry.encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
        };
        let build = format!(
            "tidegate_build_info{{version=\"{}\",role=\"proxy\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(value(&build), 1.0);
        assert_eq!(value("tidegate_memory_limit_bytes{pool=\"send\"}"), f64::from(32 << 20));
        assert!(!text.contains("pool=\"wal\""), "a proxy has no log");
        assert_eq!(value("tidegate_server_connections_limit "), 7.0);
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") <= value("process_max_fds "));
        assert!(value("process_threads ") >= 1.0 && value("tidegate_runtime_workers ") >= 1.0);
        let now = Clock::system().wall_ms() as f64 / 1e3;
        let age = now - value("process_start_time_seconds ");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        for family in FAMILIES {
            assert!(text.contains(&format!("# TYPE {} ", family.name)), "{}", family.name);
        }
    }
}
