//! The tests' service: it does what a request's body says. And a client over a pipe.
//!
//! A request is a Heartbeat v0, whose headers have no tags; its body is a command byte, a gate's
//! number and free bytes, which the response repeats.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::apis::ApiTable;
use super::cause::Cause;
use super::connection::Connection;
use super::connections::{Admission, Connections};
use super::context::{Context, Limits};
use super::metrics::Metrics;
use super::service::{
    ApiVersions, BoxFuture, Deferred, Disconnect, Piece, Reply, Request, Response, Service,
    ServiceConnection, Session,
};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::metrics::Registry;
use crate::shutdown::Shutdown;
use crate::task;

/// Heartbeat: the API of all commands.
pub(super) const KEY: i16 = 12;
/// The pieces of [`DEFERRED`] responses.
pub(super) const PIECE: usize = 300_000;

/// Answers at once.
pub(super) const ECHO: u8 = b'e';
/// Answers when the gate lets one through.
pub(super) const LATER: u8 = b'l';
/// Stays in the first stage until the gate lets one through.
pub(super) const CALL: u8 = b'c';
/// Never answers.
pub(super) const SILENT: u8 = b's';
/// Closes.
pub(super) const CLOSE: u8 = b'd';
/// Closes when the gate lets one through.
pub(super) const CLOSE_LATER: u8 = b'D';
/// Panics.
pub(super) const PANIC: u8 = b'p';
/// Panics when the gate lets one through.
pub(super) const PANIC_LATER: u8 = b'P';
/// Answers with as many deferred pieces as the gate's number says.
pub(super) const DEFERRED: u8 = b'f';
/// Answers with a deferred piece that cannot be fetched.
pub(super) const BROKEN: u8 = b'b';
/// Answers with a deferred piece that is one byte short.
pub(super) const SHORT: u8 = b'h';
/// Answers with a mebibyte at hand.
pub(super) const LARGE: u8 = b'm';

/// Answers with ten bytes at hand, a slice of a mebibyte.
pub(super) const SLICE: u8 = b'i';
/// Answers with a deferred piece that comes when the gate lets one through, and 200 kB at hand
/// behind it: not so much that later requests wait for it to be written.
pub(super) const STUCK: u8 = b'k';

/// A service that does what it is told.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) gates: Vec<Semaphore>,
    /// The correlation ids in the order of the first stages.
    pub(super) begun: watch::Sender<Vec<i32>>,
    pub(super) bodies: Mutex<Vec<Bytes>>,
    pub(super) fetched: Arc<Fetched>,
    pub(super) versions: Mutex<ApiVersions>,
    /// Whether the service is done with its connections, and who waits for that.
    done: Mutex<(bool, Option<Waker>)>,
}

/// Bytes of deferred pieces that exist now, and the most there were.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) now: AtomicUsize,
    pub(super) most: AtomicUsize,
}

struct Block(Vec<u8>, Arc<Fetched>);

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

struct Source {
    fill: u8,
    result: io::Result<usize>,
    fetched: Arc<Fetched>,
}

impl Deferred for Source {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let len = self.result?;
            let now = self.fetched.now.fetch_add(len, Ordering::Relaxed) + len;
            self.fetched.most.fetch_max(now, Ordering::Relaxed);
            let mut block = Bytes::from_owner(Block(vec![self.fill; len], self.fetched));
            let head = block.split_to(len / 3);
            Ok(vec![head, block])
        })
    }
}

/// One byte that comes when a gate lets one through.
struct Gated(Arc<Script>, u8);

impl Deferred for Gated {
    fn fetch(self: Box<Self>) -> BoxFuture<io::Result<Vec<Bytes>>> {
        Box::pin(async move {
            pass(self.0, self.1).await;
            Ok(vec![Bytes::from_static(b"g")])
        })
    }
}

impl Script {
    pub(super) fn new() -> Arc<Self> {
        let versions = ApiVersions {
            apis: vec![(0, 0, 13), (3, 0, 13), (KEY, 0, 4), (18, 0, 4)],
            supported_features: vec![
                ("group.version".to_owned(), 0, 1),
                ("metadata.version".to_owned(), 1, 25),
            ],
            finalized_features: vec![("metadata.version".to_owned(), 25, 25)],
            finalized_features_epoch: 7,
        };
        Arc::new(Self {
            gates: (0..256).map(|_| Semaphore::new(0)).collect(),
            begun: watch::Sender::default(),
            bodies: Mutex::default(),
            fetched: Arc::default(),
            versions: Mutex::new(versions),
            done: Mutex::default(),
        })
    }

    pub(super) fn open(&self, gate: u8) {
        self.gates[usize::from(gate)].add_permits(1);
    }

    /// Is done with all connections.
    pub(super) fn finish(&self) {
        let mut done = self.done.lock().unwrap();
        done.0 = true;
        done.1.take().unwrap().wake();
    }

    /// Waits until `count` first stages have begun.
    pub(super) async fn begun(&self, count: usize) -> Vec<i32> {
        let mut begun = self.begun.subscribe();
        begun.wait_for(|ids| ids.len() >= count).await.unwrap().clone()
    }

    fn slice(&self) -> Piece {
        let len = 1 << 20;
        self.fetched.now.fetch_add(len, Ordering::Relaxed);
        let block = Block(vec![9; len], Arc::clone(&self.fetched));
        Piece::Ready(Bytes::from_owner(block).slice(..10))
    }

    fn deferred(&self, fill: u8, len: usize, result: io::Result<usize>) -> Piece {
        let source = Source { fill, result, fetched: Arc::clone(&self.fetched) };
        Piece::Deferred { len, source: Box::new(source) }
    }
}

async fn pass(service: Arc<Script>, gate: u8) {
    service.gates[usize::from(gate)].acquire().await.unwrap().forget();
}

/// A connection that ends when the script says so.
#[derive(Debug)]
pub(super) struct Watched(Arc<Script>);

impl ServiceConnection for Watched {
    fn poll_io(&self, task: &mut Task<'_>) -> Poll<Disconnect> {
        let mut done = self.0.done.lock().unwrap();
        done.1 = Some(task.waker().clone());
        if done.0 { Poll::Ready(Disconnect::Done("all is said".to_owned())) } else { Poll::Pending }
    }
}

/// The same script behind every connection.
#[derive(Debug)]
pub(super) struct Told(pub(super) Arc<Script>);

impl Service for Told {
    type Connection = Watched;

    fn api_versions(&self) -> ApiVersions {
        self.0.versions.lock().unwrap().clone()
    }

    fn connect(&self, _: &Arc<Session>) -> Watched {
        Watched(Arc::clone(&self.0))
    }

    async fn call(
        &self,
        _: &Arc<Watched>,
        _: &Arc<Session>,
        request: Request,
    ) -> Result<Reply, Disconnect> {
        let script = Arc::clone(&self.0);
        script.begun.send_modify(|ids| ids.push(request.correlation_id));
        let Request { body, charge, .. } = request;
        let (command, gate) = (body[0], body[1]);
        let closing = Disconnect::Unavailable("told to".to_owned());
        let answer = Response::from_bytes(body.clone());
        let reply = match command {
            ECHO => Reply::Now(answer),
            SILENT => {
                script.bodies.lock().unwrap().push(body);
                Reply::Silent
            }
            CLOSE => return Err(closing),
            PANIC => panic!("told to"),
            CALL => {
                pass(script, gate).await;
                Reply::Now(answer)
            }
            DEFERRED => {
                let mut pieces = vec![Piece::Ready(body)];
                for number in 0..gate {
                    pieces.push(script.deferred(number, PIECE, Ok(PIECE)));
                    pieces.push(Piece::Ready(Bytes::copy_from_slice(&[number; 10])));
                }
                Reply::Now(Response { pieces, ..Response::default() })
            }
            SLICE => Reply::Now(Response { pieces: vec![script.slice()], ..Response::default() }),
            STUCK => {
                let gated = Box::new(Gated(script, gate));
                let large = Piece::Ready(vec![7; 200_000].into());
                let pieces = vec![Piece::Deferred { len: 1, source: gated }, large];
                Reply::Now(Response { pieces, ..Response::default() })
            }
            BROKEN | SHORT => {
                let result = if command == SHORT { Ok(9) } else { Err(io::Error::other("gone")) };
                let pieces = vec![script.deferred(0, 10, result)];
                Reply::Now(Response { pieces, ..Response::default() })
            }
            LARGE => Reply::Now(Response {
                pieces: vec![Piece::Ready(vec![7; 1 << 20].into())],
                errors: vec![(3, 2)],
                ..Response::default()
            }),
            LATER | CLOSE_LATER | PANIC_LATER => Reply::Later(Box::pin(async move {
                let _charge = charge;
                pass(script, gate).await;
                match command {
                    LATER => Ok(answer),
                    CLOSE_LATER => Err(closing),
                    _ => panic!("told to"),
                }
            })),
            _ => return Err(Disconnect::Unavailable("no such command".to_owned())),
        };
        Ok(reply)
    }
}

/// Everything around connections in a test.
pub(super) struct World {
    pub(super) script: Arc<Script>,
    pub(super) service: Arc<Told>,
    pub(super) context: Arc<Context>,
    pub(super) budget: Budget,
    pub(super) registry: Registry,
    pub(super) shutdown: Shutdown,
    pub(super) clock: Clock,
}

pub(super) fn name(key: i16) -> Option<&'static str> {
    crate::protocol::versions::find(key).map(|api| api.name)
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Limits::default(), 64 << 20)
    }

    pub(super) fn with(limits: Limits, budget: usize) -> Self {
        let (script, registry, shutdown) = (Script::new(), Registry::new(), Shutdown::new());
        let (clock, budget) = (Clock::system(), Budget::new(budget));
        let service = Arc::new(Told(Arc::clone(&script)));
        let apis = ApiTable::new(&service.api_versions(), name);
        let context = Context::new(
            limits,
            &budget,
            clock.clone(),
            shutdown.clone(),
            Metrics::new(&registry, &apis),
            apis,
            Connections::new(clock.clone()),
        );
        let context = Arc::new(context);
        Self { script, service, context, budget, registry, shutdown, clock }
    }

    /// A connection over a pipe that holds `pipe` bytes each way.
    pub(super) fn connect_over(&self, pipe: usize) -> Client {
        let (near, far) = tokio::io::duplex(pipe);
        self.connect_with(near, far)
    }

    /// A connection over the two ends of a pipe.
    pub(super) fn connect_with<IO>(&self, near: DuplexStream, far: IO) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = SocketAddr::from(([127, 0, 0, 1], 4));
        let admission = self.context.connections.admit(peer.ip(), 10_000, 10_000).unwrap();
        let session = Session::new(admission.id, peer, Arc::from("test"));
        let connection = Connection::new(
            far,
            Arc::clone(&self.context),
            Arc::clone(&self.service),
            Arc::new(session),
            Arc::clone(&admission.entry),
        );
        Client {
            io: near,
            ended: task::spawn("connection", connection.run()),
            _admission: admission,
        }
    }

    pub(super) fn connect(&self) -> Client {
        self.connect_over(1 << 20)
    }

    /// Bytes charged to any pool.
    pub(super) fn charged(&self) -> usize {
        self.budget.pools().iter().map(crate::budget::BytePool::used).sum()
    }

    /// A line of the metrics without its name and labels.
    pub(super) fn metric(&self, line: &str) -> Option<String> {
        let text = self.registry.encode();
        text.lines().find_map(|found| Some(found.strip_prefix(line)?.trim().to_owned()))
    }
}

/// The near end of a connection.
pub(super) struct Client {
    pub(super) io: DuplexStream,
    pub(super) ended: JoinHandle<Cause>,
    _admission: Admission,
}

impl Client {
    /// Sends a command with `free` bytes.
    pub(super) async fn send(&mut self, id: i32, command: u8, gate: u8, free: &[u8]) {
        self.io.write_all(&request(id, command, gate, free)).await.unwrap();
    }

    /// The next response: its correlation id and body.
    pub(super) async fn receive(&mut self) -> (i32, Bytes) {
        receive(&mut self.io).await.unwrap()
    }

    /// Reads all that comes until the end, then says why the connection ended.
    pub(super) async fn end(mut self) -> (Vec<u8>, Cause) {
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        drop(self.io);
        (rest, self.ended.await.unwrap())
    }

    /// Closes, then waits for the connection's end.
    pub(super) async fn hang_up(self) -> Cause {
        drop(self.io);
        self.ended.await.unwrap()
    }
}

/// A pipe's end that counts the reads and writes that moved bytes.
pub(super) struct Counted {
    pub(super) io: DuplexStream,
    pub(super) reads: Arc<AtomicUsize>,
    pub(super) writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(task, buffer);
        self.reads.fetch_add(usize::from(read.is_ready()), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(task, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(task, slices);
        self.writes.fetch_add(usize::from(wrote.is_ready()), Ordering::Relaxed);
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(task)
    }
}

/// A frame around a command.
pub(super) fn request(id: i32, command: u8, gate: u8, free: &[u8]) -> Vec<u8> {
    let mut body = vec![command, gate];
    body.extend_from_slice(free);
    frame(KEY, 0, id, &body)
}

/// A frame with a header of version 1.
pub(super) fn frame(key: i16, version: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(2 + 2 + 4 + 2 + 2 + body.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(id);
    frame.put_i16(2);
    frame.put_slice(b"me");
    frame.put_slice(body);
    frame
}

/// The next response of a stream.
pub(super) async fn receive<R: AsyncRead + Unpin>(io: &mut R) -> io::Result<(i32, Bytes)> {
    let length = io.read_i32().await?;
    let mut bytes = vec![0; length as usize];
    io.read_exact(&mut bytes).await?;
    let mut bytes = Bytes::from(bytes);
    let id = bytes.get_i32();
    Ok((id, bytes))
}

/// Limits with a short idle time.
pub(super) fn limits() -> Limits {
    Limits { max_idle: Duration::from_secs(100), ..Limits::default() }
}

/// Lets every other task of the current-thread runtime run until it can go no further.
pub(super) async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

/// A task of a test.
pub(super) fn task_of<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    crate::task::spawn("test writer", future)
}
