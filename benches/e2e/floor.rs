//! The floor: a server that does with a frame what no broker can leave out, and nothing else.
//!
//! Produce: receive into a reused buffer, crc32c over the frame, one copy into a reused group
//! buffer, write into a recycled file whose blocks exist, a small response. The frames that one
//! receive brought are one group: one write, with `durable` one fdatasync, then their responses in
//! one send. Fetch: one vectored write from resident memory. It runs in a process of its own, so
//! that its CPU is measured as a broker's is.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Buf;
use tokio::net::{TcpListener, TcpStream};

use super::wire::{self, FrameBuffer, fault};

/// The recycled file, as large as a file of the write-ahead log.
const FILE_BYTES: usize = 128 << 20;
/// A group is written when it reaches this.
const GROUP_BYTES: usize = 4 << 20;
/// The receive buffer of a connection.
const RECEIVE_BYTES: usize = 2 << 20;
/// What fetches are answered from; a response has at most this.
const RESIDENT_BYTES: usize = 64 << 20;

/// What all connections share.
#[derive(Debug)]
struct Store {
    file: File,
    durable: bool,
    resident: Vec<u8>,
}

/// Serves until the process is ended.
pub(crate) fn serve(port: u16, directory: &Path, durable: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).open(directory.join("ring"))?;
    let block = vec![0_u8; GROUP_BYTES];
    for position in (0..FILE_BYTES).step_by(GROUP_BYTES) {
        file.write_all_at(&block, position as u64)?;
    }
    file.sync_all()?;
    let store = Arc::new(Store { file, durable, resident: vec![1; RESIDENT_BYTES] });
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(Session::new(stream, Arc::clone(&store)).run());
        }
    })
}

/// One connection.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
    store: Arc<Store>,
    received: FrameBuffer,
    group: Vec<u8>,
    replies: Vec<u8>,
    /// Where the next group goes in the file.
    position: usize,
    appended: i64,
    /// Where the next fetch reads in the resident memory.
    read: usize,
    checksum: u32,
}

impl Session {
    fn new(stream: TcpStream, store: Arc<Store>) -> Session {
        Session {
            stream,
            store,
            received: FrameBuffer::new(RECEIVE_BYTES),
            group: Vec::with_capacity(GROUP_BYTES),
            replies: Vec::with_capacity(64 << 10),
            position: 0,
            appended: 0,
            read: 0,
            checksum: 0,
        }
    }

    /// Runs until the client leaves.
    async fn run(mut self) {
        while let Ok(true) = self.turn().await {}
    }

    /// Receives once and answers what is complete; false at the end of the stream.
    async fn turn(&mut self) -> io::Result<bool> {
        self.stream.readable().await?;
        match self.stream.try_read(self.received.room()) {
            Ok(0) => return Ok(false),
            Ok(count) => self.received.filled(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        while let Some(frame) = self.received.take() {
            self.handle(frame).await?;
        }
        self.flush().await?;
        Ok(true)
    }

    async fn handle(&mut self, frame: std::ops::Range<usize>) -> io::Result<()> {
        let frame = self.received.get(frame);
        let mut head = frame;
        let key = head.try_get_i16()?;
        head.try_get_i16()?;
        let correlation = head.try_get_i32()?;
        if key == wire::PRODUCE {
            self.checksum ^= crc32c::crc32c(frame);
            self.group.extend_from_slice(frame);
            wire::put_produced(&mut self.replies, correlation, b"floor", self.appended);
            self.appended += 1;
            if self.group.len() >= GROUP_BYTES - RECEIVE_BYTES {
                self.flush().await?;
            }
            return Ok(());
        }
        if key != wire::FETCH {
            return Err(fault(format!("the floor knows no API {key}")));
        }
        // The wanted size stands after client id, replica id, max wait and min bytes.
        let client = usize::try_from(head.try_get_i16()?).unwrap_or(0);
        let mut size = head.get(client + 12..).unwrap_or_default();
        let size = usize::try_from(size.try_get_i32()?).unwrap_or(0).min(RESIDENT_BYTES);
        if self.read + size > RESIDENT_BYTES {
            self.read = 0;
        }
        let from = self.read;
        self.read += size;
        let mut header = Vec::with_capacity(128);
        wire::put_fetched(&mut header, correlation, b"floor", size);
        let records = &self.store.resident[from..from + size];
        wire::send(&self.stream, &header, records).await
    }

    /// Writes the group, syncs it if asked to, and sends its responses.
    async fn flush(&mut self) -> io::Result<()> {
        if self.group.is_empty() {
            return Ok(());
        }
        if self.position + self.group.len() > FILE_BYTES {
            self.position = 0;
        }
        self.store.file.write_all_at(&self.group, self.position as u64)?;
        self.position += self.group.len();
        if self.store.durable {
            self.store.file.sync_data()?;
        }
        self.group.clear();
        std::hint::black_box(self.checksum);
        wire::send(&self.stream, &self.replies, &[]).await?;
        self.replies.clear();
        Ok(())
    }
}
