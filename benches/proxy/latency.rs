//! What a way adds to the time of a small request, one at a time.

use std::fmt::Write as _;
use std::io;
use std::time::Instant;

use super::frames::{self, TOPIC};
use super::peer::Places;
use super::replay::Connection;
use super::spread::{Spread, figure};
use super::ways::{Kind, Way, stand_in};
use super::wire::{self, Frame};

/// The value of the record that is produced.
const VALUE_BYTES: usize = 100;
/// Requests of one measurement: ten are above the 99th percentile.
const REQUESTS: usize = 1_000;
/// The goals, in microseconds that the proxy adds.
const GOALS: [f64; 2] = [60.0, 500.0];

/// One measurement: the 50th and the 99th percentile in microseconds.
type Measure = [f64; 2];

/// A way with its measurements.
#[derive(Debug)]
struct Ready {
    way: Way,
    connection: Connection,
    frame: Frame,
    measures: Vec<Measure>,
}

impl Ready {
    fn open(kind: Kind, port: u16, places: &Places) -> io::Result<Ready> {
        let way = Way::open(kind, port, places)?;
        let connection = way.connect()?;
        let frame = frames::produce(frames::PRODUCE, &TOPIC, &wire::single_record(VALUE_BYTES))?;
        Ok(Ready { way, connection, frame, measures: Vec::new() })
    }

    fn measure(&mut self) -> io::Result<Measure> {
        let mut took = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let begun = Instant::now();
            self.connection.call(&mut self.frame).map_err(|error| self.way.fault(&error))?;
            took.push(begun.elapsed());
        }
        took.sort_unstable();
        let micros = |percent: usize| took[REQUESTS * percent / 100].as_secs_f64() * 1e6;
        Ok([micros(50), micros(99)])
    }
}

/// Measures all ways in turn; the table.
pub(crate) fn run(kinds: &[Kind], pairs: usize, places: &Places) -> io::Result<String> {
    let (_stand_in, port) = stand_in(places)?;
    // What is added is added to the direct way.
    let others = kinds.iter().copied().filter(|kind| *kind != Kind::Direct);
    let kinds = std::iter::once(Kind::Direct).chain(others);
    let mut ready: Vec<Ready> =
        kinds.map(|kind| Ready::open(kind, port, places)).collect::<io::Result<_>>()?;
    for pair in 0..=pairs {
        for at in super::turns(pair, ready.len()) {
            let measure = ready[at].measure()?;
            let [p50, p99] = measure;
            eprintln!("latency {pair}: {} p50 {p50:.1} p99 {p99:.1} us", ready[at].way.kind.name());
            // The first pass is for caches and the like.
            if pair > 0 {
                ready[at].measures.push(measure);
            }
        }
    }
    Ok(table(&ready))
}

fn table(ready: &[Ready]) -> String {
    let mut table = format!(
        "\nA Produce of one record of {VALUE_BYTES} B, one at a time, in µs (median of the \
         measurements of {REQUESTS} requests; added: median of the pairs, least and greatest)\n\n\
         | way | p50 | added to p50 | p99 | added to p99 |\n|---|---|---|---|---|\n"
    );
    let Some(direct) = ready.first() else { return table };
    for it in ready {
        let mut cells = Vec::new();
        for (at, goal) in GOALS.into_iter().enumerate() {
            let figures = it.measures.iter().map(|measure| measure[at]).collect();
            cells.push(figure(Spread::of(figures).map(|spread| spread.median)));
            let pairs = it.measures.iter().zip(&direct.measures);
            let added = Spread::of(pairs.map(|(it, direct)| it[at] - direct[at]).collect());
            let Some(Spread { median, least, greatest }) = added else { continue };
            cells.push(match it.way.kind {
                Kind::Direct => "-".to_owned(),
                Kind::Relay | Kind::RelayAgain => format!("{median:.0} ({least:.0}-{greatest:.0})"),
                Kind::Proxy => {
                    format!("{median:.0} ({least:.0}-{greatest:.0}), goal {goal}")
                }
            });
        }
        let _ = writeln!(table, "| {} | {} |", it.way.kind.name(), cells.join(" | "));
    }
    table
}
