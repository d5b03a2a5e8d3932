//! Logs that are much longer than the disk that the broker may take: written by librdkafka, brought
//! to a real S3 server, read back by franz-go byte for byte (issue 5, Must show 1 and 6).
//!
//! Short form: 512 MiB with 128 MiB of disk; a bucket that is away for a quarter of a minute.
//! `TIDEGATE_LONG=1`: 5 GiB with 1 GiB of disk; a bucket that is away for ten minutes.

use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::clients::{Lines, franz_go, log_writer};
use crate::harness::servers::Server;
use crate::harness::{Broker, Options};
use crate::judge::{end_offset, last_tiered_offset, partition_count};

const MIB: u64 = 1 << 20;
const TOPIC: &str = "long";
const PARTITIONS: usize = 4;
/// Its caches have a few MiB of it: almost all that is read comes from the bucket.
const BUDGET: u64 = 64 * MIB;
/// Places of the reader that goes from one to another.
const PLACES: u64 = 200;
/// Who says nothing for so long has stopped.
const PATIENCE: Duration = Duration::from_mins(2);

fn is_long() -> bool {
    std::env::var_os("TIDEGATE_LONG").is_some()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A record as both programs speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    partition: usize,
    offset: usize,
    timestamp: i64,
    digest: String,
}

impl Row {
    fn of(row: &Value) -> Self {
        let number = |name: &str| row[name].as_i64().unwrap_or_else(|| panic!("{row}"));
        Self {
            partition: number("partition") as usize,
            offset: number("offset") as usize,
            timestamp: number("timestamp"),
            digest: row["digest"].as_str().unwrap().to_owned(),
        }
    }
}

/// The records of each line of a program.
fn rows(lines: Lines) -> impl Iterator<Item = Vec<Row>> {
    lines.map_while(Result::ok).map(|line| match serde_json::from_str(&line).unwrap() {
        Value::Array(rows) => rows.iter().map(Row::of).collect(),
        row => vec![Row::of(&row)],
    })
}

/// The lines of a program, which may not be silent for long. It ends when the program does.
fn follow(lines: Lines) -> impl Iterator<Item = Vec<Row>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for rows in rows(lines) {
            if sender.send(rows).is_err() {
                return;
            }
        }
    });
    std::iter::from_fn(move || {
        use std::sync::mpsc::RecvTimeoutError;
        match receiver.recv_timeout(PATIENCE) {
            Ok(rows) => Some(rows),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}"),
        }
    })
}

/// What was acknowledged, by partition and offset.
struct Written(Vec<Vec<Row>>);

impl Written {
    fn new() -> Self {
        Self(vec![Vec::new(); PARTITIONS])
    }

    /// Acknowledgements of a partition come in the order of its log, without a gap.
    fn push(&mut self, row: Row) {
        let log = &mut self.0[row.partition];
        assert_eq!(row.offset, log.len(), "the next offset of partition {}", row.partition);
        log.push(row);
    }

    fn ends(&self) -> Vec<usize> {
        self.0.iter().map(Vec::len).collect()
    }

    fn count(&self) -> usize {
        self.ends().iter().sum()
    }

    /// Fails unless `read` is what was written from `starts` on, each partition in its order.
    fn assert_read(&self, mut lines: impl Iterator<Item = Vec<Row>>, starts: Vec<usize>) {
        let (ends, mut at) = (self.ends(), starts);
        while at != ends {
            let Some(rows) = lines.next() else { panic!("the reader ended at {at:?}") };
            for row in rows {
                self.assert_next(&mut at, &row);
            }
        }
    }

    fn assert_next(&self, at: &mut [usize], row: &Row) {
        let next = &mut at[row.partition];
        assert_eq!(row.offset, *next, "the next offset of partition {}", row.partition);
        assert_eq!(Some(row), self.0[row.partition].get(*next), "what was read and what written");
        *next += 1;
    }
}

/// One line of figures to a step.
fn note(what: &str, begun: Instant, bytes: u64) {
    let (seconds, mib) = (begun.elapsed().as_secs_f64(), bytes as f64 / MIB as f64);
    println!("{what}: {seconds:.1} s, {:.0} MiB/s", mib / seconds);
}

#[test]
fn a_log_of_many_times_the_disk_is_read_back_byte_for_byte_by_another_client() {
    let (total, wal_max) =
        if is_long() { (5_120 * MIB, 1_024 * MIB) } else { (512 * MIB, 128 * MIB) };
    let Some(server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    let (options, _folder) = Options::new()
        .set("num.partitions", PARTITIONS)
        .set("memory.budget.bytes", BUDGET)
        .set("wal.max.bytes", wal_max)
        .set("tier.max.age.ms", 1_000)
        .on_disk();
    let mut broker = Broker::start_with(server.options("s3://bkt/prod", options));
    assert_eq!(partition_count(&mut broker.connect(), TOPIC) as usize, PARTITIONS);
    let (idle, address) = (broker.resident(), broker.address());

    let begun = Instant::now();
    let mut written = Written::new();
    let (writer, lines) = log_writer(&address, TOPIC, PARTITIONS, total, 0);
    for row in follow(lines).flatten() {
        written.push(row);
        if written.count().is_multiple_of(1_000) {
            assert_disk(&broker, wal_max);
        }
    }
    assert_eq!(writer.wait(), Some(0), "the writer ends well");
    note("written", begun, total);
    broker.wait_until("the bucket has all of it", |broker| {
        broker.metric("tidegate_broker_tier_lag_bytes") == 0.0
    });
    assert_disk(&broker, wal_max);

    let begun = Instant::now();
    let (_reader, lines) = franz_go("read", &address, TOPIC, "start");
    written.assert_read(follow(lines), vec![0; PARTITIONS]);
    note("read from the beginning", begun, total);
    let from_bucket = broker.metric("tidegate_partition_tiered_bytes_total");
    assert!(from_bucket >= (total - wal_max) as f64, "{from_bucket} bytes came from the bucket");

    read_from_a_time(&written, &address);
    read_at_random(&written, &address);

    let grown = broker.resident_max() - idle;
    println!("{grown} bytes above the idle process of {idle}, with a budget of {BUDGET}");
    assert!(grown * 10 <= BUDGET * 11, "{grown} bytes above the idle process");
    assert_eq!(broker.stop(), Some(0));
}

/// Fails when the write-ahead log takes more of the disk than it may.
fn assert_disk(broker: &Broker, wal_max: u64) {
    let bytes = broker.wal_bytes();
    assert!(bytes > 0 && bytes <= wal_max, "{bytes} bytes of write-ahead log");
}

/// From the time of a record in the middle of the first partition.
fn read_from_a_time(written: &Written, address: &str) {
    let begun = Instant::now();
    let time = written.0[0][written.0[0].len() / 2].timestamp;
    let starts: Vec<usize> =
        written.0.iter().map(|log| log.partition_point(|row| row.timestamp < time)).collect();
    assert!(starts.iter().all(|start| *start > 0), "{starts:?}");
    let (_reader, lines) = franz_go("read", address, TOPIC, &time.to_string());
    written.assert_read(follow(lines), starts);
    println!("read from the middle by time: {:.1} s", begun.elapsed().as_secs_f64());
}

/// Places in no order: what is read there begins at the place and goes on without a gap.
fn read_at_random(written: &Written, address: &str) {
    let begun = Instant::now();
    let ends = written.ends();
    let mut places = Vec::new();
    for number in 1..=PLACES {
        // A step of splitmix64.
        let mut chance = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        chance = (chance ^ (chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let partition = (chance % PARTITIONS as u64) as usize;
        places.push((partition, ((chance >> 8) % ends[partition] as u64) as usize));
    }
    let mut argument = String::new();
    for (partition, offset) in &places {
        let _ = write!(argument, "{partition}:{offset},");
    }
    let (reader, lines) = franz_go("seek", address, TOPIC, argument.trim_end_matches(','));
    let (mut visited, mut records) = (0, 0);
    for (rows, (partition, offset)) in follow(lines).zip(&places) {
        let mut at = vec![usize::MAX; PARTITIONS];
        at[*partition] = *offset;
        for row in &rows {
            written.assert_next(&mut at, row);
        }
        (visited, records) = (visited + 1, records + rows.len());
    }
    assert_eq!(reader.wait(), Some(0), "the reader ends well");
    assert_eq!(visited, places.len(), "every place was read");
    let seconds = begun.elapsed().as_secs_f64();
    println!("{visited} places in no order, {records} records: {seconds:.1} s");
}

/// What the writer and the reader at the tail have said.
enum Event {
    Written(Row),
    /// Behind the time of its record, in milliseconds.
    Read(Row, i64),
}

/// The writer and the reader at the tail of its log, as they go on side by side.
struct Tail {
    events: Receiver<Event>,
    written: Written,
    /// What came before it was acknowledged.
    early: Vec<Row>,
    read: Vec<usize>,
    /// How long the records of the present phase took to the reader, in milliseconds.
    delays: Vec<i64>,
}

impl Tail {
    fn new(writer: Lines, reader: Lines) -> Self {
        let (sender, events) = channel();
        let of_reader = sender.clone();
        std::thread::spawn(move || {
            for row in rows(writer).flatten() {
                let _ = sender.send(Event::Written(row));
            }
        });
        std::thread::spawn(move || {
            for row in rows(reader).flatten() {
                let delay = now_ms() - row.timestamp;
                let _ = of_reader.send(Event::Read(row, delay));
            }
        });
        let (written, read) = (Written::new(), vec![0; PARTITIONS]);
        Self { events, written, early: Vec::new(), read, delays: Vec::new() }
    }

    /// Goes on until so many records are acknowledged, and the reader has all of those.
    fn go_on(&mut self, count: usize, phase: &str) {
        while self.written.count() < count || self.read != self.written.ends() {
            match self.events.recv_timeout(PATIENCE).expect("both go on") {
                Event::Written(row) => self.written.push(row),
                Event::Read(row, delay) => {
                    self.delays.push(delay);
                    self.early.push(row);
                }
            }
            let (ends, rows) = (self.written.ends(), std::mem::take(&mut self.early));
            for row in rows {
                if row.offset < ends[row.partition] {
                    self.written.assert_next(&mut self.read, &row);
                } else {
                    self.early.push(row);
                }
            }
        }
        self.delays.sort_unstable();
        let at = |share: usize| self.delays[(self.delays.len() - 1) * share / 1_000];
        let [median, high, most] = [500, 990, 1_000].map(at);
        println!("{phase}: to the tail reader {median} ms, p99 {high} ms, at most {most} ms");
        self.delays.clear();
    }
}

#[test]
fn a_server_that_is_away_is_not_noticed_and_has_everything_once_it_is_back() {
    const RATE: u64 = 4 * MIB;
    /// A record has this many bytes on average.
    const RECORD: u64 = 8 << 10;
    let [before, away, after] = if is_long() { [30, 600, 30] } else { [5, 15, 3] };
    let Some(mut server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    let (options, _folder) = Options::new()
        .set("num.partitions", PARTITIONS)
        .set("memory.budget.bytes", BUDGET)
        .set("wal.max.bytes", 2 * away * RATE)
        .set("tier.max.age.ms", 1_000)
        .on_disk();
    let mut broker = Broker::start_with(server.options("s3://bkt/prod", options));
    assert_eq!(partition_count(&mut broker.connect(), TOPIC) as usize, PARTITIONS);
    let address = broker.address();
    let (_reader, reading) = franz_go("read", &address, TOPIC, "start");
    let total = (before + away + after) * RATE;
    let (writer, writing) = log_writer(&address, TOPIC, PARTITIONS, total, RATE);
    let mut tail = Tail::new(writing, reading);
    let records = |seconds: u64| (seconds * RATE / RECORD) as usize;

    tail.go_on(records(before), "before");
    server.kill();
    let (begun, from) = (Instant::now(), tail.written.count());
    tail.go_on(records(before + away), "with the server away");
    let lag = |broker: &Broker| broker.metric("tidegate_broker_tier_lag_bytes");
    println!("{} bytes wait after {:.0} s", lag(&broker), begun.elapsed().as_secs_f64());
    // But for what was written in the last moments before.
    let since = (tail.written.count() - from) as u64 * RECORD;
    let waits = since.saturating_sub(2 * RATE) as f64 * 0.9;
    broker.wait_until("it is told how much waits", |broker| lag(broker) >= waits);
    assert_eq!(broker.admin("/readyz").0, 200, "a broker that runs needs no bucket to serve");
    server.restart();
    let begun = Instant::now();
    assert_eq!(writer.wait(), Some(0), "every record is acknowledged");
    let mut wire = broker.connect();
    let ends: Vec<i64> =
        (0..PARTITIONS as i32).map(|partition| end_offset(&mut wire, TOPIC, partition)).collect();
    tail.go_on(ends.iter().sum::<i64>() as usize, "after it");

    broker.wait_until("the bucket has all of it", |broker| {
        broker.metric("tidegate_broker_tier_lag_bytes") == 0.0
    });
    println!("all of it is in the bucket {:.1} s after", begun.elapsed().as_secs_f64());
    for (partition, end) in (0i32..).zip(ends) {
        assert_eq!(last_tiered_offset(&mut wire, TOPIC, partition), end - 1);
    }
    let tiered = broker.metric("tidegate_partition_tiered_bytes_total");
    assert!(tiered < 1.0, "the tail is read where it is, not {tiered} bytes of it in the bucket");
    broker.kill();
    broker.restart();
    let (_reader, lines) = franz_go("read", &address, TOPIC, "start");
    tail.written.assert_read(follow(lines), vec![0; PARTITIONS]);
    assert_eq!(broker.stop(), Some(0));
}
