//! What the proxy costs: CPU beside a raw copy relay, time that it adds, throughput with Apache
//! Kafka behind it beside none in between, memory of idle connections; all in one run.
//!
//! Ways take turns (A B C, C B A, ...), each ratio is of one pair, and the median of the pairs is
//! told with the least and the greatest. `benches/README.md` says how to run it and what each
//! figure means.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench measures with the machine's own clock, threads and files, and talks to people"
)]

mod costs;
mod frames;
mod idle;
mod latency;
#[path = "../e2e/machine.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod machine;
#[path = "../e2e/peer.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod peer;
#[path = "../e2e/process.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod process;
mod relay;
#[path = "../e2e/replay.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod replay;
#[path = "../e2e/spread.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod spread;
mod stand_in;
mod throughput;
mod ways;
#[path = "../e2e/wire.rs"]
#[allow(dead_code, reason = "shared with the end-to-end bench")]
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use peer::Places;
use ways::Kind;
use wire::fault;

/// How to use it.
const USAGE: &str = "\
usage: cargo bench --bench proxy -- [--pairs N] [--connections N] [--only WAY,..] [--cells PART]
                                    [--set KEY=VALUE]
  --pairs        measurements of each way in each cell (6)
  --connections  idle connections (10000, or as many as the limit of open files allows)
  --only         of direct, relay, proxy, relay-again
  --cells        only cells whose name contains this: produce-1m, fetch-1m, produce-1k, fetch-1k
                 (with -plain and -rate), latency, idle, kafka-produce-1m, kafka-fetch-1m,
                 kafka-java-produce, kafka-java-consume
  --set          configuration of the proxy; may be repeated
environment:
  TIDEGATE_BIN      the proxy, instead of the one that cargo builds
  TIDEGATE_CLIENTS  the folder whose folder java has Kafka's jars (target/clients)";

/// What to do.
#[derive(Debug)]
struct Plan {
    pairs: usize,
    connections: usize,
    kinds: Vec<Kind>,
    cells: String,
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
    let port = |text: &String| text.parse().map_err(|_| fault(format!("port {text:?}: no number")));
    match arguments.as_slice() {
        [part, from, to] if part == "--relay" => return relay::serve(port(from)?, port(to)?),
        [part, own] if part == "--stand-in" => return stand_in::serve(port(own)?),
        _ => {}
    }
    // `cargo bench` passes --bench; without it this is a test run that wants no figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::parse(&arguments)?;
    process::stop_on_signal()?;
    if cfg!(debug_assertions) {
        eprintln!("built for debugging: the figures of relay and proxy mean little");
    }
    println!(
        "{}, {}; load averages {} before",
        machine::today(),
        machine::describe(),
        machine::load()
    );
    println!("\nCommand: `{}`", plan.command);
    if plan.has_costs() {
        println!("{}", costs::run(&plan.kinds, &plan.cells, plan.pairs, &plan.places)?);
    }
    if plan.has("latency") {
        println!("{}", latency::run(&plan.kinds, plan.pairs, &plan.places)?);
    }
    if let Some(table) = throughput::run(&plan.kinds, &plan.cells, plan.pairs, &plan.places)? {
        println!("{table}");
    }
    if plan.has("idle") {
        println!("{}", idle::run(&plan.kinds, plan.connections, &plan.places)?);
    }
    println!("load averages {} after", machine::load());
    Ok(())
}

/// The order in which `count` ways take their turns in a pair.
fn turns(pair: usize, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if pair % 2 == 1 {
        order.reverse();
    }
    order
}

impl Plan {
    fn parse(arguments: &[String]) -> io::Result<Plan> {
        let folder =
            |name: &str, default: PathBuf| std::env::var_os(name).map_or(default, PathBuf::from);
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut plan = Plan {
            pairs: 6,
            connections: 10_000,
            kinds: Kind::ALL.to_vec(),
            cells: String::new(),
            places: Places {
                tidegate: folder("TIDEGATE_BIN", env!("CARGO_BIN_EXE_tidegate").into()),
                clients: folder("TIDEGATE_CLIENTS", root.join("target").join("clients")),
                scratch: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
                settings: Vec::new(),
            },
            command: "cargo bench --bench proxy --".to_owned(),
        };
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(flag) = rest.next() {
            let value = rest.next().ok_or_else(|| fault(USAGE))?;
            plan.command = format!("{} {flag} {value}", plan.command);
            plan.set(flag, value)?;
        }
        Ok(plan)
    }

    fn set(&mut self, flag: &str, value: &str) -> io::Result<()> {
        let number = || value.parse().map_err(|_| fault(format!("{flag} {value}: no number")));
        match flag {
            "--pairs" => self.pairs = number()?,
            "--connections" => self.connections = number()?,
            "--cells" => value.clone_into(&mut self.cells),
            "--set" => self.places.settings.push(value.to_owned()),
            "--only" => {
                let named = |kind: &Kind| value.split(',').any(|name| name == kind.name());
                self.kinds.retain(named);
            }
            _ => return Err(fault(USAGE)),
        }
        Ok(())
    }

    fn has(&self, cell: &str) -> bool {
        cell.contains(&self.cells)
    }

    fn has_costs(&self) -> bool {
        costs::CELLS.iter().any(|cell| self.has(cell.id))
    }
}
