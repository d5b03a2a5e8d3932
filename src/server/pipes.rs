//! The front door without sockets: connections over any stream of bytes. The fuzz target and tests
//! of back ends use it, as those of other rooms use `wal::memory`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::apis::ApiTable;
use super::connection::Connection;
use super::connections::Connections;
use super::context::{Context, Limits};
use super::metrics::Metrics;
use super::service::{Service, Session};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::metrics::Registry;
use crate::shutdown::Shutdown;

/// A door whose connections are brought to it.
pub struct Pipes<S> {
    context: Arc<Context>,
    service: Arc<S>,
}

impl<S> fmt::Debug for Pipes<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipes").finish_non_exhaustive()
    }
}

impl<S: Service> Pipes<S> {
    /// A door in front of `service`, with metrics of its own and the system's clock.
    pub fn new(limits: Limits, budget: &Budget, service: Arc<S>) -> Self {
        let clock = Clock::system();
        let apis = ApiTable::new(&service.api_versions(), |_| None);
        let metrics = Metrics::new(&Registry::new(), &apis);
        let connections = Connections::new(clock.clone());
        let shutdown = Shutdown::new();
        let context = Context::new(limits, budget, clock, shutdown, metrics, apis, connections);
        Self { context: Arc::new(context), service }
    }

    /// Serves `io` as an accepted connection, to its end; says why it ended, as the metric
    /// `tidegate_server_connections_closed_total` does. Needs a runtime with time. A connection
    /// beyond the limits is `refused`.
    pub async fn serve<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> &'static str {
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        let limits = &self.context.limits;
        let (max, per_ip) = (limits.max_connections, limits.max_connections_per_ip);
        let Ok(admission) = self.context.connections.admit(peer.ip(), max, per_ip) else {
            return "refused";
        };
        let session = Session::new(admission.id, peer, Arc::from("pipe"));
        let connection = Connection::new(
            io,
            Arc::clone(&self.context),
            Arc::clone(&self.service),
            Arc::new(session),
            Arc::clone(&admission.entry),
        );
        connection.run().await.label()
    }
}
