//! Assembly of a proxy.
//!
//! Start: admin HTTP, then all listeners, also while no upstream answers: clients of a node that is
//! not known yet are held. Stop: the listeners drain, then admin HTTP ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::{RunError, drain_on_signal, relieve, resolve_host};
use crate::admin::process::{self, Role};
use crate::admin::{Admin, Health, Known, LogLevel};
use crate::budget::{Budget, Pool};
use crate::cli;
use crate::clock::{Clock, Random};
use crate::config::{Endpoint, Host, ProxyConfig, VirtualCluster};
use crate::metrics::Registry;
use crate::proxy::{ProxyListener, ProxyService, policy};
use crate::security::tls::TlsAcceptor;
use crate::server::{Connections, Door, DoorOptions, Limits, ListenerOptions};
use crate::shutdown::Shutdown;
use crate::task;

/// Runs a proxy until it is told to stop. `ready` is told once what was bound: the bootstrap
/// listener of each virtual cluster, and admin HTTP.
pub async fn serve(
    config: ProxyConfig,
    log_level: LogLevel,
    ready: impl FnOnce(&ProxyConfig, &[SocketAddr], SocketAddr),
) -> Result<(), RunError> {
    let (clock, random, registry) = (Clock::system(), Random::system(), Registry::new());
    let (shutdown, admin_shutdown) = (Shutdown::new(), Shutdown::new());
    let health = Health::starting();
    let admin = Admin::bind(&config.admin.listener).await?;
    let admin_address = admin.local_addr();
    let known = Known { registry: registry.clone(), health: health.clone(), log_level };
    let admin_task =
        task::spawn("admin", admin.serve(known, clock.clone(), admin_shutdown.clone()));
    let signals = task::spawn("signals", drain_on_signal(shutdown.clone()));
    let total = usize::try_from(config.process.memory_budget_bytes).unwrap_or(usize::MAX);
    let budget = Budget::of_proxy(total);
    process::register(&registry, Role::Proxy, &budget, config.limits.connections_max);
    let connections = Connections::new(clock.clone());
    let service = ProxyService::new(&config.clusters, &budget, &clock, &random, &registry)?;
    let options = DoorOptions {
        listeners: listeners(&config, &service, &clock).await?,
        limits: limits(&config),
        connections: Arc::clone(&connections),
        api_name: |key| policy::find(key).map(|row| row.name),
    };
    let service = Arc::new(service);
    let door = Arc::clone(&service);
    let door = Door::bind(options, door, &budget, clock.clone(), &registry, shutdown.clone());
    let door = door.map_err(RunError::Listener)?;
    let bound = door.local_addresses();
    service.bound(&bound);
    health.clear(Health::START);
    ready(&config, &bootstraps(&config, &bound), admin_address);
    let topology = task::spawn("topology", async move { service.refresh().await });
    let send = budget.pool(Pool::Send).clone();
    let relief = relieve(send, connections, clock.clone(), shutdown.clone(), || 0);
    task::spawn("send-pool", relief);
    let door_task = task::spawn("door", door.run());
    let outcome = drain(&shutdown, &health, door_task, &clock, &config).await;
    topology.abort();
    signals.abort();
    admin_shutdown.drain();
    let _ended = clock.timeout(Duration::from_secs(1), admin_task).await;
    info!("stopped");
    outcome
}

/// Waits for the end of the drain, or of its deadline.
async fn drain(
    shutdown: &Shutdown,
    health: &Health,
    door: tokio::task::JoinHandle<()>,
    clock: &Clock,
    config: &ProxyConfig,
) -> Result<(), RunError> {
    let deadline = config.process.shutdown_deadline;
    let draining = async {
        shutdown.draining().await;
        health.set("draining", "the proxy is stopping");
        info!(deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), "draining");
        clock.sleep(deadline).await;
        warn!("the deadline of the drain has passed; remaining connections are cut");
        shutdown.abort();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = door => ended.map_err(|error| RunError::Fatal(format!("front door: {error}"))),
        () = draining => unreachable!("the drain ends with the front door"),
    }
}

fn limits(config: &ProxyConfig) -> Limits {
    let max_idle = config.limits.connection_idle_max.unwrap_or(Duration::MAX);
    Limits {
        max_connections: config.limits.connections_max as usize,
        max_connections_per_ip: config.limits.connections_per_ip_max as usize,
        max_request_bytes: config.limits.request_bytes_max as usize,
        max_idle,
        // A consumer that works on what it has leaves the rest in its socket for as long as its
        // group allows (max.poll.interval.ms). What that keeps here is bounded otherwise.
        write_stall: max_idle,
        ..Limits::default()
    }
}

/// What the door is to listen on.
async fn listeners(
    config: &ProxyConfig,
    service: &ProxyService,
    clock: &Clock,
) -> Result<Vec<ListenerOptions>, RunError> {
    let mut options = Vec::new();
    for (place, cluster) in config.clusters.iter().enumerate() {
        let hosts = addresses(cluster).await?;
        let tls = cluster.tls.as_ref().map(|tls| TlsAcceptor::new(tls, clock.clone()));
        let tls = tls.transpose()?;
        if let Some(tls) = &tls {
            tls.tell_expiry(service.certificates(), &cluster.name);
        }
        for listener in service.listeners().filter(|listener| listener.cluster == place) {
            let Some(port) = port(cluster, listener) else { continue };
            options.extend(hosts.iter().map(|&host| ListenerOptions {
                name: Arc::clone(&listener.name),
                address: SocketAddr::new(host, port),
                tls: tls.clone(),
            }));
        }
    }
    Ok(options)
}

fn port(cluster: &VirtualCluster, listener: &ProxyListener) -> Option<u16> {
    match listener.node {
        None => Some(cluster.listener.port),
        Some(node) => cluster.nodes.bind_port(node),
    }
}

/// The addresses of a cluster's listeners. Where the system chooses a port it is one, since each
/// would get a port of its own.
async fn addresses(cluster: &VirtualCluster) -> Result<Vec<IpAddr>, RunError> {
    let Endpoint { host, port } = &cluster.listener;
    let mut found: BTreeSet<IpAddr> =
        cluster.listener.bind_addrs().iter().map(SocketAddr::ip).collect();
    if found.is_empty() {
        found = resolve_host(&cluster.name, host, *port).await?.map(|it| it.ip()).collect();
    }
    if *host == Host::Any && std::net::TcpListener::bind("[::]:0").is_err() {
        found.retain(IpAddr::is_ipv4);
    }
    let chosen_by_system = *port == 0 || cluster.nodes.bind_port_is_chosen();
    let most = if chosen_by_system { 1 } else { usize::MAX };
    Ok(found.into_iter().take(most).collect())
}

/// The first address of each virtual cluster's bootstrap listener, in the clusters' order.
fn bootstraps(config: &ProxyConfig, bound: &[(Arc<str>, SocketAddr)]) -> Vec<SocketAddr> {
    let first = |cluster: &VirtualCluster| {
        let name = ProxyService::bootstrap_name(&cluster.name);
        bound.iter().find(|(bound, _)| *bound == name).map(|(_, address)| *address)
    };
    config.clusters.iter().filter_map(first).collect()
}

/// Warns about what the configuration makes dangerous.
pub fn warn_about(config: &ProxyConfig) {
    for warning in cli::proxy_warnings(config) {
        warn!("{warning}");
    }
}
