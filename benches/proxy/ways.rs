//! The ways from a client to the upstream: none in between, the relay, or the proxy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use super::frames;
use super::machine::Cpu;
use super::peer::Places;
use super::process::{self, Process};
use super::replay::Connection;
use super::wire::fault;

/// What stands between client and upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Direct,
    /// The raw copy relay.
    Relay,
    /// A second relay, beside which the first shows how much the figures of a run are worth.
    RelayAgain,
    /// The proxy of this repository.
    Proxy,
}

impl Kind {
    /// All of them, in the order in which they take their turns.
    pub(crate) const ALL: [Kind; 4] = [Kind::Direct, Kind::Relay, Kind::Proxy, Kind::RelayAgain];

    /// As arguments and tables name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Relay => "relay",
            Kind::RelayAgain => "relay-again",
            Kind::Proxy => "proxy",
        }
    }
}

/// A way that can be taken.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) kind: Kind,
    /// Where a client finds the node.
    pub(crate) address: SocketAddr,
    /// Where a client that asks for the nodes begins.
    pub(crate) bootstrap: SocketAddr,
    process: Option<Process>,
}

impl Way {
    /// Opens a way to the node that listens on `upstream`, and waits until it leads there.
    pub(crate) fn open(kind: Kind, upstream: u16, places: &Places) -> io::Result<Way> {
        // The bootstrap listener, the listener of the node (base + id), and the metrics.
        let node = u16::try_from(frames::NODE).unwrap_or(0) + 1;
        let ports = process::free_ports(node + 2)?;
        let at = |port, bootstrap| Way {
            kind,
            address: local(port),
            bootstrap: local(bootstrap),
            process: None,
        };
        let (mut way, command) = match kind {
            Kind::Direct => return Ok(at(upstream, upstream)),
            Kind::Relay | Kind::RelayAgain => {
                (at(ports, ports), ourselves("--relay", &[ports, upstream])?)
            }
            Kind::Proxy => {
                (at(ports + node, ports), proxy(ports, ports + node + 1, upstream, places))
            }
        };
        let directory = tempfile::Builder::new().prefix("proxy-").tempdir_in(&places.scratch)?;
        let mut process = Process::start(kind.name(), command, directory)?;
        let begun = Instant::now();
        while let Err(error) = way.connect().and_then(|mut it| answers(&mut it)) {
            let said = process.step(begun, &error.to_string());
            said.map_err(|error| fault(format!("{error}\n{}", process.log_tail())))?;
        }
        eprintln!("{} is process {}", kind.name(), process.id());
        way.process = Some(process);
        Ok(way)
    }

    /// A connection to the upstream's node.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.address)
    }

    /// The CPU time of the process in between; none if there is none.
    pub(crate) fn cpu(&self) -> io::Result<Option<Cpu>> {
        self.process.as_ref().map(Process::cpu).transpose()
    }

    /// The process in between.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// An error with the way's name and the end of what its process logged.
    pub(crate) fn fault(&self, error: &io::Error) -> io::Error {
        let log = self.process.as_ref().map(Process::log_tail).unwrap_or_default();
        fault(format!("{}: {error}\n{log}", self.kind.name()))
    }
}

/// CPU time between two readings of one way.
pub(crate) fn spent(before: Option<&Cpu>, after: Option<&Cpu>) -> Duration {
    match (before, after) {
        (Some(before), Some(after)) => after.since(before),
        _ => Duration::ZERO,
    }
}

/// Starts the upstream stand-in; its port.
pub(crate) fn stand_in(places: &Places) -> io::Result<(Process, u16)> {
    let port = process::free_ports(1)?;
    let directory = tempfile::Builder::new().prefix("proxy-").tempdir_in(&places.scratch)?;
    let mut process = Process::start("stand-in", ourselves("--stand-in", &[port])?, directory)?;
    let begun = Instant::now();
    while let Err(error) = Connection::open(local(port)).and_then(|mut it| answers(&mut it)) {
        process.step(begun, &error.to_string())?;
    }
    Ok((process, port))
}

fn answers(connection: &mut Connection) -> io::Result<()> {
    connection.call(&mut frames::api_versions()?).map(|_| ())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// This program in one of its other parts.
fn ourselves(part: &str, ports: &[u16]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).args(ports.iter().map(u16::to_string));
    Ok(command)
}

fn proxy(port: u16, admin: u16, upstream: u16, places: &Places) -> Command {
    let mut command = Command::new(&places.tidegate);
    // The bench's own variables have the prefix of the configuration.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.arg("proxy").args(["--upstream", &local(upstream).to_string()]);
    command.args(["--listen", &local(port).to_string()]);
    command.args(["--node-ids", &frames::NODE.to_string()]);
    command.args(["--admin-listener", &local(admin).to_string(), "--log-level", "warn"]);
    for setting in &places.settings {
        command.arg("--set").arg(setting);
    }
    command
}
