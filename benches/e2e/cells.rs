//! The cells: what is sent to every server, and how one cell is measured.

use std::io;
use std::time::Duration;

use super::machine::{self, Cpu};
use super::peer::{Kind, Lane, Peer};
use super::replay::{self, Connection, Expect, Script};
use super::wire::{self, fault};

/// What is fetched over and over: small enough for every cache there is.
const HOT_BYTES: usize = 64 << 20;
/// The batches that it is made of, so that responses of both sizes are whole batches.
const HOT_BATCH_BYTES: usize = 64 << 10;
/// The greatest number of passes that warm a cell.
const WARM_PASSES: usize = 8;
/// A cell is warm when two passes in a row differ by less than this in CPU time.
const FLAT: f64 = 1.10;

/// One cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// As JSON and `--cells` name it; also its topic.
    pub(crate) id: &'static str,
    /// As the table names it.
    pub(crate) title: &'static str,
    pub(crate) lane: Lane,
    pub(crate) load: Load,
    /// Requests in flight.
    depth: usize,
    /// Requests of one measurement, in a full run and a short one.
    requests: [usize; 2],
    /// What the table's first figure is.
    pub(crate) unit: Unit,
}

/// What a cell's requests are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Produce of a batch of so many bytes to one of so many partitions in turn.
    Produce { batch: usize, partitions: i32 },
    /// Produce of a batch of one record with a value of so many bytes.
    Record { value: usize },
    /// Fetch of so many bytes, over [`HOT_BYTES`] again and again.
    Fetch { bytes: usize },
}

/// How a cell's CPU time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds for 1e9 bytes of records.
    SecondsPerGb,
    /// Microseconds for a request.
    MicrosPerRequest,
}

impl Unit {
    /// As a table prints it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::SecondsPerGb => "cpu-s/GB",
            Unit::MicrosPerRequest => "cpu-us/request",
        }
    }
}

/// All cells, those of one lane together.
pub(crate) const CELLS: &[Cell] = &[
    Cell {
        id: "produce-1m",
        title: "produce, 1 MiB requests, 1 partition",
        lane: Lane::PageCache,
        load: Load::Produce { batch: 1 << 20, partitions: 1 },
        depth: 5,
        requests: [256, 160],
        unit: Unit::SecondsPerGb,
    },
    Cell {
        id: "produce-16k",
        title: "produce, 16 KiB requests, 8 partitions in turn",
        lane: Lane::PageCache,
        load: Load::Produce { batch: 16 << 10, partitions: 8 },
        depth: 5,
        requests: [12_000, 4_000],
        unit: Unit::MicrosPerRequest,
    },
    Cell {
        id: "produce-100b",
        title: "produce, one 100 B record a request",
        lane: Lane::PageCache,
        load: Load::Record { value: 100 },
        depth: 5,
        requests: [16_000, 6_000],
        unit: Unit::MicrosPerRequest,
    },
    Cell {
        id: "fetch-1m",
        title: "fetch hot, 1 MiB responses",
        lane: Lane::PageCache,
        load: Load::Fetch { bytes: 1 << 20 },
        depth: 5,
        requests: [1_536, 512],
        unit: Unit::SecondsPerGb,
    },
    Cell {
        id: "fetch-64k",
        title: "fetch hot, 64 KiB responses, not pipelined",
        lane: Lane::PageCache,
        load: Load::Fetch { bytes: 64 << 10 },
        depth: 1,
        requests: [6_000, 2_000],
        unit: Unit::MicrosPerRequest,
    },
    Cell {
        id: "durable-16k",
        title: "produce, 16 KiB requests, 8 partitions in turn, on disk before the ack",
        lane: Lane::Durable,
        load: Load::Produce { batch: 16 << 10, partitions: 8 },
        depth: 5,
        requests: [400, 200],
        unit: Unit::MicrosPerRequest,
    },
];

/// One measurement of one cell on one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// The server's CPU time.
    pub(crate) cpu: Duration,
    /// The client's CPU time.
    pub(crate) client: Duration,
    /// Wall time.
    pub(crate) wall: Duration,
    pub(crate) requests: usize,
    /// Record bytes produced or fetched.
    pub(crate) bytes: usize,
}

impl Measure {
    /// The server's CPU time in the cell's unit.
    pub(crate) fn cost(&self, unit: Unit) -> f64 {
        match unit {
            Unit::SecondsPerGb => self.cpu.as_secs_f64() / self.bytes as f64 * 1e9,
            Unit::MicrosPerRequest => self.cpu.as_secs_f64() / self.requests as f64 * 1e6,
        }
    }

    /// Requests in a second of wall time.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }
}

/// A cell that is ready to be measured on one server.
#[derive(Debug)]
pub(crate) struct Ready {
    connection: Connection,
    script: Script,
    requests: usize,
    topic: String,
}

impl Ready {
    /// Creates the cell's topic, fills it if it is to be read, and encodes its requests.
    pub(crate) fn prepare(cell: &Cell, peer: &mut Peer, smoke: bool) -> io::Result<Ready> {
        let mut connection = peer.connect()?;
        let partitions = match cell.load {
            Load::Produce { partitions, .. } => partitions,
            Load::Record { .. } | Load::Fetch { .. } => 1,
        };
        peer.create_topic(&mut connection, cell.id, partitions)?;
        let script = match cell.load {
            Load::Produce { batch, .. } => {
                append(cell, peer.kind, &wire::batch_of(batch)?, partitions)
            }
            Load::Record { value } => append(cell, peer.kind, &wire::single_record(value), 1),
            Load::Fetch { bytes } => read(cell, bytes, peer, &mut connection)?,
        };
        let requests = cell.requests[usize::from(smoke)];
        Ok(Ready { connection, script, requests, topic: cell.id.to_owned() })
    }

    /// Makes every measurement so many times as long.
    pub(crate) fn lengthen(&mut self, times: usize) {
        self.requests *= times;
    }

    /// Runs passes that are thrown away, until CPU time is flat; a short run makes only one.
    pub(crate) fn warm(&mut self, peer: &Peer, smoke: bool) -> io::Result<usize> {
        let mut last = self.measure(peer)?.cpu.as_secs_f64();
        for pass in 1..if smoke { 1 } else { WARM_PASSES } {
            let next = self.measure(peer)?.cpu.as_secs_f64();
            if last.max(next) < FLAT * last.min(next) {
                return Ok(pass + 1);
            }
            last = next;
        }
        Ok(if smoke { 1 } else { WARM_PASSES })
    }

    /// How much one measurement may grow the server's files.
    fn file_bytes(&self) -> usize {
        match self.script.expect {
            Expect::Appended { .. } => self.requests * self.script.payload,
            Expect::Acknowledged
            | Expect::Read { .. }
            | Expect::Sent { .. }
            | Expect::Length { .. } => 0,
        }
    }

    /// Plays the cell's requests once.
    pub(crate) fn measure(&mut self, peer: &Peer) -> io::Result<Measure> {
        let named = |error: io::Error| {
            fault(format!(
                "{} {}: {error}\n{}",
                peer.kind.name(),
                self.topic,
                peer.process.log_tail()
            ))
        };
        // A little more than the files need: they have indexes beside them.
        machine::warm_page_cache(peer.process.directory(), self.file_bytes() / 8 * 9)?;
        let (cpu, client) = (peer.process.cpu()?, Cpu::of("self")?);
        let wall = self.connection.replay(&mut self.script, self.requests).map_err(named)?;
        Ok(Measure {
            cpu: peer.process.cpu()?.since(&cpu),
            client: Cpu::of("self")?.since(&client),
            wall,
            requests: self.requests,
            bytes: self.requests * self.script.payload,
        })
    }

    /// Deletes the cell's topic.
    pub(crate) fn finish(mut self, peer: &Peer) -> io::Result<()> {
        peer.delete_topic(&mut self.connection, &self.topic)
    }
}

/// Sends `bytes` of 1 MiB requests to a topic of their own, so that the server's code is warm and
/// its files have blocks.
pub(crate) fn warm_up(peer: &mut Peer, bytes: usize) -> io::Result<()> {
    let cell = Cell { id: "warm-up", ..CELLS[0] };
    let mut ready = Ready::prepare(&cell, peer, false)?;
    ready.requests = bytes >> 20;
    ready.measure(peer)?;
    ready.finish(peer)
}

fn append(cell: &Cell, kind: Kind, records: &wire::Records, partitions: i32) -> Script {
    let expect = match kind {
        Kind::Kafka | Kind::Tidegate => Expect::Appended { records: records.count },
        Kind::Floor => Expect::Acknowledged,
    };
    let frame = |partition| wire::produce(cell.id, partition, records);
    Script {
        frames: (0..partitions).map(frame).collect(),
        depth: cell.depth,
        expect,
        payload: records.bytes.len(),
    }
}

/// Fills the topic and makes the requests that read it from begin to end.
fn read(cell: &Cell, bytes: usize, peer: &Peer, connection: &mut Connection) -> io::Result<Script> {
    let records = wire::batch_of(HOT_BATCH_BYTES)?;
    let step = (bytes / HOT_BATCH_BYTES) as i64 * records.count;
    let offsets: Vec<i64> = (0..(HOT_BYTES / bytes) as i64).map(|at| at * step).collect();
    let frame = |offset: &i64| wire::fetch(cell.id, *offset, bytes as i32);
    let mut frames: Vec<_> = offsets.iter().map(frame).collect();
    let expect = if peer.kind == Kind::Floor {
        Expect::Sent { bytes }
    } else {
        connection
            .replay(&mut append(cell, peer.kind, &records, 1), HOT_BYTES / HOT_BATCH_BYTES)?;
        for frame in &mut frames {
            replay::verify_content(connection, frame)?;
        }
        Expect::Read { bytes, offsets }
    };
    Ok(Script { frames, depth: cell.depth, expect, payload: bytes })
}
