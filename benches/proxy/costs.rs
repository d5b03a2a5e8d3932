//! CPU time of the process between client and upstream, for a fixed number of requests.

use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use super::frames::{self, TOPIC};
use super::peer::Places;
use super::replay::{Connection, Expect, Script};
use super::spread::{median, ratio};
use super::ways::{Kind, Way, spent, stand_in};
use super::wire::{self, Frame, fault};

/// One cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) id: &'static str,
    title: &'static str,
    load: Load,
    version: i16,
    /// Record bytes of a request or response.
    bytes: usize,
    /// In flight, or one at a time so many times a second.
    pace: Pace,
    /// Requests of one measurement.
    requests: usize,
    /// The greatest ratio of proxy and relay that was asked for.
    goal: f64,
}

/// Which direction is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Produce,
    Fetch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// As fast as it goes, with so many requests in flight.
    Depth(usize),
    /// So many requests a second, each after the response to the last.
    Rate(u32),
}

const LARGE: Cell = Cell {
    id: "produce-1m",
    title: "produce, 1 MiB requests",
    load: Load::Produce,
    version: frames::PRODUCE,
    bytes: 1 << 20,
    pace: Pace::Depth(5),
    requests: 512,
    goal: 1.25,
};

const SMALL: Cell = Cell {
    id: "produce-1k",
    title: "produce, 1 KiB requests",
    load: Load::Produce,
    version: frames::PRODUCE,
    bytes: 1 << 10,
    pace: Pace::Depth(5),
    requests: 20_000,
    goal: 1.6,
};

/// All cells.
pub(crate) const CELLS: &[Cell] = &[
    LARGE,
    Cell {
        id: "fetch-1m",
        title: "fetch, 1 MiB responses",
        load: Load::Fetch,
        version: frames::FETCH,
        ..LARGE
    },
    Cell {
        id: "fetch-1m-plain",
        title: "the same, a version without addresses",
        load: Load::Fetch,
        version: frames::FETCH_PLAIN,
        ..LARGE
    },
    SMALL,
    Cell {
        id: "produce-1k-plain",
        title: "the same, a version without addresses",
        version: frames::PRODUCE_PLAIN,
        ..SMALL
    },
    Cell {
        id: "fetch-1k",
        title: "fetch, 1 KiB responses",
        load: Load::Fetch,
        version: frames::FETCH,
        ..SMALL
    },
    Cell {
        id: "produce-1k-rate",
        title: "produce, 1 KiB requests, 2,000/s, not pipelined",
        pace: Pace::Rate(2_000),
        requests: 3_000,
        ..SMALL
    },
    Cell {
        id: "fetch-1k-rate",
        title: "fetch, 1 KiB responses, 2,000/s, not pipelined",
        load: Load::Fetch,
        version: frames::FETCH,
        pace: Pace::Rate(2_000),
        requests: 3_000,
        ..SMALL
    },
];

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Measure {
    cpu: Duration,
    wall: Duration,
}

impl Cell {
    fn frame(&self) -> io::Result<Frame> {
        match self.load {
            Load::Produce => frames::produce(self.version, &TOPIC, &wire::batch_of(self.bytes)?),
            Load::Fetch => frames::fetch(self.version, &TOPIC, 0, self.bytes as i32),
        }
    }

    /// How the cell's figure is told: large frames by bytes, small ones by number.
    fn unit(&self) -> &'static str {
        if self.bytes >= 1 << 20 { "cpu-s/GB" } else { "cpu-us/request" }
    }

    fn cost(&self, measure: &Measure) -> f64 {
        let seconds = measure.cpu.as_secs_f64() / self.requests as f64;
        if self.bytes >= 1 << 20 { seconds * 1e9 / self.bytes as f64 } else { seconds * 1e6 }
    }
}

/// A cell on one way.
#[derive(Debug)]
struct Ready<'a> {
    way: &'a Way,
    cell: &'a Cell,
    connection: Connection,
    script: Script,
    measures: Vec<Measure>,
}

impl<'a> Ready<'a> {
    /// Connects, and sees to it that a response is, byte by byte, what the upstream answers.
    fn prepare(way: &'a Way, direct: &Way, cell: &'a Cell) -> io::Result<Ready<'a>> {
        let mut frame = cell.frame()?;
        let mut connection = way.connect()?;
        let mut straight = direct.connect()?;
        let wanted = straight.call(&mut frame)?;
        if connection.call(&mut frame)? != wanted {
            return Err(fault(format!("{}: the response was changed", cell.id)));
        }
        let depth = match cell.pace {
            Pace::Depth(depth) => depth,
            Pace::Rate(_) => 1,
        };
        let expect = Expect::Length { bytes: wanted.len() };
        let script = Script { frames: vec![frame], depth, expect, payload: cell.bytes };
        Ok(Ready { way, cell, connection, script, measures: Vec::new() })
    }

    fn measure(&mut self) -> io::Result<Measure> {
        let before = self.way.cpu()?;
        let wall = match self.cell.pace {
            Pace::Depth(_) => self.connection.replay(&mut self.script, self.cell.requests)?,
            Pace::Rate(rate) => self.paced(rate)?,
        };
        let cpu = spent(before.as_ref(), self.way.cpu()?.as_ref());
        Ok(Measure { cpu, wall })
    }

    fn paced(&mut self, rate: u32) -> io::Result<Duration> {
        let begun = Instant::now();
        for number in 0..self.cell.requests as u32 {
            let due = Duration::from_secs(1) * number / rate;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            self.connection.replay(&mut self.script, 1)?;
        }
        Ok(begun.elapsed())
    }

    fn costs(&self) -> Vec<f64> {
        self.measures.iter().map(|measure| self.cell.cost(measure)).collect()
    }

    fn rates(&self) -> Vec<f64> {
        let rate = |measure: &Measure| self.cell.requests as f64 / measure.wall.as_secs_f64();
        self.measures.iter().map(rate).collect()
    }
}

/// Measures every cell whose name contains `part`; the table.
pub(crate) fn run(kinds: &[Kind], part: &str, pairs: usize, places: &Places) -> io::Result<String> {
    let cells: Vec<_> = CELLS.iter().filter(|cell| cell.id.contains(part)).collect();
    let (_stand_in, port) = stand_in(places)?;
    let direct = Way::open(Kind::Direct, port, places)?;
    let between = kinds.iter().filter(|kind| **kind != Kind::Direct);
    let ways: Vec<Way> =
        between.map(|kind| Way::open(*kind, port, places)).collect::<io::Result<_>>()?;
    let mut table = String::from(
        "\nCPU time of the process in between (median; ratios: median of the pairs, least and \
         greatest)\n\n\
         | cell | unit | relay | proxy | proxy / relay | goal | relay again / relay | \
         requests/s relay, proxy |\n|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let mut ready = Vec::new();
        for way in &ways {
            let prepared = Ready::prepare(way, &direct, cell);
            let mut prepared = prepared.map_err(|error| way.fault(&error))?;
            prepared.measure().map_err(|error| way.fault(&error))?;
            ready.push(prepared);
        }
        for pair in 0..pairs {
            for at in super::turns(pair, ready.len()) {
                let it = &mut ready[at];
                let measure = it.measure().map_err(|error| it.way.fault(&error))?;
                let (name, cost, unit) = (it.way.kind.name(), cell.cost(&measure), cell.unit());
                eprintln!("{} pair {}: {name} {cost:.3} {unit}", cell.id, pair + 1);
                it.measures.push(measure);
            }
        }
        row(&mut table, cell, &ready);
    }
    Ok(table)
}

fn row(table: &mut String, cell: &Cell, ready: &[Ready<'_>]) {
    let find = |kind| ready.iter().find(|it| it.way.kind == kind);
    let costs = |kind| find(kind).map_or(Vec::new(), Ready::costs);
    let rates = |kind| median(find(kind).map_or(Vec::new(), Ready::rates));
    let [relay, proxy, again] = [Kind::Relay, Kind::Proxy, Kind::RelayAgain].map(costs);
    let _ = writeln!(
        table,
        "| {} | {} | {} | {} | {} | {} | {} | {}, {} |",
        cell.title,
        cell.unit(),
        median(relay.clone()),
        median(proxy.clone()),
        ratio(&proxy, &relay),
        cell.goal,
        ratio(&again, &relay),
        rates(Kind::Relay),
        rates(Kind::Proxy),
    );
}
