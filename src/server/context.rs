//! What all connections of a door share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::apis::ApiTable;
use super::buffers::{LargeBuffers, READ_BUFFER};
use super::connections::Connections;
use super::metrics::Metrics;
use crate::budget::{Budget, BytePool, Pool};
use crate::clock::Clock;
use crate::log_limit::LogLimit;
use crate::shutdown::Shutdown;

/// At most this part of the small pool is held by the first 64 KiB of large frames.
const PREFIX_SHARE: usize = 4;
/// At most this many large frames have their first 64 KiB in memory and wait for the rest.
const PREFIX_SLOTS_MAX: usize = 64;

/// The limits of a door.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all (`max.connections`); more are refused.
    pub max_connections: usize,
    /// Connections from one address (`max.connections.per.ip`); more are refused.
    pub max_connections_per_ip: usize,
    /// The greatest frame in bytes (`socket.request.max.bytes`); a greater one closes.
    pub max_request_bytes: usize,
    /// How long a connection may neither send nor be owed anything (`connections.max.idle.ms`);
    /// also how long its peer may take no byte of a response, where that is less than
    /// [`Limits::write_stall`].
    pub max_idle: Duration,
    /// How long a peer may take no byte of the responses that wait for it.
    pub write_stall: Duration,
    /// How long a frame may take, besides a second for each 64 KiB of it.
    pub frame_grace: Duration,
    /// Requests of one connection that are received and not yet answered; at the bound the
    /// connection is not read.
    pub in_flight_requests: usize,
    /// The bytes of those requests and of their responses that wait; at the bound the connection is
    /// not read. One request may exceed it.
    pub in_flight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_request_bytes: 100 * 1024 * 1024,
            max_idle: Duration::from_mins(10),
            write_stall: Duration::from_mins(1),
            frame_grace: Duration::from_secs(30),
            in_flight_requests: 64,
            in_flight_bytes: 16 << 20,
        }
    }
}

/// What all connections of a door share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Metrics,
    pub(super) connections: Arc<Connections>,
    pub(super) apis: ApiTable,
    /// Pays for read buffers and small frames.
    pub(super) small: BytePool,
    /// Pays for large frames.
    pub(super) receive: BytePool,
    pub(super) large_buffers: LargeBuffers,
    /// A slot lets one large frame have its first 64 KiB in memory, charged to the small pool:
    /// without this bound large frames that wait for room would use up the small pool.
    pub(super) prefix_slots: Arc<Semaphore>,
    /// For lines about peers that do not speak Kafka.
    pub(super) foreign_log: LogLimit,
    /// For lines about requests that close their connection.
    pub(super) refused_log: LogLimit,
    /// For lines about requests that failed by a fault of ours.
    pub(super) failed_log: LogLimit,
}

impl Context {
    pub(super) fn new(
        limits: Limits,
        budget: &Budget,
        clock: Clock,
        shutdown: Shutdown,
        metrics: Metrics,
        apis: ApiTable,
        connections: Arc<Connections>,
    ) -> Self {
        let (small, receive) = (budget.pool(Pool::Small), budget.pool(Pool::Receive));
        let slots = small.capacity() / PREFIX_SHARE / READ_BUFFER;
        Self {
            limits,
            clock,
            shutdown,
            metrics,
            connections,
            apis,
            small: small.clone(),
            receive: receive.clone(),
            large_buffers: LargeBuffers::new(receive.capacity()),
            prefix_slots: Arc::new(Semaphore::new(slots.clamp(1, PREFIX_SLOTS_MAX))),
            foreign_log: LogLimit::default(),
            refused_log: LogLimit::default(),
            failed_log: LogLimit::default(),
        }
    }

    /// How long a peer may take no byte.
    pub(super) fn write_stall(&self) -> Duration {
        self.limits.write_stall.min(self.limits.max_idle)
    }
}
