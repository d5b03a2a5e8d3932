//! A member of a classic group.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::memory;
use super::record::{MemberValue, own};
use super::reply::Waiter;
use super::types::{
    DescribedMember, JoinMember, JoinRequest, JoinResponse, Name, Protocol, SyncResponse,
};
use crate::clock::Instant;

/// What a member weighs beside its names and bytes: its place in the map of members, of which half
/// may be empty, and in the indexes by deadline and instance id and among those yet to sync.
const FIXED: usize = 2 * size_of::<Member>() + 256;

/// What a protocol weighs beside its name and metadata: its place in the member's list and in the
/// group's count of who supports it.
const PROTOCOL: usize = 2 * size_of::<Protocol>() + 64;

/// A member's protocols in its order of preference, each name once, in memory of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Protocols {
    list: Vec<Protocol>,
    bytes: usize,
}

impl Protocols {
    fn new(list: Vec<Protocol>) -> Self {
        let bytes = Self::weight(&list);
        Self { list, bytes }
    }

    /// A join's protocols, each name once as in Kafka's collection.
    pub(super) fn of(request: &JoinRequest) -> Self {
        let mut seen = HashSet::new();
        let first = request.protocols.iter().filter(|protocol| seen.insert(&protocol.name));
        let own = |it: &Protocol| Protocol { name: it.name.clone(), metadata: own(&it.metadata) };
        Self::new(first.map(own).collect())
    }

    /// What the protocols weigh.
    pub(super) fn weight(list: &[Protocol]) -> usize {
        let weight =
            |it: &Protocol| PROTOCOL + memory::name(&it.name) + memory::bytes(&it.metadata);
        list.iter().map(weight).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Protocol> {
        self.list.iter()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A member, written only by its group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Name,
    /// `Some` makes the member static (KIP-345): it may come back under a new id.
    pub(super) instance_id: Option<Name>,
    pub(super) client_id: Name,
    pub(super) client_host: Name,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Protocols,
    /// Empty until the leader has assigned.
    pub(super) assignment: Bytes,
    /// Has not been through a completed rebalance yet. Such a member cannot send heartbeats, so
    /// its session runs even while it is parked.
    pub(super) is_new: bool,
    /// The client cannot know this id before its join is answered, so that an abandoned join means
    /// that nobody will ever use it.
    pub(super) is_anonymous: bool,
    /// When the member is removed unless it shows life; `None` while nothing is expected of it.
    pub(super) deadline: Option<Instant>,
    /// The parked `JoinGroup`.
    pub(super) joining: Option<Waiter<JoinResponse>>,
    /// The parked `SyncGroup`.
    pub(super) syncing: Option<Waiter<SyncResponse>>,
}

impl Member {
    /// A member that joins for the first time.
    pub(super) fn joining(id: Name, request: &JoinRequest, waiter: Waiter<JoinResponse>) -> Self {
        Self {
            id,
            instance_id: request.instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout: millis(request.session_timeout_ms),
            rebalance_timeout: millis(request.rebalance_timeout_ms),
            protocols: Protocols::of(request),
            assignment: Bytes::new(),
            is_new: true,
            is_anonymous: request.member_id.is_empty(),
            deadline: None,
            joining: Some(waiter),
            syncing: None,
        }
    }

    /// A member of a stable generation read from the log.
    pub(super) fn loaded(value: MemberValue, protocol: Name, now: Instant) -> Self {
        let session_timeout = millis(value.session_timeout_ms);
        let rebalance_timeout = match value.rebalance_timeout_ms {
            -1 => session_timeout,
            timeout => millis(timeout),
        };
        Self {
            id: value.member_id,
            instance_id: value.instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            session_timeout,
            rebalance_timeout,
            protocols: Protocols::new(vec![Protocol {
                name: protocol,
                metadata: value.subscription,
            }]),
            assignment: value.assignment,
            is_new: false,
            is_anonymous: false,
            deadline: Some(now + session_timeout),
            joining: None,
            syncing: None,
        }
    }

    /// What the member weighs.
    pub(super) fn weight(&self) -> usize {
        let names = memory::name(&self.id)
            + memory::optional(self.instance_id.as_deref())
            + memory::name(&self.client_id)
            + memory::name(&self.client_host);
        FIXED + names + self.protocols.bytes() + memory::bytes(&self.assignment)
    }

    /// What a member that joins would weigh at most, with an id of `id_length` bytes.
    pub(super) fn weight_of(request: &JoinRequest, id_length: usize) -> usize {
        let names = memory::name("")
            + id_length
            + memory::optional(request.instance_id.as_deref())
            + memory::name(&request.client_id)
            + memory::name(&request.client_host);
        FIXED + names + Protocols::weight(&request.protocols)
    }

    /// Gives the member a full session from `now` on.
    pub(super) fn touch(&mut self, now: Instant) {
        self.deadline = Some(now + self.session_timeout);
    }

    /// The metadata for a protocol; empty if the member does not support it.
    pub(super) fn metadata(&self, protocol: Option<&Name>) -> Bytes {
        let protocol = self.protocols.iter().find(|own| Some(&own.name) == protocol);
        protocol.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// Whether a join brings the same protocols and metadata in the same order.
    pub(super) fn matches(&self, request: &JoinRequest) -> bool {
        self.protocols == Protocols::of(request)
    }

    /// What the leader sees.
    pub(super) fn for_leader(&self, protocol: Option<&Name>) -> JoinMember {
        JoinMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// What `DescribeGroups` shows; `protocol` is the stable group's.
    pub(super) fn describe(&self, protocol: Option<&Name>) -> DescribedMember {
        DescribedMember {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// The member in the group's record.
    pub(super) fn record(&self, protocol: Option<&Name>, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: to_ms(self.rebalance_timeout),
            session_timeout_ms: to_ms(self.session_timeout),
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}

/// A timeout from the wire; a negative one is none at all.
pub(super) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

fn to_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
