//! A member of a classic group.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::record::{MemberValue, own};
use super::reply::Waiter;
use super::types::{
    DescribedMember, JoinMember, JoinRequest, JoinResponse, Name, Protocol, SyncResponse,
};
use crate::clock::Instant;

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
    /// In the member's order of preference, each name once.
    pub(super) protocols: Vec<Protocol>,
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
            protocols: protocols(request),
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
            protocols: vec![Protocol { name: protocol, metadata: value.subscription }],
            assignment: value.assignment,
            is_new: false,
            is_anonymous: false,
            deadline: Some(now + session_timeout),
            joining: None,
            syncing: None,
        }
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
        self.protocols == protocols(request)
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

/// A join's protocols, each name once as in Kafka's collection, in memory of their own.
pub(super) fn protocols(request: &JoinRequest) -> Vec<Protocol> {
    let mut seen = HashSet::new();
    let first = request.protocols.iter().filter(|protocol| seen.insert(protocol.name.clone()));
    first.map(|it| Protocol { name: it.name.clone(), metadata: own(&it.metadata) }).collect()
}

/// A timeout from the wire; a negative one is none at all.
pub(super) fn millis(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

fn to_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
