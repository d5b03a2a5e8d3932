//! The end-to-end cells: tidegate against Apache Kafka and against the floor, on this machine, in
//! this run.
//!
//! What counts is the CPU time that the server's process spends on a fixed piece of work, because
//! wall time on shared cores says more about the neighbours and the client. Servers take turns
//! (A B, B A, A B, ...), each ratio is of one pair, and the median of the pairs is told with the
//! least and the greatest. `benches/README.md` says how to run it and what each cell means.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench measures with the machine's own clock, threads and files, and talks to people"
)]

mod cells;
mod floor;
mod machine;
mod observed;
mod peer;
mod process;
mod rebalance;
mod replay;
mod report;
mod spread;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cells::{CELLS, Cell, Ready, Unit};
use observed::Observed;
use peer::{Kind, Lane, Peer, Places};
use rebalance::Group;
use report::{CellResult, ProcessResult, Rebalances, Report};
use wire::fault;

/// How to use it.
const USAGE: &str = "\
usage: cargo bench --bench e2e -- [--smoke] [--pairs N] [--starts N] [--only SERVER,..]
                                  [--rebalances N] [--observed N] [--cells PART]
                                  [--set KEY=VALUE] [--json FILE]
  --smoke   a short run: little to warm up, two pairs, no starts of their own
  --pairs   measurements of each server in each cell (8)
  --starts  starts of each server on an empty directory (3); 0 takes those of the lanes
  --only    of kafka, tidegate, floor
  --rebalances  rebalances of each server (100); 0 for none
  --observed    pairs of a tidegate that is scraped and one that is not (8); 0 for none
  --cells   only cells whose name contains this
  --set     configuration that tidegate gets beside what the lane needs; may be repeated
environment:
  TIDEGATE_BIN      the broker, instead of the one that cargo builds
  TIDEGATE_CLIENTS  the folder whose folder java has Kafka's jars (target/clients)";

/// What each server takes in before the cells of the page-cache lane.
const WARM_BYTES: usize = 2 << 30;
/// The same in a short run, and before the durable lane, where Kafka syncs every request.
const WARM_BYTES_SHORT: usize = 128 << 20;
/// How long a server that has started is left alone before its idle memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug)]
struct Plan {
    smoke: bool,
    pairs: usize,
    starts: usize,
    rebalances: usize,
    observed: usize,
    kinds: Vec<Kind>,
    cells: Vec<Cell>,
    json: PathBuf,
    places: Places,
    command: String,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, port, directory, lane] = arguments.as_slice()
        && flag == "--floor"
    {
        let port = port.parse().map_err(|_| fault(format!("port {port:?} is no number")))?;
        return floor::serve(port, Path::new(directory), lane == "durable");
    }
    // `cargo bench` passes --bench; without it this is a test run that wants no figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::parse(&arguments)?;
    process::stop_on_signal()?;
    if cfg!(debug_assertions) {
        eprintln!("built for debugging: the floor's figures, and those of tidegate, mean little");
    }
    let before = machine::load();
    let mut processes = measure_starts(&plan)?;
    let mut cells = Vec::new();
    for lane in [Lane::PageCache, Lane::Durable] {
        let chosen: Vec<Cell> =
            plan.cells.iter().filter(|cell| cell.lane == lane).copied().collect();
        if !chosen.is_empty() {
            cells.extend(measure_lane(&plan, lane, &chosen, &mut processes)?);
        }
    }
    let rebalances = if plan.rebalances > 0 { measure_rebalances(&plan)? } else { Vec::new() };
    let observed = measure_observed(&plan)?;
    let report = Report {
        machine: machine::describe(),
        date: machine::today(),
        load: [before, machine::load()],
        command: plan.command.clone(),
        cells,
        processes,
        rebalances,
        observed,
    };
    std::fs::write(&plan.json, report.json())?;
    println!("{}", report.markdown());
    eprintln!("every measurement: {}", plan.json.display());
    Ok(())
}

impl Plan {
    fn parse(arguments: &[String]) -> io::Result<Plan> {
        let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder =
            |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let smoke = arguments.iter().any(|argument| argument == "--smoke");
        let mut plan = Plan {
            smoke,
            pairs: if smoke { 2 } else { 8 },
            starts: if smoke { 0 } else { 3 },
            rebalances: if smoke { 10 } else { 100 },
            observed: if smoke { 2 } else { 8 },
            kinds: Kind::ALL.to_vec(),
            cells: CELLS.to_vec(),
            json: scratch.join("e2e.json"),
            places: Places {
                tidegate: folder("TIDEGATE_BIN", env!("CARGO_BIN_EXE_tidegate").into()),
                clients: folder("TIDEGATE_CLIENTS", root.join("target").join("clients")),
                scratch,
                settings: Vec::new(),
            },
            command: "cargo bench --bench e2e --".to_owned(),
        };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(flag) = rest.next() {
            plan.command = format!("{} {flag}", plan.command);
            if flag == "--smoke" {
                continue;
            }
            let value = rest.next().ok_or_else(|| fault(USAGE))?;
            plan.command = format!("{} {value}", plan.command);
            plan.set(flag, value)?;
        }
        Ok(plan)
    }

    fn set(&mut self, flag: &str, value: &str) -> io::Result<()> {
        let number = || value.parse().map_err(|_| fault(format!("{flag} {value}: no number")));
        match flag {
            "--pairs" => self.pairs = number()?,
            "--starts" => self.starts = number()?,
            "--rebalances" => self.rebalances = number()?,
            "--observed" => self.observed = number()?,
            "--json" => self.json = PathBuf::from(value),
            "--set" => self.places.settings.push(value.to_owned()),
            "--cells" => self.cells.retain(|cell| cell.id.contains(value)),
            "--only" => {
                let named = |kind: &Kind| value.split(',').any(|name| name == kind.name());
                self.kinds.retain(named);
            }
            _ => return Err(fault(USAGE)),
        }
        Ok(())
    }
}

/// Starts every server some times on an empty directory, in turn.
fn measure_starts(plan: &Plan) -> io::Result<Vec<ProcessResult>> {
    let empty = |kind: &Kind| ProcessResult {
        kind: *kind,
        starts: Vec::new(),
        idle: Vec::new(),
        loaded: None,
    };
    // The floor probe's memory and start say nothing: it begins by writing its file.
    let brokers = plan.kinds.iter().filter(|kind| **kind != Kind::Floor);
    let mut results: Vec<_> = brokers.map(empty).collect();
    for round in 0..plan.starts {
        for result in &mut results {
            eprintln!("start {} of {}", round + 1, result.kind.name());
            let (peer, start) = started(result.kind, result.kind.default_lane(), plan)?;
            result.note_start(start, &peer)?;
        }
    }
    Ok(results)
}

impl ProcessResult {
    fn note_start(&mut self, start: peer::Start, peer: &Peer) -> io::Result<()> {
        self.starts.push(start);
        std::thread::sleep(SETTLE);
        self.idle.push(peer.process.resident()?);
        Ok(())
    }
}

/// Starts a server and waits until it has acknowledged a produce.
fn started(kind: Kind, lane: Lane, plan: &Plan) -> io::Result<(Peer, peer::Start)> {
    let mut peer = Peer::start(kind, lane, &plan.places)?;
    let start = peer
        .first_produce()
        .map_err(|error| fault(format!("{}: {error}\n{}", kind.name(), peer.process.log_tail())))?;
    Ok((peer, start))
}

/// Measures the cells of one lane, with all servers running side by side.
fn measure_lane(
    plan: &Plan,
    lane: Lane,
    cells: &[Cell],
    processes: &mut [ProcessResult],
) -> io::Result<Vec<CellResult>> {
    let short = plan.smoke || lane == Lane::Durable;
    let mut peers = Vec::new();
    for kind in &plan.kinds {
        eprintln!("{lane:?}: warm up {}", kind.name());
        let (mut peer, start) = started(*kind, lane, plan)?;
        if let Some(process) = processes.iter_mut().find(|process| process.kind == *kind)
            && plan.starts == 0
            && lane == kind.default_lane()
        {
            process.note_start(start, &peer)?;
        }
        cells::warm_up(&mut peer, if short { WARM_BYTES_SHORT } else { WARM_BYTES })?;
        peers.push(peer);
    }
    let mut results = Vec::new();
    for cell in cells {
        results.push(measure_cell(plan, *cell, &mut peers)?);
    }
    if lane == Lane::PageCache {
        for process in processes {
            let peer = peers.iter().find(|peer| peer.kind == process.kind);
            process.loaded = peer.map(|peer| peer.process.resident()).transpose()?;
        }
    }
    Ok(results)
}

/// Measures rebalances of both brokers in turn, each with its own defaults.
fn measure_rebalances(plan: &Plan) -> io::Result<Vec<Rebalances>> {
    let mut peers = Vec::new();
    for kind in plan.kinds.iter().filter(|kind| **kind != Kind::Floor) {
        eprintln!("rebalances: start {}", kind.name());
        peers.push(started(*kind, kind.default_lane(), plan)?.0);
    }
    let mut groups: Vec<Group> = peers.iter_mut().map(Group::begin).collect::<io::Result<_>>()?;
    let mut results: Vec<Rebalances> =
        groups.iter().map(|group| Rebalances { kind: group.kind, took: Vec::new() }).collect();
    // As many again before that, for the compiler of the JVM.
    for round in 0..2 * plan.rebalances {
        for (group, result) in groups.iter_mut().zip(&mut results) {
            let took = group.rebalance()?;
            if round >= plan.rebalances {
                result.took.push(took);
            }
        }
    }
    Ok(results)
}

/// Measures what being observed costs, if tidegate is among the servers.
fn measure_observed(plan: &Plan) -> io::Result<Vec<Observed>> {
    if plan.observed == 0 || !plan.kinds.contains(&Kind::Tidegate) {
        return Ok(Vec::new());
    }
    // Small requests: what is counted is counted for each, and large ones fill the disk.
    let is_small = |cell: &&Cell| cell.lane == Lane::PageCache && cell.unit != Unit::SecondsPerGb;
    let cells: Vec<Cell> = plan.cells.iter().filter(is_small).copied().collect();
    observed::measure(&plan.places, &cells, plan.observed, plan.smoke)
}

/// Measures one cell on all servers, in pairs whose order alternates.
fn measure_cell(plan: &Plan, cell: Cell, peers: &mut [Peer]) -> io::Result<CellResult> {
    let mut ready = Vec::new();
    for peer in &mut *peers {
        let mut prepared = Ready::prepare(&cell, peer, plan.smoke)?;
        let passes = prepared.warm(peer, plan.smoke)?;
        eprintln!("{}: {} is warm after {passes} passes", cell.id, peer.kind.name());
        ready.push(prepared);
    }
    let mut measures: Vec<_> = peers.iter().map(|peer| (peer.kind, Vec::new())).collect();
    for pair in 0..plan.pairs {
        let mut order: Vec<usize> = (0..peers.len()).collect();
        if pair % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let measure = ready[at].measure(&peers[at])?;
            eprintln!(
                "{} pair {}: {} {:.3} {}, {:.0} requests/s",
                cell.id,
                pair + 1,
                peers[at].kind.name(),
                measure.cost(cell.unit),
                cell.unit.name(),
                measure.rate(),
            );
            measures[at].1.push(measure);
        }
    }
    for (prepared, peer) in ready.into_iter().zip(&*peers) {
        prepared.finish(peer)?;
    }
    Ok(CellResult { cell, measures })
}
