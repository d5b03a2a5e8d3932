//! How long a rebalance of a large classic group takes: from the first `JoinGroup` to the last
//! `SyncGroup` response, when every member knows of it at once. What a member needs to hear of a
//! rebalance is its heartbeat interval, a setting of the client, and not measured.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::peer::{Kind, Peer};
use super::replay::Connection;
use super::wire::{Frame, fault};

/// Members of the group, each with a connection of its own.
pub(crate) const MEMBERS: usize = 50;
/// The bytes that each is assigned, about what two partitions take.
const ASSIGNMENT_BYTES: usize = 64;
/// What each says of itself, about what one subscription takes.
const METADATA_BYTES: usize = 64;
/// The last versions without flexible headers.
const FIND_COORDINATOR_VERSION: i16 = 2;
const JOIN_VERSION: i16 = 5;
const SYNC_VERSION: i16 = 3;
/// `COORDINATOR_NOT_AVAILABLE` and its kin: the coordinator is not ready yet.
const RETRIABLE: [i16; 3] = [14, 15, 16];
const MEMBER_ID_REQUIRED: i16 = 79;
const GROUP: &str = "rebalanced";
/// How long the first rebalance is waited for; it has the broker's initial delay in it.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// A group on one server.
pub(crate) struct Group {
    pub(crate) kind: Kind,
    members: Vec<Member>,
    rounds: u64,
}

struct Member {
    connection: Connection,
    id: StrBytes,
}

impl Group {
    /// The group after its first rebalance.
    pub(crate) fn begin(peer: &mut Peer) -> io::Result<Group> {
        let mut members = Vec::with_capacity(MEMBERS);
        for _ in 0..MEMBERS {
            members.push(Member { connection: peer.connect()?, id: StrBytes::default() });
        }
        let mut group = Group { kind: peer.kind, members, rounds: 0 };
        group.wait_for_coordinator()?;
        for member in &mut group.members {
            let body = member.connection.call(&mut join(&StrBytes::default(), 0)?)?;
            let joined = decode::<JoinGroupResponse>(body, JOIN_VERSION)?;
            if joined.error_code != MEMBER_ID_REQUIRED {
                return Err(fault(format!("JoinGroup without an id: {}", joined.error_code)));
            }
            member.id = joined.member_id;
        }
        group.rebalance()?;
        Ok(group)
    }

    /// One rebalance, and how long it took.
    pub(crate) fn rebalance(&mut self) -> io::Result<Duration> {
        // Other metadata than before: the answer cannot be the present generation.
        self.rounds += 1;
        let mut joins: Vec<Frame> = self
            .members
            .iter()
            .map(|member| join(&member.id, self.rounds))
            .collect::<io::Result<_>>()?;
        let begun = Instant::now();
        for (member, frame) in self.members.iter_mut().zip(&mut joins) {
            member.connection.send(frame)?;
        }
        let mut joined = Vec::with_capacity(MEMBERS);
        for member in &mut self.members {
            let response = decode::<JoinGroupResponse>(member.connection.answer()?, JOIN_VERSION)?;
            succeeded("JoinGroup", response.error_code)?;
            joined.push(response);
        }
        let generation = joined.first().map_or(-1, |first| first.generation_id);
        for (member, joined) in self.members.iter_mut().zip(&joined) {
            if joined.generation_id != generation {
                return Err(fault(format!("generations {generation}, {}", joined.generation_id)));
            }
            member.connection.send(&mut sync(joined)?)?;
        }
        for member in &mut self.members {
            let response = decode::<SyncGroupResponse>(member.connection.answer()?, SYNC_VERSION)?;
            succeeded("SyncGroup", response.error_code)?;
            if response.assignment.len() != ASSIGNMENT_BYTES {
                return Err(fault("a member got no assignment"));
            }
        }
        Ok(begun.elapsed())
    }

    fn wait_for_coordinator(&mut self) -> io::Result<()> {
        let mut request = FindCoordinatorRequest::default();
        request.key = StrBytes::from_static_str(GROUP);
        let mut find = frame(&request, FIND_COORDINATOR_VERSION)?;
        let mut first = join(&StrBytes::default(), 0)?;
        let Some(member) = self.members.first_mut() else { return Ok(()) };
        let since = Instant::now();
        while since.elapsed() < READY_LIMIT {
            let body = member.connection.call(&mut find)?;
            let found = decode::<FindCoordinatorResponse>(body, FIND_COORDINATOR_VERSION)?;
            let mut code = found.error_code;
            if code == 0 {
                let body = member.connection.call(&mut first)?;
                code = decode::<JoinGroupResponse>(body, JOIN_VERSION)?.error_code;
            }
            if code == MEMBER_ID_REQUIRED {
                return Ok(());
            }
            if !RETRIABLE.contains(&code) {
                return Err(fault(format!("{}: no coordinator: error {code}", self.kind.name())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(fault(format!("{}: no coordinator in time", self.kind.name())))
    }
}

fn succeeded(what: &str, code: i16) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(fault(format!("{what}: error {code}"))) }
}

fn decode<M: Decodable>(mut body: &[u8], version: i16) -> io::Result<M> {
    M::decode(&mut Bytes::copy_from_slice(std::mem::take(&mut body)), version)
        .map_err(|error| fault(error.to_string()))
}

fn frame<M: Request + Encodable>(message: &M, version: i16) -> io::Result<Frame> {
    Frame::of(M::KEY, version, |out| {
        message.encode(out, version).map_err(|error| fault(error.to_string()))
    })
}

fn join(member_id: &StrBytes, round: u64) -> io::Result<Frame> {
    let mut metadata = round.to_be_bytes().to_vec();
    metadata.resize(METADATA_BYTES, 0);
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(metadata.into());
    let request = JoinGroupRequest::default()
        .with_group_id(StrBytes::from_static_str(GROUP).into())
        .with_member_id(member_id.clone())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        // Not "consumer": the metadata is no subscription.
        .with_protocol_type(StrBytes::from_static_str("bench"))
        .with_protocols(vec![protocol]);
    frame(&request, JOIN_VERSION)
}

/// What a member sends when it has joined; the leader assigns.
fn sync(joined: &JoinGroupResponse) -> io::Result<Frame> {
    let assignments = joined.members.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(member.member_id.clone())
            .with_assignment(vec![7; ASSIGNMENT_BYTES].into())
    });
    let request = SyncGroupRequest::default()
        .with_group_id(StrBytes::from_static_str(GROUP).into())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect());
    frame(&request, SYNC_VERSION)
}
