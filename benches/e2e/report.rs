//! What was measured, as Markdown for people and JSON for machines.

use std::fmt::Write as _;
use std::time::Duration;

use super::cells::{Cell, Measure};
use super::machine::Resident;
use super::observed::Observed;
use super::peer::{Kind, Start};
use super::rebalance::MEMBERS;
use super::spread::{Spread, figure, median, ratio};

/// The measurements of one cell.
#[derive(Debug)]
pub(crate) struct CellResult {
    pub(crate) cell: Cell,
    /// By server; number n of each belongs to pair n.
    pub(crate) measures: Vec<(Kind, Vec<Measure>)>,
}

/// The starts and the memory of one server.
#[derive(Debug)]
pub(crate) struct ProcessResult {
    pub(crate) kind: Kind,
    pub(crate) starts: Vec<Start>,
    /// After each start and a moment of quiet.
    pub(crate) idle: Vec<Resident>,
    /// After the cells of the page-cache lane.
    pub(crate) loaded: Option<Resident>,
}

/// The rebalances of one server's group.
#[derive(Debug)]
pub(crate) struct Rebalances {
    pub(crate) kind: Kind,
    pub(crate) took: Vec<Duration>,
}

/// Everything of one run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) date: String,
    /// Load averages before and after.
    pub(crate) load: [String; 2],
    pub(crate) command: String,
    pub(crate) cells: Vec<CellResult>,
    pub(crate) processes: Vec<ProcessResult>,
    pub(crate) rebalances: Vec<Rebalances>,
    pub(crate) observed: Vec<Observed>,
}

impl CellResult {
    /// A figure of every measurement on one server.
    fn figures(&self, kind: Kind, figure: impl Fn(&Measure) -> f64) -> Vec<f64> {
        let measures = self.measures.iter().find(|(of, _)| *of == kind);
        measures.map_or(Vec::new(), |(_, measures)| measures.iter().map(figure).collect())
    }

    fn costs(&self, kind: Kind) -> Vec<f64> {
        self.figures(kind, |measure| measure.cost(self.cell.unit))
    }

    fn rates(&self, kind: Kind) -> Vec<f64> {
        self.figures(kind, Measure::rate)
    }
}

/// A figure of a server for every time that it was taken.
type Figures = fn(&ProcessResult) -> Vec<f64>;

/// The rows of the table of processes.
const PROCESS_ROWS: [(&str, Figures); 5] = [
    ("exec to first acked produce, ms", |process| millis(process, |start| start.wall)),
    ("CPU until then, ms", |process| millis(process, |start| start.cpu)),
    ("RSS idle, MiB", |process| mib(process.idle.iter().map(|resident| resident.now))),
    ("RSS after load, MiB", |process| mib(process.loaded.iter().map(|resident| resident.now))),
    ("RSS greatest, MiB", |process| mib(process.loaded.iter().map(|resident| resident.peak))),
];

fn millis(process: &ProcessResult, part: fn(&Start) -> Duration) -> Vec<f64> {
    process.starts.iter().map(|start| part(start).as_secs_f64() * 1e3).collect()
}

fn mib(bytes: impl Iterator<Item = u64>) -> Vec<f64> {
    bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)).collect()
}

impl Report {
    /// The tables, as `benches/README.md` shows them.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}, {}; load averages {} before, {} after.",
            self.date, self.machine, self.load[0], self.load[1]
        );
        let _ = writeln!(out, "\nCommand: `{}`", self.command);
        self.cost_table(&mut out);
        self.rate_table(&mut out);
        self.process_table(&mut out);
        self.rebalance_table(&mut out);
        self.observed_table(&mut out);
        out
    }

    fn cost_table(&self, out: &mut String) {
        out.push_str(
            "\nCPU time of the server (median; ratios: median of the pairs, least and greatest)\n\n\
             | cell | unit | kafka | tidegate | floor | tidegate / kafka | tidegate / floor |\n\
             |---|---|---|---|---|---|---|\n",
        );
        for result in &self.cells {
            let [kafka, tidegate, floor] = Kind::ALL.map(|kind| result.costs(kind));
            let ratios = [ratio(&tidegate, &kafka), ratio(&tidegate, &floor)].join(" | ");
            let costs = [kafka, tidegate, floor].map(median).join(" | ");
            let (title, unit) = (result.cell.title, result.cell.unit.name());
            let _ = writeln!(out, "| {title} | {unit} | {costs} | {ratios} |");
        }
    }

    fn rate_table(&self, out: &mut String) {
        out.push_str(
            "\nRequests a second of wall time (one connection, the client on the same cores)\n\n\
             | cell | kafka | tidegate | floor | tidegate / kafka | client's cpu-us/request |\n\
             |---|---|---|---|---|---|\n",
        );
        for result in &self.cells {
            let [kafka, tidegate, floor] = Kind::ALL.map(|kind| result.rates(kind));
            let ratio = ratio(&tidegate, &kafka);
            let rates = [kafka, tidegate, floor].map(median).join(" | ");
            let client = |kind| {
                median(result.figures(kind, |measure| {
                    measure.client.as_secs_f64() * 1e6 / measure.requests as f64
                }))
            };
            let clients = Kind::ALL.map(client).join(" / ");
            let _ = writeln!(out, "| {} | {rates} | {ratio} | {clients} |", result.cell.title);
        }
    }

    fn process_table(&self, out: &mut String) {
        out.push_str("\nProcess (an empty directory, each server's own defaults)\n\n| |");
        for process in &self.processes {
            let _ = write!(out, " {} |", process.kind.name());
        }
        out.push_str(" tidegate / kafka |\n|---|");
        out.push_str(&"---|".repeat(self.processes.len() + 1));
        for (title, figures) in PROCESS_ROWS {
            let of = |kind| {
                let process = self.processes.iter().find(|process| process.kind == kind);
                process.map_or(Vec::new(), figures)
            };
            let cells: Vec<_> =
                self.processes.iter().map(|process| median(figures(process))).collect();
            let ratio = ratio(&of(Kind::Tidegate), &of(Kind::Kafka));
            let _ = write!(out, "\n| {title} | {} | {ratio} |", cells.join(" | "));
        }
        out.push('\n');
    }

    fn rebalance_table(&self, out: &mut String) {
        if self.rebalances.is_empty() {
            return;
        }
        let _ = write!(
            out,
            "\nRebalance of {MEMBERS} members, ms of wall time from the first JoinGroup to the \
             last SyncGroup response (each server's own defaults)\n\n\
             | server | p50 | least | greatest |\n|---|---|---|---|\n"
        );
        for Rebalances { kind, took } in &self.rebalances {
            let millis = took.iter().map(|took| took.as_secs_f64() * 1e3).collect();
            let Some(Spread { median, least, greatest }) = Spread::of(millis) else { continue };
            let figures = [median, least, greatest].map(|it| figure(Some(it))).join(" | ");
            let _ = writeln!(out, "| {} | {figures} |", kind.name());
        }
    }

    fn observed_table(&self, out: &mut String) {
        if self.observed.is_empty() {
            return;
        }
        out.push_str(
            "\nCPU time of a tidegate with 1,000 more partitions, scraped every second, beside one \
             without metrics by topic that is not\n\n\
             | cell | unit | scraped | not | scraped / not |\n|---|---|---|---|---|\n",
        );
        for Observed { cell, scraped, alone } in &self.observed {
            let costs = |of: &[Measure]| of.iter().map(|it| it.cost(cell.unit)).collect::<Vec<_>>();
            let (scraped, alone) = (costs(scraped), costs(alone));
            let ratio = ratio(&scraped, &alone);
            let (title, unit) = (cell.title, cell.unit.name());
            let (scraped, alone) = (median(scraped), median(alone));
            let _ = writeln!(out, "| {title} | {unit} | {scraped} | {alone} | {ratio} |");
        }
    }

    /// Every single measurement.
    pub(crate) fn json(&self) -> String {
        let cells: Vec<_> = self.cells.iter().map(cell_json).collect();
        let processes: Vec<_> = self.processes.iter().map(process_json).collect();
        let rebalances: Vec<_> = self.rebalances.iter().map(rebalances_json).collect();
        let observed: Vec<_> = self.observed.iter().map(observed_json).collect();
        format!(
            "{{\"date\":{:?},\"machine\":{:?},\"load\":{:?},\"command\":{:?},\n\
             \"cells\":[\n{}\n],\n\
             \"processes\":[\n{}\n],\n\
             \"rebalances\":[{}],\n\
             \"observed\":[\n{}\n]}}\n",
            self.date,
            self.machine,
            self.load,
            self.command,
            cells.join(",\n"),
            processes.join(",\n"),
            rebalances.join(","),
            observed.join(",\n"),
        )
    }
}

fn rebalances_json(rebalances: &Rebalances) -> String {
    let micros = rebalances.took.iter().map(|took| took.as_micros().to_string());
    let micros = micros.collect::<Vec<_>>().join(",");
    format!("{{\"server\":{:?},\"us\":[{micros}]}}", rebalances.kind.name())
}

fn measures_json(name: &str, measures: &[Measure]) -> String {
    let measure = |measure: &Measure| {
        format!(
            "{{\"cpu_ns\":{},\"client_cpu_ns\":{},\"wall_ns\":{},\"requests\":{},\"bytes\":{}}}",
            measure.cpu.as_nanos(),
            measure.client.as_nanos(),
            measure.wall.as_nanos(),
            measure.requests,
            measure.bytes,
        )
    };
    let measures: Vec<_> = measures.iter().map(measure).collect();
    format!("\"{name}\":[{}]", measures.join(","))
}

fn observed_json(result: &Observed) -> String {
    let scraped = measures_json("scraped", &result.scraped);
    format!("{{\"id\":{:?},{scraped},{}}}", result.cell.id, measures_json("not", &result.alone))
}

fn cell_json(result: &CellResult) -> String {
    let server = |(kind, measures): &(Kind, Vec<Measure>)| measures_json(kind.name(), measures);
    let servers: Vec<_> = result.measures.iter().map(server).collect();
    format!("{{\"id\":\"{}\",{}}}", result.cell.id, servers.join(","))
}

fn process_json(process: &ProcessResult) -> String {
    let start = |start: &Start| {
        let (wall, cpu) = (start.wall.as_nanos(), start.cpu.as_nanos());
        format!("{{\"wall_ns\":{wall},\"cpu_ns\":{cpu}}}")
    };
    let resident =
        |resident: &Resident| format!("{{\"rss\":{},\"peak\":{}}}", resident.now, resident.peak);
    let starts: Vec<_> = process.starts.iter().map(start).collect();
    let idle: Vec<_> = process.idle.iter().map(resident).collect();
    let loaded = process.loaded.as_ref().map_or("null".to_owned(), resident);
    format!(
        "{{\"server\":\"{}\",\"starts\":[{}],\"idle\":[{}],\"loaded\":{loaded}}}",
        process.kind.name(),
        starts.join(","),
        idle.join(","),
    )
}
