//! Large batches to and from Apache Kafka, with and without the proxy in between: bytes in a second
//! of wall time, with the replayer and with Kafka's own clients.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::frames::{self, Topic};
use super::machine;
use super::peer::{self, Lane, Peer, Places};
use super::replay::{Connection, Expect, Script};
use super::spread::{median, ratio};
use super::ways::{Kind, Way};
use super::wire::{self, Records, fault};

/// A batch, a request, a response.
const BATCH_BYTES: usize = 1 << 20;
/// In flight.
const DEPTH: usize = 5;
/// What is fetched over and over: small enough for every cache there is.
const HOT_BATCHES: usize = 64;
/// Requests of one measurement.
const PRODUCES: usize = 160;
const FETCHES: usize = 1_024;
/// Records of 1 KiB of one measurement with Kafka's own clients.
const JAVA_RECORDS: usize = 200_000;
/// Records that they send before those that count.
const JAVA_WARM_RECORDS: usize = 50_000;
const JAVA_RECORD_BYTES: usize = 1 << 10;
/// What the Java producer has beside its defaults, to send large batches.
const JAVA_PRODUCER: [&str; 3] = ["batch.size=1000000", "linger.ms=20", "buffer.memory=67108864"];
/// The least ratio to direct that was asked for.
const GOAL: f64 = 0.95;

/// The cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Produce,
    Fetch,
    JavaProduce,
    JavaConsume,
}

impl Cell {
    const ALL: [Cell; 4] = [Cell::Produce, Cell::Fetch, Cell::JavaProduce, Cell::JavaConsume];

    /// Also its topic.
    fn id(self) -> &'static str {
        match self {
            Cell::Produce => "kafka-produce-1m",
            Cell::Fetch => "kafka-fetch-1m",
            Cell::JavaProduce => "kafka-java-produce",
            Cell::JavaConsume => "kafka-java-consume",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Cell::Produce => "replayer, produce, 1 MiB requests",
            Cell::Fetch => "replayer, fetch, 1 MiB responses",
            Cell::JavaProduce => "Java producer, batches of up to 1 MB",
            Cell::JavaConsume => "Java consumer",
        }
    }

    /// Kafka's clients go where Metadata sends them, which is around a relay.
    fn takes(self, kind: Kind) -> bool {
        match self {
            Cell::Produce | Cell::Fetch => kind != Kind::RelayAgain,
            Cell::JavaProduce | Cell::JavaConsume => matches!(kind, Kind::Direct | Kind::Proxy),
        }
    }
}

/// The upstream, and what is sent to it.
#[derive(Debug)]
struct Bench<'a> {
    kafka: Peer,
    straight: Connection,
    records: Records,
    places: &'a Places,
}

/// Measures every cell whose name contains `part`; the table, or nothing.
pub(crate) fn run(
    kinds: &[Kind],
    part: &str,
    pairs: usize,
    places: &Places,
) -> io::Result<Option<String>> {
    let cells: Vec<_> = Cell::ALL.into_iter().filter(|cell| cell.id().contains(part)).collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let mut kafka = Peer::start(peer::Kind::Kafka, Lane::PageCache, places)?;
    kafka
        .first_produce()
        .map_err(|error| fault(format!("kafka: {error}\n{}", kafka.process.log_tail())))?;
    let port = kafka.address.port();
    // What is in between is compared with the direct way.
    let others = kinds.iter().copied().filter(|kind| *kind != Kind::Direct);
    let ways: Vec<Way> = std::iter::once(Kind::Direct)
        .chain(others)
        .map(|kind| Way::open(kind, port, places))
        .collect::<io::Result<_>>()?;
    let straight = kafka.connect()?;
    let records = wire::batch_of(BATCH_BYTES)?;
    let mut bench = Bench { kafka, straight, records, places };
    let mut table = String::from(
        "\nThroughput with Apache Kafka behind it, MB/s (median; ratios: median of the pairs, \
         least and greatest)\n\n\
         | client | direct | relay | proxy | proxy / direct | goal | relay / direct |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let ways: Vec<_> = ways.iter().filter(|way| cell.takes(way.kind)).collect();
        let figures = bench.cell(cell, &ways, pairs)?;
        let of = |kind| {
            let found = ways.iter().zip(&figures).find(|(way, _)| way.kind == kind);
            found.map_or(Vec::new(), |(_, figures)| figures.clone())
        };
        let [direct, relay, proxy] = [Kind::Direct, Kind::Relay, Kind::Proxy].map(of);
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {GOAL} | {} |",
            cell.title(),
            median(direct.clone()),
            median(relay.clone()),
            median(proxy.clone()),
            ratio(&proxy, &direct),
            ratio(&relay, &direct),
        );
    }
    Ok(Some(table))
}

impl Bench<'_> {
    /// The figures of every way, after a pass that is thrown away.
    fn cell(&mut self, cell: Cell, ways: &[&Way], pairs: usize) -> io::Result<Vec<Vec<f64>>> {
        self.kafka.create_topic(&mut self.straight, cell.id(), 1)?;
        if matches!(cell, Cell::Fetch) {
            self.append(cell.id(), HOT_BATCHES)?;
        }
        if matches!(cell, Cell::JavaConsume) {
            self.append(cell.id(), JAVA_RECORDS * JAVA_RECORD_BYTES / BATCH_BYTES + 1)?;
        }
        let mut figures = vec![Vec::new(); ways.len()];
        let mut end = 0;
        for pair in 0..=pairs {
            for at in super::turns(pair, ways.len()) {
                let way = ways[at];
                let rate = self.measure(cell, way, &mut end).map_err(|error| way.fault(&error))?;
                eprintln!("{} {pair}: {} {rate:.0} MB/s", cell.id(), way.kind.name());
                if pair > 0 {
                    figures[at].push(rate);
                }
            }
        }
        self.kafka.delete_topic(&mut self.straight, cell.id())?;
        Ok(figures)
    }

    /// Appends batches on the direct way.
    fn append(&mut self, topic: &'static str, batches: usize) -> io::Result<()> {
        let topic = Topic::ask(topic, &mut self.straight)?;
        let mut script = produce(&topic, &self.records, &mut self.straight)?;
        self.straight.replay(&mut script, batches - 1).map(|_| ())
    }

    /// Megabytes in a second; `end` is where the topic that is produced to ends.
    fn measure(&mut self, cell: Cell, way: &Way, end: &mut i64) -> io::Result<f64> {
        let (bytes, took) = match cell {
            Cell::Produce => {
                self.room(PRODUCES * BATCH_BYTES)?;
                let topic = Topic::ask(cell.id(), &mut self.straight)?;
                let mut connection = way.connect()?;
                let mut script = produce(&topic, &self.records, &mut connection)?;
                let took = connection.replay(&mut script, PRODUCES)?;
                *end += (PRODUCES as i64 + 1) * self.records.count;
                self.ends_at(cell.id(), *end)?;
                (PRODUCES * BATCH_BYTES, took)
            }
            Cell::Fetch => {
                let mut connection = way.connect()?;
                let mut script = self.fetch(cell.id(), &mut connection)?;
                (FETCHES * BATCH_BYTES, connection.replay(&mut script, FETCHES)?)
            }
            Cell::JavaProduce => {
                self.room((JAVA_RECORDS + JAVA_WARM_RECORDS) * JAVA_RECORD_BYTES)?;
                return self.java_produce(cell.id(), way.bootstrap);
            }
            Cell::JavaConsume => return self.java_consume(cell.id(), way.bootstrap),
        };
        Ok(megabytes(bytes, took))
    }

    /// Sees to it that the log's next files cost what files cost (see `machine`).
    fn room(&self, bytes: usize) -> io::Result<()> {
        machine::warm_page_cache(self.kafka.process.directory(), bytes / 8 * 9)
    }

    fn ends_at(&mut self, topic: &str, end: i64) -> io::Result<()> {
        let mut frame = wire::fetch_from(topic, 0, end, 1, 0);
        let (error, records) = wire::fetched(self.straight.call(&mut frame)?)?;
        if error == 0 && records.is_empty() {
            return Ok(());
        }
        let length = records.len();
        Err(fault(format!("{topic:?} does not end at {end}: error {error}, {length} bytes")))
    }

    /// The requests that read the topic over and over; each response is what Kafka answers.
    fn fetch(&mut self, topic: &'static str, connection: &mut Connection) -> io::Result<Script> {
        let topic = Topic::ask(topic, &mut self.straight)?;
        let frame = |at: usize| {
            let offset = at as i64 * self.records.count;
            frames::fetch(frames::FETCH, &topic, offset, BATCH_BYTES as i32)
        };
        let mut script = Script {
            frames: (0..HOT_BATCHES).map(frame).collect::<io::Result<_>>()?,
            depth: DEPTH,
            expect: Expect::Length { bytes: 0 },
            payload: BATCH_BYTES,
        };
        for frame in &mut script.frames {
            let wanted = self.straight.call(frame)?;
            if connection.call(frame)? != wanted || wanted.len() < BATCH_BYTES {
                return Err(fault("a fetch response was changed"));
            }
            script.expect = Expect::Length { bytes: wanted.len() };
        }
        Ok(script)
    }

    fn java_produce(&self, topic: &str, bootstrap: SocketAddr) -> io::Result<f64> {
        let mut command = self.java("org.apache.kafka.tools.ProducerPerformance");
        command.args(["--bootstrap-server", &bootstrap.to_string(), "--topic", topic]);
        command.args(["--num-records", &(JAVA_RECORDS + JAVA_WARM_RECORDS).to_string()]);
        command.args(["--warmup-records", &JAVA_WARM_RECORDS.to_string()]);
        command.args(["--record-size", &JAVA_RECORD_BYTES.to_string(), "--throughput", "-1"]);
        command.arg("--command-property").args(JAVA_PRODUCER);
        let said = said(&mut command)?;
        // The last line is of the records after the warm-up: "... records/sec (123.45 MB/sec), ...".
        let figure = said.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once("records/sec (")?;
            rest.split_once(" MB/sec")?.0.parse::<f64>().ok()
        });
        // It counts mebibytes.
        let mebibytes = figure.ok_or_else(|| fault(format!("the producer said {said:?}")))?;
        Ok(mebibytes * f64::from(1 << 20) / 1e6)
    }

    fn java_consume(&self, topic: &str, bootstrap: SocketAddr) -> io::Result<f64> {
        let mut command = self.java("org.apache.kafka.tools.ConsumerPerformance");
        command.args(["--bootstrap-server", &bootstrap.to_string(), "--topic", topic]);
        command.args(["--num-records", &JAVA_RECORDS.to_string(), "--hide-header"]);
        let said = said(&mut command)?;
        // The fifth column counts records, the ninth is the rate without the time until the
        // partition was assigned.
        let figure = said.lines().find_map(|line| {
            let columns: Vec<_> = line.split(", ").collect();
            let count = columns.get(4)?.parse::<usize>().ok()?;
            let rate = columns.get(8)?.parse::<f64>().ok()?;
            (count >= JAVA_RECORDS).then_some(rate)
        });
        let mebibytes = figure.ok_or_else(|| fault(format!("the consumer said {said:?}")))?;
        Ok(mebibytes * f64::from(1 << 20) / 1e6)
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.arg("-cp").arg(self.places.clients.join("java").join("*")).arg(class);
        command
    }
}

/// The request that appends `records`, whose response without an error has this length.
fn produce(topic: &Topic, records: &Records, connection: &mut Connection) -> io::Result<Script> {
    let mut frame = frames::produce(frames::PRODUCE, topic, records)?;
    let expect = Expect::Length { bytes: connection.call(&mut frame)?.len() };
    Ok(Script { frames: vec![frame], depth: DEPTH, expect, payload: BATCH_BYTES })
}

fn said(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(fault(format!("{}: {said}", command.get_program().display())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn megabytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
