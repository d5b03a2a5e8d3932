//! Memory of the process in between with many connections that do nothing, both sockets of each.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::frames::{self, TOPIC};
use super::peer::Places;
use super::process::Process;
use super::ways::{Kind, Way, stand_in};
use super::wire::{Frame, fault};

/// Requests on each connection in the burst.
const BURST: usize = 4;
/// The record bytes that each of them asks for.
const BURST_BYTES: i32 = 1 << 10;
/// Requests before the memory that counts as the process's own is read.
const WARM_REQUESTS: usize = 2_000;
/// What the process in between has open beside two sockets a connection.
const OTHER_FILES: usize = 200;
/// How long it is left alone before memory is read: longer than an allocator keeps what was freed.
const SETTLE: Duration = Duration::from_secs(15);
/// The greatest KiB a connection that was asked for.
const GOAL: f64 = 8.0;

/// Bytes that are resident: all, and those that are of no file.
#[derive(Clone, Copy, Debug)]
struct Resident {
    all: u64,
    anonymous: u64,
}

impl Resident {
    fn of(process: &Process) -> io::Result<Resident> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.id()))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let figure = line.and_then(|line| line.split_whitespace().next());
            let figure = figure.and_then(|figure| figure.parse::<u64>().ok());
            figure.ok_or_else(|| fault(format!("smaps_rollup has no {name}")))
        };
        Ok(Resident { all: kib("Rss:")? << 10, anonymous: kib("Anonymous:")? << 10 })
    }
}

/// Measures every way that has a process; the table.
pub(crate) fn run(kinds: &[Kind], connections: usize, places: &Places) -> io::Result<String> {
    let connections = connections.min(allowed_files()?.saturating_sub(OTHER_FILES) / 2);
    let mut table = format!(
        "\nMemory of {connections} idle plaintext connections, KiB each (anonymous memory; in \
         brackets with pages of files)\n\n\
         | | before, MiB | connected | after a request each | at once after {BURST} on all \
         together | {} s later | goal | all closed |\n|---|---|---|---|---|---|---|---|\n",
        SETTLE.as_secs(),
    );
    for kind in kinds.iter().filter(|kind| matches!(kind, Kind::Relay | Kind::Proxy)) {
        let (_stand_in, port) = stand_in(places)?;
        let way = Way::open(*kind, port, places)?;
        let measured = measure(&way, connections);
        let (before, after) = measured.map_err(|error| way.fault(&error))?;
        let own = before.anonymous as f64 / f64::from(1 << 20);
        let each = |now: &Resident| {
            let each =
                |now: u64, then: u64| (now as f64 - then as f64) / 1024.0 / connections as f64;
            let anonymous = each(now.anonymous, before.anonymous);
            format!("{anonymous:.2} ({:.2})", each(now.all, before.all))
        };
        let [connected, asked, burst, settled, closed] = after.each_ref().map(each);
        let _ = writeln!(
            table,
            "| {} | {own:.1} | {connected} | {asked} | {burst} | {settled} | {GOAL} | {closed} |",
            kind.name()
        );
    }
    Ok(table)
}

/// The process's own memory, and that with the connections in the five states of the table.
fn measure(way: &Way, connections: usize) -> io::Result<(Resident, [Resident; 5])> {
    let process = way.process().ok_or_else(|| fault("there is no process in between"))?;
    let resident = || Resident::of(process);
    let mut small = frames::fetch(frames::FETCH, &TOPIC, 0, BURST_BYTES)?;
    let mut first = way.connect()?;
    for _ in 0..WARM_REQUESTS {
        first.call(&mut small)?;
    }
    std::thread::sleep(SETTLE);
    let before = resident()?;
    let mut sockets = Vec::with_capacity(connections);
    for _ in 0..connections {
        let socket = TcpStream::connect(way.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_mins(1)))?;
        sockets.push(socket);
    }
    std::thread::sleep(SETTLE);
    let connected = resident()?;
    let mut versions = frames::api_versions()?;
    for socket in &mut sockets {
        exchange(socket, &mut versions, 1)?;
    }
    std::thread::sleep(SETTLE);
    let asked = resident()?;
    // All at a time: no connection has its answers taken before the last has sent its requests.
    for socket in &mut sockets {
        send(socket, &mut small, BURST)?;
    }
    for socket in &mut sockets {
        receive(socket, BURST)?;
    }
    let burst = resident()?;
    std::thread::sleep(SETTLE);
    let settled = resident()?;
    eprintln!("{}: {connections} connections, still open", way.kind.name());
    drop(sockets);
    std::thread::sleep(SETTLE);
    Ok((before, [connected, asked, burst, settled, resident()?]))
}

fn exchange(socket: &mut TcpStream, frame: &mut Frame, count: usize) -> io::Result<()> {
    send(socket, frame, count)?;
    receive(socket, count)
}

fn send(socket: &mut TcpStream, frame: &mut Frame, count: usize) -> io::Result<()> {
    for number in 0..count {
        socket.write_all(frame.stamped(number as i32))?;
    }
    Ok(())
}

/// Receives the answers to requests 0, 1, ...
fn receive(socket: &mut TcpStream, count: usize) -> io::Result<()> {
    let mut body = Vec::new();
    for number in 0..count {
        let mut prefix = [0; 4];
        socket.read_exact(&mut prefix)?;
        let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(0);
        body.resize(length, 0);
        socket.read_exact(&mut body)?;
        let answered = body.first_chunk().map(|id| i32::from_be_bytes(*id));
        if answered != Some(number as i32) {
            return Err(fault(format!("response to {answered:?}, wanted {number}")));
        }
    }
    Ok(())
}

/// Raises the limit of open files as far as it goes; child processes inherit it.
fn allowed_files() -> io::Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.map_or(usize::MAX, |maximum| maximum as usize))
}
