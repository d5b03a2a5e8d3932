//! Assembly: what starts and stops, in which order.
//!
//! Start: admin HTTP (so that a start that waits can be seen), data directory, WAL, metadata,
//! replay, then the Kafka listeners. Stop: the listeners drain, then the broker makes everything
//! durable, then admin HTTP ends. A poisoned WAL and a fence end the process at once: nothing that
//! it could still say would be true.

pub mod proxy;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::admin::process::{self, Role};
use crate::admin::{Admin, Health, Known, LogLevel};
use crate::api::BrokerService;
use crate::broker::{Advertised, Broker, Environment, StartError, observe};
use crate::budget::{Budget, BytePool, Pool};
use crate::cli;
use crate::clock::{Clock, Random};
use crate::config::{Config, Endpoint, Host, Listener};
use crate::log_limit::LogLimit;
use crate::metrics::Registry;
use crate::protocol::versions;
use crate::security::CertificateMetrics;
use crate::security::tls::{TlsAcceptor, TlsError};
use crate::server::{Connections, Door, DoorOptions, Limits, ListenerOptions};
use crate::shutdown::Shutdown;
use crate::task;

/// How often the send pool is looked at.
const SEND_CHECK: Duration = Duration::from_millis(50);
/// A pool that is full at so many looks in a row has its slowest connections closed: one large
/// response that waits for what is about to come free is no reason to close any.
const FULL_LOOKS: u32 = 5;
/// Responses without room may owe this part of the send pool before readers are closed for them.
const OWED_SHARE: usize = 16;

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory has no absolute path.
    #[error("data directory \"{}\": {source}", directory.display())]
    Directory {
        /// The directory as it was configured.
        directory: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The admin listener cannot be bound.
    #[error(transparent)]
    Admin(#[from] crate::admin::BindError),
    /// A certificate or a key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener cannot be bound.
    #[error("{0}")]
    Listener(std::io::Error),
    /// A listener's certificate or key cannot be used.
    #[error("listener \"{name}\": {source}")]
    ListenerTls {
        /// The listener.
        name: String,
        /// What is wrong.
        source: TlsError,
    },
    /// A listener's host name leads nowhere.
    #[error("listener \"{name}\": host \"{host}\" cannot be resolved: {source}")]
    Resolve {
        /// The listener.
        name: String,
        /// The host.
        host: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The signal handlers cannot be installed.
    #[error("install signal handlers: {0}")]
    Signals(std::io::Error),
    /// The broker must not go on.
    #[error("{0}")]
    Fatal(String),
}

/// Runs a broker until it is told to stop. `ready` is told once what was bound.
pub async fn serve(
    config: Config,
    take_over: bool,
    log_level: LogLevel,
    ready: impl FnOnce(&Config, &[SocketAddr], SocketAddr, &std::path::Path),
) -> Result<(), RunError> {
    let config = Arc::new(config);
    let clock = Clock::system();
    let registry = Registry::new();
    let shutdown = Shutdown::new();
    let admin_shutdown = Shutdown::new();
    let health = Health::starting();
    let (data_dir, _temporary) = data_dir(&config, &Random::system())?;
    let admin = Admin::bind(&config.admin.listener).await?;
    let admin_address = admin.local_addr();
    let known = Known { registry: registry.clone(), health: health.clone(), log_level };
    let admin_task =
        task::spawn("admin", admin.serve(known, clock.clone(), admin_shutdown.clone()));
    let signals = task::spawn("signals", drain_on_signal(shutdown.clone()));
    let budget =
        Budget::new(usize::try_from(config.process.memory_budget_bytes).unwrap_or(usize::MAX));
    let connections_max = config.server.connections_max;
    process::register(&registry, Role::Broker, &budget, connections_max);
    let waiting = health.clone();
    let environment = Environment {
        config: Arc::clone(&config),
        clock: clock.clone(),
        random: Random::system(),
        budget: budget.clone(),
        registry: registry.clone(),
        shutdown: shutdown.clone(),
        data_dir: data_dir.clone(),
        take_over,
        waiting: Box::new(move |reason| match reason {
            Some(reason) => waiting.set("bucket", reason),
            None => waiting.clear("bucket"),
        }),
    };
    let (broker, _lock) = Broker::start(environment).await?;
    let connections = Connections::new(clock.clone());
    let door = bind_door(&broker, &connections, &registry, &shutdown).await?;
    let addresses = first_addresses(&config.server.listeners, &door.local_addresses());
    broker.set_advertised(advertised(&config.server.listeners, &door.local_addresses()));
    let open = Arc::clone(&connections);
    observe::register(&registry, &broker, Box::new(move || open.open()));
    health.clear(Health::START);
    ready(&config, &addresses, admin_address, &data_dir);
    task::spawn("send-pool", relieve_send_pool(Arc::clone(&broker), connections));
    let door_task = task::spawn("door", door.run());
    let outcome = supervise(&broker, &shutdown, &health, door_task, &clock).await;
    if outcome.is_ok() {
        broker.stop().await;
        info!("stopped");
    }
    signals.abort();
    admin_shutdown.drain();
    let _ended = clock.timeout(Duration::from_secs(1), admin_task).await;
    outcome
}

/// Waits for the drain to end, or for a reason to end at once.
async fn supervise(
    broker: &Arc<Broker>,
    shutdown: &Shutdown,
    health: &Health,
    door: tokio::task::JoinHandle<()>,
    clock: &Clock,
) -> Result<(), RunError> {
    let deadline = broker.config().process.shutdown_deadline;
    let draining = async {
        shutdown.draining().await;
        health.set("draining", "the broker is stopping");
        // Nobody can complete a rebalance any more: members are told at once to look elsewhere.
        broker.groups().close();
        info!(deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), "draining");
        clock.sleep(deadline).await;
        warn!("the deadline of the drain has passed; remaining connections are cut");
        shutdown.abort();
        std::future::pending::<()>().await;
    };
    let fatal = tokio::select! {
        ended = door => {
            return ended.map_err(|error| RunError::Fatal(format!("front door: {error}")));
        }
        () = draining => unreachable!("the drain ends with the front door"),
        poisoned = broker.stream().wait_poisoned() => poisoned.to_string(),
        fence = broker.cluster().fenced() => fence.to_string(),
    };
    error!(cause = fatal, "the broker must not go on");
    health.set_fatal(&fatal);
    shutdown.abort();
    Err(RunError::Fatal(fatal))
}

async fn drain_on_signal(shutdown: Shutdown) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        error!("signal handlers cannot be installed; only SIGKILL stops this process");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM received"),
        _ = interrupt.recv() => info!("SIGINT received"),
    }
    shutdown.drain();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    warn!("second signal received; connections are cut");
    shutdown.abort();
}

/// The data directory, absolute; a temporary one where the bucket is in memory.
fn data_dir(config: &Config, random: &Random) -> Result<(PathBuf, Option<Temporary>), RunError> {
    if let Some(configured) = &config.storage.data_dir {
        let absolute = std::path::absolute(configured)
            .map_err(|source| RunError::Directory { directory: configured.clone(), source })?;
        Ok((absolute, None))
    } else {
        let name = format!("tidegate-{:016x}", random.u64());
        let directory = std::env::temp_dir().join(name);
        Ok((directory.clone(), Some(Temporary(directory))))
    }
}

/// A directory that goes with the process.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            warn!(directory = %self.0.display(), %error, "temporary data directory left behind");
        }
    }
}

async fn bind_door(
    broker: &Arc<Broker>,
    connections: &Arc<Connections>,
    registry: &Registry,
    shutdown: &Shutdown,
) -> Result<Door<BrokerService>, RunError> {
    let server = &broker.config().server;
    let limits = Limits {
        max_connections: server.connections_max as usize,
        max_connections_per_ip: server.connections_per_ip_max as usize,
        max_request_bytes: server.request_bytes_max as usize,
        max_idle: server.connection_idle_max.unwrap_or(Duration::MAX),
        ..Limits::default()
    };
    let certificates = CertificateMetrics::new(registry);
    let mut listeners = Vec::new();
    for listener in &server.listeners {
        let name: Arc<str> = listener.name.as_str().into();
        let tls = listener.tls.as_ref();
        let tls = tls.map(|tls| TlsAcceptor::new(tls, broker.clock().clone())).transpose();
        let tls =
            tls.map_err(|source| RunError::ListenerTls { name: listener.name.clone(), source })?;
        if let Some(tls) = &tls {
            tls.tell_expiry(&certificates, &listener.name);
        }
        for address in addresses(listener).await? {
            let (name, tls) = (Arc::clone(&name), tls.clone());
            listeners.push(ListenerOptions { name, address, tls });
        }
    }
    let options = DoorOptions {
        listeners,
        limits,
        connections: Arc::clone(connections),
        api_name: |key| versions::find(key).map(|api| api.name),
    };
    let service = Arc::new(BrokerService::new(Arc::clone(broker)));
    let clock = broker.clock().clone();
    Door::bind(options, service, broker.budget(), clock, registry, shutdown.clone())
        .map_err(RunError::Listener)
}

/// The addresses to bind: what is written, all that a name resolves to (a client may take any of
/// them), or both families where every address of the machine is meant. With port 0 it is one
/// address, since several would get ports of their own.
async fn addresses(listener: &Listener) -> Result<Vec<SocketAddr>, RunError> {
    let mut found = listener.bind.bind_addrs();
    if found.is_empty() {
        found = resolve(listener).await?;
    }
    if listener.bind.host == Host::Any && std::net::TcpListener::bind("[::]:0").is_err() {
        found.retain(SocketAddr::is_ipv4);
    }
    if listener.bind.port == 0 {
        found.truncate(1);
    }
    Ok(found)
}

async fn resolve(listener: &Listener) -> Result<Vec<SocketAddr>, RunError> {
    let Endpoint { host, port } = &listener.bind;
    Ok(resolve_host(&listener.name, host, *port).await?.collect())
}

/// All addresses of a listener's host, each once.
async fn resolve_host(
    name: &str,
    host: &Host,
    port: u16,
) -> Result<impl Iterator<Item = SocketAddr>, RunError> {
    let (name, host) = (name.to_owned(), host.to_string());
    let failed = |source| RunError::Resolve { name: name.clone(), host: host.clone(), source };
    let found = tokio::net::lookup_host((host.clone(), port)).await.map_err(failed)?;
    let found: BTreeSet<SocketAddr> = found.collect();
    if found.is_empty() {
        return Err(failed(std::io::Error::other("it has no address")));
    }
    Ok(found.into_iter())
}

/// The first bound address of each listener, in the listeners' order.
fn first_addresses(listeners: &[Listener], bound: &[(Arc<str>, SocketAddr)]) -> Vec<SocketAddr> {
    let first = |listener: &Listener| {
        let found = bound.iter().find(|(name, _)| **name == *listener.name);
        found.map(|(_, address)| *address)
    };
    listeners.iter().filter_map(first).collect()
}

/// What clients are told, by listener: the advertised address, with the bound port for port 0.
fn advertised(
    listeners: &[Listener],
    bound: &[(Arc<str>, SocketAddr)],
) -> HashMap<Arc<str>, Advertised> {
    let entry = |(name, address): &(Arc<str>, SocketAddr)| {
        let listener = listeners.iter().find(|listener| *listener.name == **name)?;
        let port = match listener.advertised.port {
            0 => address.port(),
            port => port,
        };
        let host = match &listener.advertised.host {
            Host::Ip(IpAddr::V6(ip)) => ip.to_string(),
            host => host.to_string(),
        };
        Some((Arc::clone(name), Advertised { host, port }))
    };
    bound.iter().filter_map(entry).collect()
}

/// Closes the connections that take their responses most slowly while these hold so much memory
/// that the WAL's blocks find the send pool full (DESIGN D10), that loads from the bucket wait for
/// what only they hold, or that responses which did not wait for room owe much to the pool: readers
/// never stop producers, and a slow one stops no other. The same when the pool stays full, which it
/// is as long as any response waits for room there, so that those that hold room for responses
/// which cannot go out give way to it.
async fn relieve_send_pool(broker: Arc<Broker>, connections: Arc<Connections>) {
    let send = broker.budget().pool(Pool::Send).clone();
    let (clock, shutdown) = (broker.clock().clone(), broker.shutdown().clone());
    let others = || broker.stream().lingering().uncharged + broker.cache().stuck();
    relieve(send, connections, clock, shutdown, others).await;
}

/// Closes slow connections while the pool that pays for responses is full, or `others` wait for so
/// many bytes that only responses hold.
async fn relieve(
    send: BytePool,
    connections: Arc<Connections>,
    clock: Clock,
    shutdown: Shutdown,
    others: impl Fn() -> usize,
) {
    let mut full = 0_u32;
    let limit = LogLimit::new();
    loop {
        tokio::select! {
            () = clock.sleep(SEND_CHECK) => {}
            () = shutdown.draining() => return,
        }
        let mut wanted = others();
        if send.owed() > send.capacity() / OWED_SHARE {
            wanted += send.owed();
        }
        full = if send.is_exhausted() { full.saturating_add(1) } else { 0 };
        if full >= FULL_LOOKS {
            wanted = wanted.max(send.capacity() / 8);
        }
        let freed = if wanted > 0 { connections.relieve(wanted) } else { 0 };
        if freed > 0
            && let Some(more) = limit.allow(&clock)
        {
            warn!(wanted, freed, more, "send pool full; slowest connections closed");
        }
    }
}

/// Warns about what the configuration makes dangerous.
pub fn warn_about(config: &Config) {
    for warning in cli::warnings(config) {
        warn!("{warning}");
    }
}

#[cfg(test)]
mod tests;
