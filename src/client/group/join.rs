//! The requests of a group's member: joining with all that belongs to it, and the shorter ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::assignor::{self, RANGE, Subscriber};
use super::{GroupError, GroupOptions};
use crate::client::{ClientError, Cluster, ClusterError, Place, Target};
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

const PROTOCOL_TYPE: &str = "consumer";
/// Between two tries to read committed offsets.
const PAUSE: Duration = Duration::from_millis(100);

/// Who a member is, and whom it asks.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Over these connections a member asks one thing at a time.
    pub(super) cluster: Cluster,
    pub(super) options: Arc<GroupOptions>,
    /// Empty until the coordinator has given it.
    pub(super) id: String,
    /// Where the coordinator is, as far as is known.
    pub(super) coordinator: Option<i32>,
}

/// What a member has once it is one.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) member: Member,
    pub(super) generation: i32,
    /// How many partitions each topic of the group has, if this member is its leader.
    pub(super) counts: Option<BTreeMap<String, i32>>,
    /// The partitions and what is committed of them, -1 for nothing.
    pub(super) offsets: BTreeMap<Place, i64>,
}

/// What came of trying to join.
#[derive(Debug)]
pub(super) enum Outcome {
    In(Box<Joined>),
    /// Once more, as this member; after a pause if something is wrong.
    Again {
        member: Box<Member>,
        fault: Option<ClusterError>,
    },
    Failed(GroupError),
}

/// Why it is not done yet.
enum Stop {
    Again(Option<ClusterError>),
    Failed(GroupError),
}

impl From<ClusterError> for Stop {
    fn from(fault: ClusterError) -> Stop {
        match &fault {
            // The coordinator waits for the other members, for longer than a call may last.
            ClusterError::Call { fault: ClientError::TimedOut { .. }, .. } => Stop::Again(None),
            _ if fault.is_passing() => Stop::Again(Some(fault)),
            _ => Stop::Failed(GroupError::Cluster(fault)),
        }
    }
}

/// Joins, shares out the partitions if this member is the leader, and reads what is committed.
pub(super) async fn join(mut member: Member) -> Outcome {
    match Box::pin(member.join()).await {
        Ok(joined) => Outcome::In(Box::new(joined)),
        Err(Stop::Again(fault)) => {
            // Who does not answer may not be the coordinator any more.
            if fault.is_some() {
                member.coordinator = None;
            }
            Outcome::Again { member: Box::new(member), fault }
        }
        Err(Stop::Failed(error)) => Outcome::Failed(error),
    }
}

impl Member {
    async fn join(&mut self) -> Result<Joined, Stop> {
        let node = self.coordinator().await?;
        let answer = self.ask_join(node).await?;
        self.check(answer.error_code, Some(&answer))?;
        self.id = answer.member_id.to_string();
        let generation = answer.generation_id;
        // A static member that comes back may lead without sharing out anew (KIP-814).
        let is_leader = answer.leader == answer.member_id && !answer.skip_assignment;
        let (counts, shares) = if is_leader {
            let (counts, shares) = self.share_out(&answer).await?;
            (Some(counts), shares)
        } else {
            (None, BTreeMap::new())
        };
        let places = self.sync(node, generation, shares).await?;
        let offsets = self.committed(node, &places).await?;
        Ok(Joined { member: self.clone(), generation, counts, offsets })
    }

    /// The node to ask; looked for if it is not known.
    pub(super) async fn coordinator(&mut self) -> Result<i32, ClusterError> {
        if let Some(node) = self.coordinator {
            return Ok(node);
        }
        let node = Box::pin(self.cluster.coordinator(&self.options.group)).await?;
        self.coordinator = Some(node);
        Ok(node)
    }

    async fn ask_join(&self, node: i32) -> Result<JoinGroupResponse, ClusterError> {
        let metadata = assignor::subscription(&self.options.topics);
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text(RANGE)).with_metadata(metadata);
        let request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(millis(self.options.session_timeout))
            .with_rebalance_timeout_ms(millis(self.options.rebalance_timeout))
            .with_member_id(text(&self.id))
            .with_protocol_type(text(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        let build =
            |version| request.clone().with_group_instance_id(self.instance_id(version >= 5));
        self.cluster.ask(Target::Node(node), self.versions(1, 5), build).await
    }

    /// What an answer's code means for a member that joins.
    fn check(&mut self, code: i16, joined: Option<&JoinGroupResponse>) -> Result<(), Stop> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => return Ok(()),
            Some(ErrorCode::MemberIdRequired) => {
                if let Some(answer) = joined {
                    self.id = answer.member_id.to_string();
                }
                return Err(Stop::Again(None));
            }
            Some(ErrorCode::UnknownMemberId) => self.id.clear(),
            Some(ErrorCode::FencedInstanceId) => {
                return Err(Stop::Failed(self.fenced()));
            }
            Some(ErrorCode::RebalanceInProgress) => return Err(Stop::Again(None)),
            Some(ErrorCode::IllegalGeneration) => {}
            Some(known) if known.is_retriable() => {}
            _ => return Err(Stop::Failed(GroupError::Cluster(self.refused(code)))),
        }
        Err(Stop::Again(Some(self.refused(code))))
    }

    /// Which member gets what, and how many partitions there were.
    async fn share_out(
        &self,
        answer: &JoinGroupResponse,
    ) -> Result<(BTreeMap<String, i32>, BTreeMap<String, BTreeSet<Place>>), Stop> {
        let subscribers = answer.members.iter().map(|row| Subscriber {
            member_id: row.member_id.to_string(),
            instance_id: row.group_instance_id.as_ref().map(ToString::to_string),
            // Whose subscription cannot be read gets nothing, and the others go on.
            topics: assignor::read_subscription(row.metadata.clone()).unwrap_or_default(),
        });
        let subscribers: Vec<Subscriber> = subscribers.collect();
        let topics: BTreeSet<String> =
            subscribers.iter().flat_map(|it| it.topics.iter().cloned()).collect();
        let counts = self.counts(&topics).await?;
        let shares = assignor::range(&subscribers, &counts);
        Ok((counts, shares))
    }

    /// How many partitions topics have; without those that are not there.
    pub(super) async fn counts(
        &self,
        topics: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, i32>, ClusterError> {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let response = Box::pin(self.cluster.metadata(Some(&names), false)).await?;
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let rows = response.topics.iter().filter(|row| row.error_code == 0);
        let counted = rows
            .filter_map(|row| Some((row.name.as_ref()?.to_string(), count(row.partitions.len()))));
        Ok(counted.filter(|(topic, _)| topics.contains(topic)).collect())
    }

    async fn sync(
        &mut self,
        node: i32,
        generation: i32,
        shares: BTreeMap<String, BTreeSet<Place>>,
    ) -> Result<BTreeSet<Place>, Stop> {
        let shares = shares.into_iter().map(|(member, places)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(&member))
                .with_assignment(assignor::assignment(&places))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(generation)
            .with_member_id(text(&self.id))
            .with_assignments(shares.collect());
        let build = |version: i16| {
            let named = (version >= 5).then(|| (text(PROTOCOL_TYPE), text(RANGE)));
            let (kind, name) = named.unzip();
            let instance = self.instance_id(version >= 3);
            let request = request.clone().with_group_instance_id(instance);
            request.with_protocol_type(kind).with_protocol_name(name)
        };
        let asked = self.cluster.ask(Target::Node(node), self.versions(0, 3), build);
        let answer = Box::pin(asked).await?;
        self.check(answer.error_code, None)?;
        let read = assignor::read_assignment(answer.assignment);
        let group = || self.options.group.clone();
        read.ok_or_else(|| Stop::Failed(GroupError::Assignment { group: group() }))
    }

    /// What is committed of partitions, -1 for nothing. Tried again for half a session, since
    /// there are no heartbeats meanwhile.
    async fn committed(
        &mut self,
        node: i32,
        places: &BTreeSet<Place>,
    ) -> Result<BTreeMap<Place, i64>, Stop> {
        if places.is_empty() {
            return Ok(BTreeMap::new());
        }
        let clock = self.cluster.clock().clone();
        let deadline = clock.now() + self.options.session_timeout / 2;
        loop {
            let build = |version| self.offset_fetch(version, places);
            let asked = self.cluster.ask(Target::Node(node), VersionRange::new(1, 9), build);
            let (code, mut offsets) = read_offsets(Box::pin(asked).await?);
            let is_passing = ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable);
            let is_elsewhere = code == ErrorCode::NotCoordinator.code();
            if is_passing && !is_elsewhere && clock.now() < deadline {
                clock.sleep(PAUSE).await;
                continue;
            }
            self.check(code, None)?;
            offsets.retain(|place, _| places.contains(place));
            for place in places {
                offsets.entry(place.clone()).or_insert(-1);
            }
            return Ok(offsets);
        }
    }

    fn offset_fetch(&self, version: i16, places: &BTreeSet<Place>) -> OffsetFetchRequest {
        let topics = by_topic(places.iter().map(|(topic, index)| (topic, *index)));
        // Where a transaction is about to commit offsets, the answer is that it must be waited for.
        let stable = version >= 7;
        if version < 8 {
            let topics = topics.into_iter().map(|(topic, partitions)| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic_name(topic))
                    .with_partition_indexes(partitions)
            });
            return OffsetFetchRequest::default()
                .with_group_id(self.group_id())
                .with_topics(Some(topics.collect()))
                .with_require_stable(stable);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions)
        });
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id())
            .with_member_epoch(-1)
            .with_topics(Some(topics.collect()));
        OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(stable)
    }

    /// Says that this member is there; the answer's code.
    pub(super) async fn heartbeat(&mut self, generation: i32) -> Result<i16, ClusterError> {
        let node = self.coordinator().await?;
        let request = HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(generation)
            .with_member_id(text(&self.id));
        let build =
            |version| request.clone().with_group_instance_id(self.instance_id(version >= 3));
        let asked = self.cluster.ask(Target::Node(node), self.versions(0, 3), build);
        Ok(Box::pin(asked).await?.error_code)
    }

    /// Commits offsets; the worst of the answer's codes.
    pub(super) async fn commit(
        &mut self,
        generation: i32,
        offsets: &BTreeMap<Place, i64>,
    ) -> Result<i16, ClusterError> {
        let node = self.coordinator().await?;
        let rows = offsets.iter().map(|((topic, index), offset)| (topic, (*index, *offset)));
        let topics = by_topic(rows).into_iter().map(|(topic, rows)| {
            let rows = rows.into_iter().map(|(index, offset)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(-1)
                    .with_committed_metadata(Some(text("")))
            });
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(rows.collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(&self.id))
            .with_retention_time_ms(-1)
            .with_topics(topics.collect());
        let build =
            |version| request.clone().with_group_instance_id(self.instance_id(version >= 7));
        let versions = self.versions(2, 7).intersect(VersionRange::new(2, 9));
        let asked = self.cluster.ask(Target::Node(node), versions, build);
        let answer = Box::pin(asked).await?;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(codes.map(|row| row.error_code).find(|code| *code != 0).unwrap_or(0))
    }

    /// Says that this member goes.
    pub(super) async fn leave(&mut self) -> Result<(), ClusterError> {
        let node = self.coordinator().await?;
        // Several members can leave at once from version 3 on.
        let build = |version: i16| match version {
            ..3 => LeaveGroupRequest::default()
                .with_group_id(self.group_id())
                .with_member_id(text(&self.id)),
            _ => LeaveGroupRequest::default()
                .with_group_id(self.group_id())
                .with_members(vec![MemberIdentity::default().with_member_id(text(&self.id))]),
        };
        let asked = self.cluster.ask(Target::Node(node), VersionRange::new(0, 5), build);
        Box::pin(asked).await.map(drop)
    }

    /// Every version from `min` on; for a static member from the one that knows such.
    fn versions(&self, min: i16, of_static: i16) -> VersionRange {
        let min = if self.options.instance_id.is_some() { of_static } else { min };
        VersionRange::new(min, i16::MAX)
    }

    fn instance_id(&self, is_known: bool) -> Option<StrBytes> {
        self.options.instance_id.as_deref().filter(|_| is_known).map(text)
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.options.group))
    }

    pub(super) fn refused(&self, code: i16) -> ClusterError {
        ClusterError::Refused { what: format!("group {}", self.options.group), code }
    }

    pub(super) fn fenced(&self) -> GroupError {
        let GroupOptions { group, instance_id, .. } = &*self.options;
        let instance = instance_id.clone().unwrap_or_default();
        GroupError::Fenced { group: group.clone(), instance }
    }
}

/// What an answer says is committed, and the first code that is an error.
fn read_offsets(answer: OffsetFetchResponse) -> (i16, BTreeMap<Place, i64>) {
    let mut code = answer.error_code;
    let mut offsets = BTreeMap::new();
    let mut row = |topic: &TopicName, index: i32, offset: i64, of_row: i16| {
        if code == 0 {
            code = of_row;
        }
        offsets.insert((topic.to_string(), index), offset);
    };
    for topic in &answer.topics {
        for it in &topic.partitions {
            row(&topic.name, it.partition_index, it.committed_offset, it.error_code);
        }
    }
    let mut of_group = 0;
    for group in answer.groups {
        of_group = group.error_code;
        for topic in &group.topics {
            for it in &topic.partitions {
                row(&topic.name, it.partition_index, it.committed_offset, it.error_code);
            }
        }
    }
    (if of_group == 0 { code } else { of_group }, offsets)
}

fn by_topic<'a, T>(rows: impl Iterator<Item = (&'a String, T)>) -> BTreeMap<&'a str, Vec<T>> {
    let mut topics: BTreeMap<&str, Vec<T>> = BTreeMap::new();
    for (topic, row) in rows {
        topics.entry(topic).or_default().push(row);
    }
    topics
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
