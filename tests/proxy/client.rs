//! A client that goes where it is told, and looks for what it must not be told.

use std::collections::HashMap;
use std::fmt::Debug;

use kafka_protocol::messages::{FindCoordinatorRequest, MetadataResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};

use crate::harness::{Wire, topology, until};

/// Where every test stands when it is on this machine's own address.
const HERE: &str = "127.0.0.1";

/// What no client of a proxy may see.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    hosts: Vec<String>,
    ports: Vec<String>,
}

impl Leaks {
    /// The upstream's addresses. A host that is also the proxy's is told by its port alone.
    pub fn of(addresses: impl IntoIterator<Item = String>) -> Self {
        let mut leaks = Self::default();
        for address in addresses {
            let (host, port) = address.rsplit_once(':').unwrap();
            leaks.ports.push(port.to_owned());
            if host != HERE {
                leaks.hosts.push(host.to_owned());
            }
        }
        leaks
    }

    /// Fails if a frame, in its known fields or anywhere else, holds an upstream's host.
    pub fn check_frame(&self, frame: &[u8]) {
        for host in &self.hosts {
            let found = frame.windows(host.len()).any(|bytes| bytes == host.as_bytes());
            assert!(!found, "the upstream's {host} is in {frame:02x?}");
        }
    }

    /// Fails if a field of a message that is a port, or an address in a text, has an upstream's. Other
    /// numbers, such as offsets, may be the same; all these ports have five digits.
    pub fn check_message(&self, message: &impl Debug) {
        let text = format!("{message:?}");
        let is_in = |port: &&String| {
            text.contains(&format!("port: {port}")) || text.contains(&format!(":{port}"))
        };
        let found = self.ports.iter().find(is_in);
        assert_eq!(found, None, "a port of the upstream is in {text}");
    }
}

/// Connections to where the bootstrap address leads.
pub struct Client {
    bootstrap: String,
    wires: HashMap<String, Wire>,
    leaks: Leaks,
}

impl Client {
    /// A client of what is at `bootstrap`.
    pub fn new(bootstrap: impl Into<String>, leaks: &Leaks) -> Self {
        Self { bootstrap: bootstrap.into(), wires: HashMap::new(), leaks: leaks.clone() }
    }

    /// Asks at the bootstrap address.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Debug,
    {
        let bootstrap = self.bootstrap.clone();
        self.ask_at(&bootstrap, version, request)
    }

    /// Asks at an address that it was told.
    pub fn ask_at<R: Request>(&mut self, address: &str, version: i16, request: &R) -> R::Response
    where
        R::Response: Debug,
    {
        self.try_ask_at(address, version, request)
            .unwrap_or_else(|| panic!("{address} closed on version {version} of API {}", R::KEY))
    }

    /// [`Client::ask_at`] of a node that may be gone: `None` when it closed the connection.
    pub fn try_ask_at<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
    ) -> Option<R::Response>
    where
        R::Response: Debug,
    {
        let frame = self.frame_at(address, version, request);
        if frame.is_none() {
            self.wires.remove(address);
        }
        let mut frame = frame?;
        self.leaks.check_frame(&frame);
        ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes after {response:?}", frame.len());
        self.leaks.check_message(&response);
        Some(response)
    }

    fn frame_at<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
    ) -> Option<bytes::Bytes> {
        if !self.wires.contains_key(address) {
            self.wires.insert(address.to_owned(), Wire::try_connect(address)?);
        }
        let wire = self.wires.get_mut(address).unwrap();
        wire.try_send(version, request).ok()?;
        wire.receive_frame()
    }

    /// The connection to an address that was told.
    pub fn wire(&mut self, address: &str) -> &mut Wire {
        self.wires.entry(address.to_owned()).or_insert_with(|| Wire::connect(address))
    }

    /// The addresses of all nodes, by their ids.
    pub fn nodes(&mut self) -> HashMap<i32, String> {
        addresses(&self.ask(12, &topology::metadata_request(Some(&[]))))
    }

    /// The node that leads a partition, and its address.
    pub fn leader(&mut self, topic: &str, partition: i32) -> (i32, String) {
        until(&format!("a leader of {topic}-{partition}"), || {
            let found = self.ask(12, &topology::metadata_request(Some(&[topic])));
            led_by(&found, partition)
        })
    }

    /// The address of the node that leads a partition; `None` while nobody says.
    pub fn try_leader(&mut self, topic: &str, partition: i32) -> Option<String> {
        let bootstrap = self.bootstrap.clone();
        let request = topology::metadata_request(Some(&[topic]));
        let found = self.try_ask_at(&bootstrap, 12, &request)?;
        Some(led_by(&found, partition)?.1)
    }

    /// The address of a coordinator: of groups (0) or transactions (1).
    pub fn coordinator(&mut self, key: &str, key_type: i8) -> String {
        let key = StrBytes::from_string(key.to_owned());
        let request = FindCoordinatorRequest::default().with_key_type(key_type).with_key(key);
        until("a coordinator", || {
            let answer = self.ask(3, &request);
            assert!(matches!(answer.error_code, 0 | 14 | 15), "{answer:?}");
            (answer.error_code == 0).then(|| format!("{}:{}", answer.host, answer.port))
        })
    }

    /// Asks until the answer is not one that the coordinator only gives for a while.
    pub fn until_ready<R: Request>(
        &mut self,
        address: &str,
        version: i16,
        request: &R,
        error_code: impl Fn(&R::Response) -> i16,
    ) -> R::Response
    where
        R::Response: Debug,
    {
        until("the coordinator is ready", || {
            let answer = self.ask_at(address, version, request);
            (!RETRIABLE.contains(&error_code(&answer))).then_some(answer)
        })
    }
}

fn addresses(metadata: &MetadataResponse) -> HashMap<i32, String> {
    let nodes = metadata.brokers.iter();
    nodes.map(|node| (node.node_id.0, format!("{}:{}", node.host, node.port))).collect()
}

/// Id and address of the leader of a partition of the only topic.
fn led_by(metadata: &MetadataResponse, partition: i32) -> Option<(i32, String)> {
    let mut partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
    let leader = partitions.find(|found| found.partition_index == partition)?.leader_id.0;
    Some((leader, addresses(metadata).remove(&leader)?))
}

/// `COORDINATOR_LOAD_IN_PROGRESS`, `COORDINATOR_NOT_AVAILABLE`, `NOT_COORDINATOR`,
/// `CONCURRENT_TRANSACTIONS`.
const RETRIABLE: [i16; 4] = [14, 15, 16, 51];
