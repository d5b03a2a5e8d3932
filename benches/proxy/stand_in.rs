//! The upstream stand-in: one node that keeps nothing, answers every Produce alike, and every Fetch
//! with as many bytes as were asked for, from memory. What it costs is not measured; it is there so
//! that what a proxy costs is not lost beside what a broker costs.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::frames::{self, Request};
use super::wire::{self, FrameBuffer, fault};

/// What a connection has for requests at first; it grows to the greatest request.
const RECEIVE_BYTES: usize = 4 << 10;
/// A response above this leaves alone, from where it lies; smaller ones leave together.
const LARGE_RESPONSE: usize = 16 << 10;

/// The responses that have been asked for, encoded once.
type Encoded = Arc<Mutex<HashMap<Request, Bytes>>>;

/// Serves until the process is ended.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let encoded = Encoded::default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let received = FrameBuffer::new(RECEIVE_BYTES);
            let encoded = Arc::clone(&encoded);
            let session = Session { stream, port, encoded, received, replies: Vec::new() };
            tokio::spawn(session.run());
        }
    })
}

/// One connection.
#[derive(Debug)]
struct Session {
    stream: TcpStream,
    port: u16,
    encoded: Encoded,
    received: FrameBuffer,
    replies: Vec<u8>,
}

impl Session {
    /// Runs until the other side leaves.
    async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    if error.kind() == io::ErrorKind::Other {
                        eprintln!("stand-in: {error}");
                    }
                    return;
                }
            }
        }
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
            self.answer(frame).await?;
        }
        self.flush().await?;
        Ok(true)
    }

    async fn answer(&mut self, frame: Range<usize>) -> io::Result<()> {
        let (request, correlation) = Request::read(self.received.get(frame))?;
        let response = self.encoded(request)?;
        let length = response.first_chunk::<4>().copied().unwrap_or_default();
        self.replies.extend_from_slice(&length);
        self.replies.extend_from_slice(&correlation);
        let rest = response.get(8..).unwrap_or_default();
        if rest.len() <= LARGE_RESPONSE {
            self.replies.extend_from_slice(rest);
            return Ok(());
        }
        wire::send(&self.stream, &self.replies, rest).await?;
        self.replies.clear();
        Ok(())
    }

    fn encoded(&self, request: Request) -> io::Result<Bytes> {
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(response) = encoded.get(&request) {
            return Ok(response.clone());
        }
        let response = frames::answer(request, self.port)?
            .ok_or_else(|| fault(format!("nothing answers {request:?}")))?;
        encoded.insert(request, response.clone());
        Ok(response)
    }

    async fn flush(&mut self) -> io::Result<()> {
        wire::send(&self.stream, &self.replies, &[]).await?;
        self.replies.clear();
        Ok(())
    }
}
