//! A cluster as its clients see it: some servers to begin with, the nodes that they tell of, and
//! one connection to each node that is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Message, Request, StrBytes};
use tokio::sync::Mutex as AsyncMutex;

use super::{Client, ClientError, ConnectError, Connector};
use crate::clock::Clock;
use crate::config::Endpoint;
use crate::protocol::error::ErrorCode;
use crate::protocol::guard::shape;
use crate::protocol::versions::VersionRange;

/// More nodes than this are not remembered.
const NODES_MAX: usize = 10_000;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// A name or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl From<&Endpoint> for Server {
    fn from(endpoint: &Endpoint) -> Server {
        Server { host: endpoint.host.to_string(), port: endpoint.port }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Whoever answers.
    Any,
    /// The node that changes topics and configs.
    Controller,
    /// The node that coordinates the group of this name.
    Coordinator(&'a str),
    /// One node.
    Node(i32),
}

/// A node, as the cluster's metadata have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is reached.
    pub server: Server,
    /// Its rack.
    pub rack: Option<String>,
}

/// Why a cluster gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// No server could be asked.
    #[error("no server answers; tried {}", .tried.join("; "))]
    NoServer {
        /// What was tried, and what is wrong with each.
        tried: Vec<String>,
    },
    /// There is no connection to a node.
    #[error("{0}")]
    Connect(ConnectError),
    /// A server gave no answer.
    #[error("{server}: {fault}")]
    Call {
        /// Its address.
        server: String,
        /// What is wrong.
        fault: ClientError,
    },
    /// A server does not speak a version of an API that we speak.
    #[error(
        "{server} speaks {api} in versions {theirs} and this command needs one of {ours}; it takes \
         another release of either"
    )]
    Version {
        /// The API.
        api: &'static str,
        /// The server's address.
        server: String,
        /// What the server speaks; empty if nothing.
        theirs: VersionRange,
        /// What we speak.
        ours: VersionRange,
    },
    /// The cluster's metadata do not have the node, or it has no usable address.
    #[error("node {0} has no address in the cluster's metadata; is it running?")]
    UnknownNode(i32),
    /// A server refused.
    #[error("{what}: {}", words(*.code))]
    Refused {
        /// What was asked.
        what: String,
        /// Kafka's error code.
        code: i16,
    },
}

impl ClusterError {
    /// Whether the same may work a moment later: the cluster moves a leader, a node restarts.
    pub fn is_passing(&self) -> bool {
        match self {
            ClusterError::NoServer { .. }
            | ClusterError::Connect(_)
            | ClusterError::UnknownNode(_) => true,
            ClusterError::Call { fault, .. } => is_broken_connection(fault),
            ClusterError::Version { .. } => false,
            ClusterError::Refused { code, .. } => is_retriable(*code),
        }
    }

    /// Kafka's error, where a server answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClusterError::Refused { code, .. } => ErrorCode::from_code(*code),
            _ => None,
        }
    }
}

fn is_broken_connection(fault: &ClientError) -> bool {
    matches!(
        fault,
        ClientError::Closed { .. }
            | ClientError::Truncated { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Failed(_)
            | ClientError::Broken
    )
}

/// Whether clients try again on this code.
fn is_retriable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// An error code as people read it.
fn words(code: i16) -> String {
    match ErrorCode::from_code(code) {
        Some(known) => known.name().to_owned(),
        None => format!("error code {code}"),
    }
}

/// A connection over which the server said what it speaks.
struct Connection {
    client: Client,
    versions: BTreeMap<i16, VersionRange>,
}

/// One connection, for one request at a time.
type Slot = Arc<AsyncMutex<Option<Connection>>>;

/// What is known of the nodes.
#[derive(Default)]
struct Known {
    nodes: BTreeMap<i32, Node>,
    controller: Option<i32>,
}

/// How servers are reached, and what they told of each other.
struct Inner {
    connector: Connector,
    bootstrap: Vec<Server>,
    client_id: String,
    clock: Clock,
    known: Mutex<Known>,
}

/// A connection to each server that was asked.
type Slots = BTreeMap<Server, Slot>;

/// A cluster; cheap to clone, and all clones share the connections. Each takes one request at a
/// time: who must not wait behind another has connections of its own ([`Cluster::separate`]).
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
    slots: Arc<Mutex<Slots>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.inner.bootstrap).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster that is reached by any of `bootstrap`. Nothing is connected yet.
    pub fn new(
        connector: Connector,
        bootstrap: Vec<Server>,
        client_id: &str,
        clock: Clock,
    ) -> Cluster {
        let client_id = client_id.to_owned();
        let known = Mutex::default();
        let inner = Arc::new(Inner { connector, bootstrap, client_id, clock, known });
        Cluster { inner, slots: Arc::default() }
    }

    /// The same cluster over other connections, none of which is open yet. What one of both learns
    /// of the nodes the other knows.
    pub fn separate(&self) -> Cluster {
        Cluster { inner: Arc::clone(&self.inner), slots: Arc::default() }
    }

    /// Time, as the cluster's connections have it.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Asks `build`'s request in the highest version that `versions`, the codec and the server have
    /// in common; `build` is told it.
    pub async fn ask<R: Request>(
        &self,
        target: Target<'_>,
        versions: VersionRange,
        build: impl Fn(i16) -> R,
    ) -> Result<R::Response, ClusterError> {
        match self.server(target).await? {
            None => self.ask_any(versions, &build).await,
            Some(server) => Box::pin(self.ask_server(&server, versions, &build)).await,
        }
    }

    /// Sends a request of the version that `ask` would take, and waits for no answer: for those
    /// that servers do not answer (Produce with acks=0).
    pub async fn tell<R: Request>(
        &self,
        target: Target<'_>,
        versions: VersionRange,
        build: impl Fn(i16) -> R,
    ) -> Result<(), ClusterError> {
        let Some(server) = self.server(target).await? else {
            return Err(ClusterError::NoServer { tried: Vec::new() });
        };
        let slot = self.slot(&server);
        let mut held = slot.lock().await;
        let mut connection = Box::pin(self.connection(&mut held, &server)).await?;
        let version = connection.version::<R>(&server, versions)?;
        let told = Box::pin(connection.client.tell(version, &build(version))).await;
        told.map_err(|fault| ClusterError::Call { server: server.to_string(), fault })?;
        *held = Some(connection);
        Ok(())
    }

    /// Where the target is; any server if it does not matter.
    async fn server(&self, target: Target<'_>) -> Result<Option<Server>, ClusterError> {
        let node = match target {
            Target::Any => return Ok(None),
            Target::Node(id) => id,
            Target::Controller => Box::pin(self.controller()).await?,
            Target::Coordinator(group) => Box::pin(self.coordinator(group)).await?,
        };
        self.server_of(node).map(Some)
    }

    fn server_of(&self, node: i32) -> Result<Server, ClusterError> {
        let known = self.known();
        let found = known.nodes.get(&node).map(|node| node.server.clone());
        found.ok_or(ClusterError::UnknownNode(node))
    }

    /// Asks the nodes that are known, those with a connection first, and then the bootstrap
    /// servers, until one answers.
    async fn ask_any<R: Request>(
        &self,
        versions: VersionRange,
        build: &impl Fn(i16) -> R,
    ) -> Result<R::Response, ClusterError> {
        let mut tried = Vec::new();
        for server in self.candidates() {
            match Box::pin(self.ask_server(&server, versions, build)).await {
                Err(error) if error.is_passing() => tried.push(error.to_string()),
                answered => return answered,
            }
        }
        Err(ClusterError::NoServer { tried })
    }

    fn candidates(&self) -> Vec<Server> {
        let mut all: Vec<Server> = lock(&self.slots).keys().cloned().collect();
        all.extend(self.inner.bootstrap.iter().cloned());
        all.extend(self.known().nodes.values().map(|node| node.server.clone()));
        let mut seen = BTreeSet::new();
        all.retain(|server| seen.insert(server.clone()));
        all
    }

    async fn ask_server<R: Request>(
        &self,
        server: &Server,
        versions: VersionRange,
        build: &impl Fn(i16) -> R,
    ) -> Result<R::Response, ClusterError> {
        let slot = self.slot(server);
        let mut held = slot.lock().await;
        let mut connection = self.connection(&mut held, server).await?;
        let version = connection.version::<R>(server, versions)?;
        let answered = Box::pin(connection.client.call(version, &build(version))).await;
        let answer =
            answered.map_err(|fault| ClusterError::Call { server: server.to_string(), fault })?;
        *held = Some(connection);
        Ok(answer)
    }

    /// The connection to a server, taken out of its place: who does not put it back has used it up.
    async fn connection(
        &self,
        held: &mut Option<Connection>,
        server: &Server,
    ) -> Result<Connection, ClusterError> {
        if let Some(connection) = held.take() {
            return Ok(connection);
        }
        let Inner { connector, client_id, clock, .. } = &*self.inner;
        let stream = Box::pin(connector.connect(&server.host, server.port)).await;
        let stream = stream.map_err(ClusterError::Connect)?;
        let mut client = Client::new(stream, client_id, clock.clone());
        let spoken = Box::pin(client.api_versions()).await;
        let spoken =
            spoken.map_err(|fault| ClusterError::Call { server: server.to_string(), fault })?;
        let rows = spoken.api_keys.iter();
        let range = |min, max| VersionRange::new(min, max);
        let versions = rows.map(|row| (row.api_key, range(row.min_version, row.max_version)));
        Ok(Connection { client, versions: versions.collect() })
    }

    /// Metadata of `topics`, all of them without any; remembers where the nodes are. A topic that
    /// is not there is created if `create` and the cluster wants that.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<MetadataResponse, ClusterError> {
        let build = |version: i16| {
            let name = |topic: &&str| TopicName(StrBytes::from_string((*topic).to_owned()));
            let topic = |topic| MetadataRequestTopic::default().with_name(Some(name(topic)));
            MetadataRequest::default()
                .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
                .with_allow_auto_topic_creation(create || version < 4)
        };
        let response = self.ask_any(VersionRange::new(1, 13), &build).await?;
        self.remember(&response);
        Ok(response)
    }

    fn remember(&self, response: &MetadataResponse) {
        let mut known = self.known();
        known.nodes.clear();
        for broker in response.brokers.iter().take(NODES_MAX) {
            // A port that is none: the node is unknown as long as that is so.
            let Ok(port) = u16::try_from(broker.port) else { continue };
            let server = Server { host: broker.host.to_string(), port };
            let rack = broker.rack.as_ref().map(ToString::to_string);
            known.nodes.insert(broker.node_id.0, Node { server, rack });
        }
        let controller = response.controller_id.0;
        known.controller = (controller >= 0).then_some(controller);
        let there: BTreeSet<Server> =
            known.nodes.values().map(|node| node.server.clone()).collect();
        drop(known);
        self.forget_all_but(&there);
    }

    /// Closes the connections to servers that are neither among these nor where one begins.
    fn forget_all_but(&self, there: &BTreeSet<Server>) {
        let bootstrap = &self.inner.bootstrap;
        lock(&self.slots).retain(|server, _| there.contains(server) || bootstrap.contains(server));
    }

    /// The nodes that the last metadata told of.
    pub fn nodes(&self) -> BTreeMap<i32, Node> {
        self.known().nodes.clone()
    }

    /// The node that changes topics and configs.
    pub async fn controller(&self) -> Result<i32, ClusterError> {
        self.metadata(Some(&[]), false).await?;
        let controller = self.known().controller;
        let what = || "where the controller is".to_owned();
        let code = ErrorCode::LeaderNotAvailable.code();
        controller.ok_or_else(|| ClusterError::Refused { what: what(), code })
    }

    /// The node that coordinates a group.
    pub async fn coordinator(&self, group: &str) -> Result<i32, ClusterError> {
        // Where nodes are is part of the metadata.
        self.metadata(Some(&[]), false).await?;
        let key = StrBytes::from_string(group.to_owned());
        // One key up to version 3, several from 4 on (KIP-699).
        let build = |version: i16| match version {
            ..4 => FindCoordinatorRequest::default().with_key(key.clone()),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone()]),
        };
        let response = self.ask_any(VersionRange::new(0, 6), &build).await?;
        let (code, node) = match response.coordinators.first() {
            Some(found) => (found.error_code, found.node_id.0),
            None => (response.error_code, response.node_id.0),
        };
        if code != 0 {
            let what = format!("where the coordinator of group {group} is");
            return Err(ClusterError::Refused { what, code });
        }
        Ok(node)
    }

    fn slot(&self, server: &Server) -> Slot {
        if let Some(slot) = lock(&self.slots).get(server) {
            return Arc::clone(slot);
        }
        // Another set of connections may have learnt that nodes are gone.
        let mut there: BTreeSet<Server> =
            self.known().nodes.values().map(|node| node.server.clone()).collect();
        there.insert(server.clone());
        self.forget_all_but(&there);
        Arc::clone(lock(&self.slots).entry(server.clone()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.inner.known)
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// The highest version of `R` that everybody has.
    fn version<R: Request>(
        &self,
        server: &Server,
        wanted: VersionRange,
    ) -> Result<i16, ClusterError> {
        let range =
            |range: kafka_protocol::protocol::VersionRange| VersionRange::new(range.min, range.max);
        // What has no answer has no shape of it.
        let shape = shape::response(R::KEY).map_or(wanted, |shape| shape.versions);
        let request = range(<R as Message>::VERSIONS);
        let response = range(<R::Response as Message>::VERSIONS);
        let ours = wanted.intersect(shape).intersect(request).intersect(response);
        let theirs = self.versions.get(&R::KEY).copied().unwrap_or(VersionRange::EMPTY);
        let both = ours.intersect(theirs);
        if both.is_empty() {
            let api = shape::kafka_api(R::KEY).map_or("an unknown API", |api| api.name);
            return Err(ClusterError::Version { api, server: server.to_string(), theirs, ours });
        }
        Ok(both.max)
    }
}
