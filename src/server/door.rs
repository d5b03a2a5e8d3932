//! The door as the assembly sees it: bound, then run until it is drained.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::apis::ApiTable;
use super::connections::Connections;
use super::context::{Context, Limits};
use super::listener::{Listener, ListenerOptions};
use super::metrics::Metrics;
use super::service::Service;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::metrics::Registry;
use crate::shutdown::Shutdown;
use crate::task;

/// How a door is to be made.
#[derive(Debug)]
pub struct DoorOptions {
    /// Where to listen.
    pub listeners: Vec<ListenerOptions>,
    /// The limits.
    pub limits: Limits,
    /// The registry of connections, made before the door so that others can hold it too.
    pub connections: Arc<Connections>,
    /// The name of an API key, as a metric label.
    pub api_name: fn(i16) -> Option<&'static str>,
}

/// A front door that listens.
pub struct Door<S> {
    context: Arc<Context>,
    service: Arc<S>,
    listeners: Vec<Listener>,
}

impl<S> fmt::Debug for Door<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl<S: Service> Door<S> {
    /// Binds all listeners. Connections are queued by the kernel until [`Door::run`].
    ///
    /// The service's APIs and versions are asked for here, once; its features with every
    /// `ApiVersions` request. Must be called within a runtime. An error names the listener and the
    /// address that could not be bound.
    pub fn bind(
        options: DoorOptions,
        service: Arc<S>,
        budget: &Budget,
        clock: Clock,
        metrics: &Registry,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let listeners = options.listeners.iter().map(Listener::bind).collect::<Result<_, _>>()?;
        let apis = ApiTable::new(&service.api_versions(), options.api_name);
        let metrics = Metrics::new(metrics, &apis);
        let context = Context::new(
            options.limits,
            budget,
            clock,
            shutdown,
            metrics,
            apis,
            options.connections,
        );
        Ok(Self { context: Arc::new(context), service, listeners })
    }

    /// The listeners' names and addresses in the order of the options, with the ports that the
    /// system chose.
    pub fn local_addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let named = |listener: &Listener| (Arc::clone(listener.name()), listener.address());
        self.listeners.iter().map(named).collect()
    }

    /// Serves until the shutdown's drain, and returns when the last connection has ended: by itself
    /// once it has its answers, or cut at the shutdown's abort.
    pub async fn run(self) {
        let connections = TaskTracker::new();
        let accepting = self.listeners.into_iter().map(|listener| {
            info!(listener = %listener.name(), address = %listener.address(), "listening");
            let (context, service) = (Arc::clone(&self.context), Arc::clone(&self.service));
            task::spawn("accept", listener.run(context, service, connections.clone()))
        });
        // A panic has been logged with the task's name; the other listeners go on.
        let _ = join_all(accepting).await;
        connections.close();
        connections.wait().await;
    }
}

#[cfg(test)]
mod tests;
