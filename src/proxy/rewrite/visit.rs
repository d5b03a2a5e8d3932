//! What a walk over a response finds of nodes, and what must change for it.

use std::ops::Range;

use super::edits::Edits;
use super::{Address, Routes, UpstreamNode};
use crate::protocol::error::ErrorCode;
use crate::protocol::guard::Visitor;
use crate::protocol::guard::shape::Field;
use crate::protocol::varint;

/// Kafka's id for no node.
pub(super) const NO_NODE: i32 = -1;

/// `DescribeQuorum`, whose nodes are controllers.
const DESCRIBE_QUORUM: i16 = 55;

/// The `EndpointType` of brokers in `DescribeCluster` (KIP-919); controllers have another.
const BROKER_ENDPOINTS: &[u8] = &[1];

/// The address of a node; nothing for a number that is none.
fn address(routes: &impl Routes, node: i32) -> Option<Address> {
    if node < 0 { None } else { routes.route(node) }
}

/// Whether a number must become -1: it is a node without a route, or no node at all.
pub(super) fn leads_nowhere(routes: &impl Routes, node: i32) -> bool {
    node != NO_NODE && address(routes, node).is_none()
}

/// Takes notes during a walk.
pub(super) struct Visit<'a, R> {
    routes: &'a R,
    flexible: bool,
    /// Whether the nodes are brokers.
    brokers: bool,
    edits: Edits,
    nodes: Vec<UpstreamNode>,
    structures: Vec<Structure>,
    arrays: Vec<Array>,
    tags: Vec<Tag>,
    sections: Vec<Section>,
}

/// The fields of a structure that matter.
#[derive(Debug, Default)]
struct Structure {
    /// The node that it, or what it is part of, is about.
    node: Option<i32>,
    /// Where its own node id is.
    id: Option<Range<usize>>,
    host: Option<(Range<usize>, String)>,
    port: Option<(Range<usize>, i32)>,
    error: Option<(Range<usize>, i32)>,
    leader: Option<(Range<usize>, i32)>,
    leader_epoch: Option<Range<usize>>,
    /// How many fields were seen that are no arrays and no structures.
    fields: usize,
    edits_before: usize,
}

/// An array, its length, and how many of its elements are taken away.
#[derive(Debug)]
struct Array {
    length: Range<usize>,
    count: usize,
    removed: usize,
    /// How many structures were open when it began: the element is one more.
    depth: usize,
}

/// A tagged field and its size.
#[derive(Debug)]
struct Tag {
    at: Range<usize>,
    size: usize,
    edits_before: usize,
}

/// A tag section, where the number of its tags is, and how many of them are taken away.
#[derive(Debug)]
struct Section {
    count_at: Range<usize>,
    count: usize,
    removed: usize,
}

impl<'a, R: Routes> Visit<'a, R> {
    /// Nothing is noted yet of the response to `key`.
    pub(super) fn new(key: i16, routes: &'a R, flexible: bool) -> Self {
        Self {
            routes,
            flexible,
            brokers: key != DESCRIBE_QUORUM,
            edits: Edits::default(),
            nodes: Vec::new(),
            structures: Vec::new(),
            arrays: Vec::new(),
            tags: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// What was noted.
    pub(super) fn finish(self) -> (Edits, Vec<UpstreamNode>) {
        (self.edits, self.nodes)
    }

    /// Lists a broker that can be connected to.
    fn list(&mut self, id: i32, host: &str, port: i32) {
        let is_there = id >= 0 && !host.is_empty() && (1..=i32::from(u16::MAX)).contains(&port);
        if self.brokers && is_there {
            self.nodes.push(UpstreamNode { id, host: host.to_owned(), port });
        }
    }

    /// A structure that says where a node is.
    fn endpoint(&mut self, of: &Structure, at: Range<usize>) {
        let (Some((host_at, host)), Some((port_at, port))) = (&of.host, &of.port) else { return };
        let id = of.node.unwrap_or(NO_NODE);
        self.list(id, host, *port);
        if let Some(address) = address(self.routes, id) {
            let host = self.string(&address.host);
            self.edits.replace(host_at.clone(), host);
            self.edits.replace(port_at.clone(), number(i32::from(address.port), port_at));
            return;
        }
        let is_element =
            self.arrays.last().is_some_and(|array| array.depth == self.structures.len());
        if of.error.is_none() && is_element {
            self.edits.truncate(of.edits_before);
            self.edits.remove(at);
            if let Some(array) = self.arrays.last_mut() {
                array.removed += 1;
            }
            return;
        }
        if id == NO_NODE && host.is_empty() {
            return;
        }
        let nobody = self.string("");
        self.edits.replace(host_at.clone(), nobody);
        self.edits.replace(port_at.clone(), number(NO_NODE, port_at));
        if let Some(id_at) = &of.id {
            self.edits.replace(id_at.clone(), number(NO_NODE, id_at));
        }
        if let Some((error_at, 0)) = &of.error {
            let code = ErrorCode::CoordinatorNotAvailable as i16;
            self.edits.replace(error_at.clone(), code.to_be_bytes().to_vec());
        }
    }

    /// A structure that says which node leads a partition, and nothing else (KIP-951).
    fn hint(&mut self, of: &Structure) {
        let (Some((leader_at, leader)), Some(epoch_at)) = (&of.leader, &of.leader_epoch) else {
            return;
        };
        if of.fields == 2 && leads_nowhere(self.routes, *leader) {
            self.edits.replace(leader_at.clone(), number(NO_NODE, leader_at));
            self.edits.replace(epoch_at.clone(), number(NO_NODE, epoch_at));
        }
    }

    fn string(&self, text: &str) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(text.len() + 3);
        if self.flexible {
            varint::put_u32(&mut encoded, text.len() as u32 + 1);
        } else {
            encoded.extend_from_slice(&(text.len() as i16).to_be_bytes());
        }
        encoded.extend_from_slice(text.as_bytes());
        encoded
    }

    /// The text of an encoded string that is not null; the walk has checked it.
    fn text(&self, encoded: &[u8]) -> String {
        let length_bytes = if self.flexible {
            encoded.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1)
        } else {
            2
        };
        let text = encoded.get(length_bytes..).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

impl<R: Routes> Visitor for Visit<'_, R> {
    fn structure_begins(&mut self) {
        let node = self.structures.last().and_then(|outer| outer.node);
        let edits_before = self.edits.len();
        self.structures.push(Structure { node, edits_before, ..Structure::default() });
    }

    fn value(&mut self, field: &'static Field, at: Range<usize>, value: &[u8]) {
        if field.name == "PreferredReadReplica" {
            let preferred = integer(value);
            if leads_nowhere(self.routes, preferred) {
                self.edits.replace(at.clone(), number(NO_NODE, &at));
            }
            return;
        }
        if field.name == "EndpointType" {
            self.brokers = value == BROKER_ENDPOINTS;
        }
        let text = (field.name == "Host").then(|| self.text(value));
        let Some(structure) = self.structures.last_mut() else { return };
        structure.fields += 1;
        match field.name {
            "NodeId" | "BrokerId" => {
                structure.node = Some(integer(value));
                structure.id = Some(at);
            }
            "Host" => structure.host = text.map(|text| (at, text)),
            "Port" => structure.port = Some((at, integer(value))),
            "ErrorCode" => structure.error = Some((at, integer(value))),
            "LeaderId" => structure.leader = Some((at, integer(value))),
            "LeaderEpoch" => structure.leader_epoch = Some(at),
            _ => {}
        }
    }

    fn structure_ends(&mut self, at: Range<usize>) {
        let Some(structure) = self.structures.pop() else { return };
        self.endpoint(&structure, at);
        self.hint(&structure);
    }

    fn array_begins(&mut self, at: Range<usize>, count: usize) {
        let depth = self.structures.len();
        self.arrays.push(Array { length: at, count, removed: 0, depth });
    }

    fn array_ends(&mut self) {
        let Some(array) = self.arrays.pop() else { return };
        if array.removed == 0 {
            return;
        }
        let left = array.count - array.removed;
        let length =
            if self.flexible { varint_of(left + 1) } else { (left as u32).to_be_bytes().to_vec() };
        self.edits.replace(array.length, length);
    }

    fn tags_begin(&mut self, at: Range<usize>, count: usize) {
        self.sections.push(Section { count_at: at, count, removed: 0 });
    }

    fn unknown_tag(&mut self, at: Range<usize>) {
        // Nobody knows what it says.
        self.edits.remove(at);
        if let Some(section) = self.sections.last_mut() {
            section.removed += 1;
        }
    }

    fn tags_end(&mut self) {
        let Some(Section { count_at, count, removed }) = self.sections.pop() else { return };
        if removed > 0 {
            self.edits.replace(count_at, varint_of(count - removed));
        }
    }

    fn tag_begins(&mut self, at: Range<usize>, size: usize) {
        self.tags.push(Tag { at, size, edits_before: self.edits.len() });
    }

    fn tag_ends(&mut self) {
        let Some(Tag { at, size, edits_before }) = self.tags.pop() else { return };
        let growth = self.edits.growth_since(edits_before);
        if growth == 0 {
            return;
        }
        self.edits.replace(at, varint_of(size.saturating_add_signed(growth)));
    }
}

/// A number of two bytes without a sign, as a controller's port is, or of four.
fn integer(value: &[u8]) -> i32 {
    match value {
        [a, b] => i32::from(u16::from_be_bytes([*a, *b])),
        [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
        _ => NO_NODE,
    }
}

/// A number in as many bytes as it has at `at`; in two bytes there is none below 0.
fn number(value: i32, at: &Range<usize>) -> Vec<u8> {
    match at.len() {
        2 => u16::try_from(value).unwrap_or(0).to_be_bytes().to_vec(),
        _ => value.to_be_bytes().to_vec(),
    }
}

fn varint_of(value: usize) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(varint::MAX_U32_BYTES);
    varint::put_u32(&mut encoded, value as u32);
    encoded
}
