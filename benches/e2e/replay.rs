//! The client: one blocking connection that keeps a number of pre-encoded requests in flight.
//!
//! It does as little as a client can, so that the broker is what is measured; still it looks at
//! every response, because a broker that answers with errors is fast.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Buf;
use tidegate::protocol::batch::Batch;

use super::wire::{self, Frame, FrameBuffer, fault};

/// How long one response may take before the run is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The receive buffer: room for a response of 1 MiB and part of the next.
const RECEIVE_BYTES: usize = 3 << 20;

/// What a response must say, beside that there was no error.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// Base offsets that follow each other in each partition, each batch having this many records.
    /// Request n went to partition n modulo the number of frames.
    Appended { records: i64 },
    /// `bytes` of whole batches, the first of which begins at the offset given for the frame.
    Read { bytes: usize, offsets: Vec<i64> },
    /// Any base offset: the floor probe has no log.
    Acknowledged,
    /// So many bytes of anything, for the same reason.
    Sent { bytes: usize },
    /// So many bytes in all, of a response that has been looked at before.
    #[allow(dead_code, reason = "what the proxy's bench expects")]
    Length { bytes: usize },
}

/// A number of requests: the frames in turn, `requests` in all, `depth` in flight.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) frames: Vec<Frame>,
    pub(crate) depth: usize,
    pub(crate) expect: Expect,
    /// The record bytes of one request or response.
    pub(crate) payload: usize,
}

/// A connection to a broker.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: FrameBuffer,
}

impl Connection {
    /// Connects, without retrying.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, buffer: FrameBuffer::new(RECEIVE_BYTES) })
    }

    /// Sends one request and returns its response's body.
    pub(crate) fn call(&mut self, frame: &mut Frame) -> io::Result<&[u8]> {
        self.send(frame)?;
        self.answer()
    }

    /// Sends one request.
    pub(crate) fn send(&mut self, frame: &mut Frame) -> io::Result<()> {
        self.stream.write_all(frame.stamped(0))
    }

    /// The response to the request that was sent last.
    pub(crate) fn answer(&mut self) -> io::Result<&[u8]> {
        self.receive(0)
    }

    /// Plays `requests` requests of a script; how long they took.
    pub(crate) fn replay(&mut self, script: &mut Script, requests: usize) -> io::Result<Duration> {
        let begin = Instant::now();
        let count = script.frames.len();
        let mut next_offsets = vec![None; count];
        let (mut sent, mut received) = (0, 0);
        while received < requests {
            while sent < requests && sent - received < script.depth {
                self.stream.write_all(script.frames[sent % count].stamped(sent as i32))?;
                sent += 1;
            }
            let body = self.receive(received as i32)?;
            let slot = received % count;
            check(&script.expect, slot, &mut next_offsets[slot], body)
                .map_err(|error| fault(format!("response {received}: {error}")))?;
            received += 1;
        }
        Ok(begin.elapsed())
    }

    /// The next response's body, which must answer `correlation`.
    fn receive(&mut self, correlation: i32) -> io::Result<&[u8]> {
        let frame = loop {
            if let Some(frame) = self.buffer.take() {
                break frame;
            }
            let count = self.stream.read(self.buffer.room())?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.filled(count);
        };
        let mut body = self.buffer.get(frame);
        let answered = body.try_get_i32()?;
        if answered != correlation {
            return Err(fault(format!("response to {answered}, wanted {correlation}")));
        }
        Ok(body)
    }
}

fn check(expect: &Expect, slot: usize, next: &mut Option<i64>, body: &[u8]) -> io::Result<()> {
    match expect {
        Expect::Appended { records } => {
            let produced = wire::produced(body)?;
            if produced.error != 0 || next.is_some_and(|next| next != produced.base_offset) {
                return Err(fault(format!("{produced:?}, wanted offset {next:?} without error")));
            }
            *next = Some(produced.base_offset + records);
        }
        Expect::Read { bytes, offsets } => {
            let (error, mut records) = wire::fetched(body)?;
            let length = records.len();
            let offset = records.try_get_i64().ok();
            if error != 0 || length != *bytes || offset != offsets.get(slot).copied() {
                return Err(fault(format!(
                    "error {error}, {length} bytes from offset {offset:?}, wanted {bytes} from {}",
                    offsets[slot],
                )));
            }
        }
        Expect::Acknowledged => {
            let error = wire::produced(body)?.error;
            if error != 0 {
                return Err(fault(format!("error {error}")));
            }
        }
        Expect::Sent { bytes } => {
            let (error, records) = wire::fetched(body)?;
            if error != 0 || records.len() != *bytes {
                return Err(fault(format!("error {error}, {} bytes", records.len())));
            }
        }
        Expect::Length { bytes } => {
            if body.len() != *bytes {
                let begin = body.get(..body.len().min(80)).unwrap_or_default();
                let length = body.len();
                return Err(fault(format!("{length} bytes, wanted {bytes}: {begin:02x?}")));
            }
        }
    }
    Ok(())
}

/// Fetches what the frame asks for once and checks the checksum of the first batch.
pub(crate) fn verify_content(connection: &mut Connection, frame: &mut Frame) -> io::Result<()> {
    let (error, records) = wire::fetched(connection.call(frame)?)?;
    let mut prefix = records.get(8..12).unwrap_or_default();
    let size = prefix.try_get_i32().map_or(0, |length| length as usize + 12);
    let first = records.get(..size).ok_or_else(|| fault(format!("error {error}, no batch")))?;
    let batch = Batch::parse_one(bytes::Bytes::copy_from_slice(first));
    let verified = batch.and_then(|batch| batch.verify_crc());
    verified.map_err(|error| fault(format!("fetched batch: {error}")))
}
