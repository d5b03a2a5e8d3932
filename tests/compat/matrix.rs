//! Every client through every scenario, beside one broker. What comes out is the table `clients`
//! of README.md, and no cell of it may be a failure.
//!
//! ```text
//! TIDEGATE_MATRIX=kafkajs,sarama       these clients
//! TIDEGATE_MATRIX=kafkajs:seek         its scenarios whose id begins with `seek`
//! TIDEGATE_MATRIX=:seek                those of every client
//! ```
//! Several scenarios may be named, too. A part of the matrix is judged, not compared with the table. Each result is a JSON line in
//! `target/tmp/compat.jsonl` as soon as it is known.
#![allow(clippy::print_stderr, reason = "figures and faults belong to the output of a test")]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;

use crate::harness::tables;

mod absent;
mod clients;
mod context;
mod driver;
mod log;
mod proxied;
mod restore;
mod rolling;
mod scenarios;
mod stand;
mod transactions;

use clients::{CLIENTS, Client};
use context::Context;
use driver::Driver;
use scenarios::{RESTART, SCENARIOS, Scenario, restart};
use stand::Stand;

/// Clients that go through their scenarios at a time, and scenarios of each at a time.
const CLIENTS_AT_ONCE: usize = 4;
const SCENARIOS_AT_ONCE: usize = 4;

/// Lines of the broker's log that are shown of a cell that fails.
const LINES_OF_LOG: usize = 20;

/// What a cell of the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    /// The client lacks it, and where that is said.
    Absent(&'static str),
    Fail(String),
}

/// The cells found so far, by client and scenario.
struct Results {
    cells: Mutex<HashMap<(&'static str, &'static str), Outcome>>,
    lines: Mutex<std::fs::File>,
    started: Instant,
}

impl Results {
    /// Results that are written to a file of this name.
    fn new(name: &str) -> Self {
        let path = format!("{}/{name}.jsonl", env!("CARGO_TARGET_TMPDIR"));
        let lines = std::fs::File::create(path).unwrap();
        Self { cells: Mutex::default(), lines: Mutex::new(lines), started: Instant::now() }
    }

    fn add(&self, client: &Client, scenario: &Scenario, outcome: Outcome) {
        let (result, reason) = match &outcome {
            Outcome::Pass => ("pass", ""),
            Outcome::Absent(source) => ("n/a", *source),
            Outcome::Fail(reason) => ("fail", reason.as_str()),
        };
        let line = json!({
            "client": client.id, "scenario": scenario.id, "result": result, "reason": reason,
            "at": self.started.elapsed().as_secs_f32(),
        });
        writeln!(self.lines.lock().unwrap(), "{line}").unwrap();
        self.cells.lock().unwrap().insert((client.id, scenario.id), outcome);
    }

    /// Client, scenario and reason of each cell that fails.
    fn failures(&self) -> Vec<(&'static str, &'static str, String)> {
        let cells = self.cells.lock().unwrap();
        let mut failures: Vec<_> = cells
            .iter()
            .filter_map(|(&(client, scenario), outcome)| match outcome {
                Outcome::Fail(reason) => Some((client, scenario, reason.clone())),
                _ => None,
            })
            .collect();
        failures.sort();
        failures
    }
}

/// Which part of the matrix is run.
struct Part {
    clients: String,
    /// Beginnings of ids; every scenario without any.
    scenarios: Vec<String>,
}

impl Part {
    fn asked() -> Self {
        let asked = std::env::var("TIDEGATE_MATRIX").unwrap_or_default();
        let (clients, scenario) = asked.split_once(':').unwrap_or((&asked, ""));
        let scenarios = scenario.split(',').filter(|id| !id.is_empty()).map(str::to_owned);
        Self { clients: clients.to_owned(), scenarios: scenarios.collect() }
    }

    fn is_all(&self) -> bool {
        self.clients.is_empty() && self.scenarios.is_empty()
    }

    fn clients(&self) -> impl Iterator<Item = &'static Client> {
        let asked: Vec<&str> = self.clients.split(',').filter(|id| !id.is_empty()).collect();
        CLIENTS.iter().filter(move |client| asked.is_empty() || asked.contains(&client.id))
    }

    fn has(&self, scenario: &Scenario) -> bool {
        let asked = &self.scenarios;
        asked.is_empty() || asked.iter().any(|asked| scenario.id.starts_with(asked))
    }

    /// The drivers of its clients.
    fn start_drivers(&self, stand: &Stand) -> Vec<(&'static Client, Driver)> {
        let start =
            |client: &'static Client| (client, Driver::start(client.command(&stand.address())));
        self.clients().map(start).collect()
    }
}

#[test]
fn every_client_passes_every_scenario() {
    let part = Part::asked();
    let mut stand = Stand::tidegate();
    let drivers = part.start_drivers(&stand);
    let results = Results::new("compat");
    run(&part, &mut stand, &drivers, &results);
    let failures = results.failures();
    if !failures.is_empty() {
        // Ended before the panic, whose text is then the last that is printed.
        let log = stand.log();
        drop((stand, drivers));
        panic!("{} cells fail:\n{}", failures.len(), describe(&failures, &log));
    }
    if part.is_all() {
        tables::check("clients", &render(&drivers, &results));
    }
}

/// Every scenario of the part, and the restart last.
fn run(part: &Part, stand: &mut Stand, drivers: &[(&'static Client, Driver)], results: &Results) {
    let address = stand.address();
    for phase in scenarios::PHASES {
        let scenarios: Vec<&Scenario> =
            SCENARIOS.iter().filter(|row| row.phase == phase && part.has(row)).collect();
        run_phase(drivers, &scenarios, &address, results);
        eprintln!("{phase:?} done after {:.1} s", results.started.elapsed().as_secs_f32());
    }
    if part.has(&RESTART) {
        run_restart(drivers, stand, results);
        eprintln!("restart done after {:.1} s", results.started.elapsed().as_secs_f32());
    }
}

/// A few clients at a time, each with a few scenarios at a time.
fn run_phase(
    drivers: &[(&'static Client, Driver)],
    scenarios: &[&'static Scenario],
    address: &str,
    results: &Results,
) {
    let clients = Mutex::new(drivers.iter().collect::<VecDeque<_>>());
    std::thread::scope(|threads| {
        for _ in 0..CLIENTS_AT_ONCE {
            threads.spawn(|| {
                while let Some((client, driver)) = next(&clients) {
                    run_client(client, driver, scenarios, address, results);
                }
            });
        }
    });
}

fn run_client(
    client: &'static Client,
    driver: &Driver,
    scenarios: &[&'static Scenario],
    address: &str,
    results: &Results,
) {
    let waiting = Mutex::new(scenarios.iter().copied().collect::<VecDeque<_>>());
    std::thread::scope(|threads| {
        for _ in 0..SCENARIOS_AT_ONCE {
            threads.spawn(|| {
                while let Some(scenario) = next(&waiting) {
                    let context = Context::new(client, driver, address, scenario.id);
                    let outcome = attempt(client, scenario, || (scenario.run)(&context));
                    results.add(client, scenario, outcome.err().unwrap_or(Outcome::Pass));
                }
            });
        }
    });
}

fn next<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().unwrap().pop_front()
}

/// What `work` comes to, or the cell that says why there is nothing.
fn attempt<T>(
    client: &Client,
    scenario: &Scenario,
    work: impl FnOnce() -> T,
) -> Result<T, Outcome> {
    if let Some(source) = absent::source(client.id, scenario.id) {
        return Err(Outcome::Absent(source));
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome::Fail(text.unwrap_or_else(|| "a panic without text".to_owned()))
    })
}

/// All clients work while the broker is killed and started again.
fn run_restart(drivers: &[(&'static Client, Driver)], stand: &mut Stand, results: &Results) {
    let address = stand.address();
    let contexts: Vec<Context<'_>> = drivers
        .iter()
        .map(|(client, driver)| Context::new(client, driver, &address, RESTART.id))
        .collect();
    let working: Vec<_> = std::thread::scope(|threads| {
        let begun: Vec<_> = contexts
            .iter()
            .map(|context| {
                threads.spawn(|| attempt(context.client, &RESTART, || restart::begin(context)))
            })
            .collect();
        begun.into_iter().map(|begun| begun.join().unwrap()).collect()
    });
    stand.kill_and_restart();
    std::thread::scope(|threads| {
        for (context, working) in contexts.iter().zip(working) {
            threads.spawn(move || {
                let outcome = working
                    .and_then(|working| attempt(context.client, &RESTART, || working.end(context)));
                results.add(context.client, &RESTART, outcome.err().unwrap_or(Outcome::Pass));
            });
        }
    });
}

/// Each failing cell with what the broker's log last said of its topics and groups.
fn describe(failures: &[(&str, &str, String)], log: &str) -> String {
    let mut text = String::new();
    for (client, scenario, reason) in failures {
        let names = format!("{scenario}.{client}.");
        let said: Vec<&str> = log.lines().filter(|line| line.contains(&names)).collect();
        for line in &said[said.len().saturating_sub(LINES_OF_LOG)..] {
            let _ = writeln!(text, "    {line}");
        }
        let _ = writeln!(text, "{client}, {scenario}: {reason}");
    }
    text
}

/// The table, and under it where it is said that a client lacks something.
fn render(drivers: &[(&'static Client, Driver)], results: &Results) -> String {
    let mut text = String::from("| scenario |");
    for (client, driver) in drivers {
        let version = driver.call("version", json!({}));
        let _ = write!(text, " {} {} |", client.name, version["version"].as_str().unwrap());
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(drivers.len()));
    let cells = results.cells.lock().unwrap();
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for scenario in SCENARIOS.iter().chain([&RESTART]) {
        let _ = write!(text, "| {} |", scenario.title);
        for (client, _) in drivers {
            let cell = match &cells[&(client.id, scenario.id)] {
                Outcome::Pass => "pass",
                Outcome::Fail(_) => "fail",
                Outcome::Absent(source) => {
                    let lacking = format!("{}, {}", client.name, scenario.title);
                    sources.entry(source).or_default().push(lacking);
                    "n/a"
                }
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text += "\nWhat a client lacks (n/a), and where that is said:\n\n";
    for (source, lacking) in sources {
        let _ = writeln!(text, "- {}: {source}", lacking.join("; "));
    }
    text
}
