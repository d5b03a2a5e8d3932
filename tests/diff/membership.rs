//! Classic groups: joining, syncing, heartbeats, leaving, static members.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::groups::{commit, describe};
use crate::peer::{Peer, text};

/// `MEMBER_ID_REQUIRED`.
const ID_REQUIRED: i16 = 79;
/// `REBALANCE_IN_PROGRESS`.
const REBALANCE: i16 = 27;

/// A group's id for a message.
pub fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Waits until the group's coordinator is loaded.
pub fn coordinate(peer: &mut Peer, group: &str) {
    peer.until("coordinator", |peer| {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        (peer.get(1, &request).error_code == 0).then_some(())
    });
    peer.until("coordinator's load", |peer| {
        let loading = [14, 15, 16];
        let answer = peer.get(4, &heartbeat(group, 1, "nobody"));
        (!loading.contains(&answer.error_code)).then_some(())
    });
}

/// What the consumer protocol says of a member that reads these topics.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn protocol(name: &str, metadata: Bytes) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata)
}

/// A consumer that knows "range" and "roundrobin".
pub fn join(group: &str, member: &StrBytes) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            protocol("range", subscription(&["t"])),
            protocol("roundrobin", subscription(&["t", "u"])),
        ])
}

/// A follower's sync.
pub fn sync(group: &str, generation: i32, member: &StrBytes) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
}

/// The same for versions that do not name the protocol.
fn sync_in(version: i16, mut request: SyncGroupRequest) -> SyncGroupRequest {
    if version < 5 {
        (request.protocol_type, request.protocol_name) = (None, None);
    }
    request
}

/// The same with assignments.
fn assigning(
    request: SyncGroupRequest,
    assigned: &[(&StrBytes, &'static str)],
) -> SyncGroupRequest {
    let one = |(member, bytes): &(&StrBytes, &'static str)| {
        SyncGroupRequestAssignment::default()
            .with_member_id((*member).clone())
            .with_assignment(Bytes::from_static(bytes.as_bytes()))
    };
    request.with_assignments(assigned.iter().map(one).collect())
}

/// A heartbeat.
pub fn heartbeat(group: &str, generation: i32, member: &str) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id(generation)
        .with_member_id(text(member))
}

fn leave(group: &str, version: i16, member: &str, instance: Option<&str>) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    if version < 3 {
        return request.with_member_id(text(member));
    }
    let identity = MemberIdentity::default()
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text));
    request.with_members(vec![identity])
}

/// Joins a group that nobody is in, with an id first where the version wants that.
pub fn join_alone(peer: &mut Peer, version: i16, group: &str) -> JoinGroupResponse {
    let first = peer.ask("join", version, &join(group, &text(""))).expect("an answer");
    if first.error_code != ID_REQUIRED {
        return first;
    }
    peer.ask("join with the id", version, &join(group, &first.member_id)).expect("an answer")
}

/// The whole life of a group of two.
pub fn two_members(peer: &mut Peer) {
    const GROUP: &str = "two";
    coordinate(peer, GROUP);
    // Tidegate loads a coordinator's partition when it is first asked for; the list asks for all.
    peer.until("all coordinators", |peer| {
        (peer.get(5, &ListGroupsRequest::default()).error_code == 0).then_some(())
    });
    let first = join_alone(peer, 9, GROUP).member_id;
    peer.ask("heartbeat before sync", 4, &heartbeat(GROUP, 1, &first));
    peer.ask("commit before sync", 8, &commit(GROUP, 1, &first, "produced", 5));
    peer.ask("describe before sync", 5, &describe(&[GROUP]));
    let synced = assigning(sync(GROUP, 1, &first), &[(&first, "mine")]);
    peer.ask("leader's sync", 5, &synced);
    peer.ask("sync again", 5, &sync(GROUP, 1, &first));
    for (label, generation, member) in [
        ("good", 1, first.as_str()),
        ("old generation", 0, first.as_str()),
        ("generation to come", 2, first.as_str()),
        ("generation -1", -1, first.as_str()),
        ("unknown member", 1, "nobody"),
        ("no member", 1, ""),
    ] {
        peer.ask(format!("heartbeat: {label}"), 4, &heartbeat(GROUP, generation, member));
        peer.ask(format!("sync: {label}"), 5, &sync(GROUP, generation, &text(member)));
        let request = commit(GROUP, generation, member, "produced", 6);
        peer.ask(format!("commit: {label}"), 8, &request);
    }
    peer.ask("describe stable", 5, &describe(&[GROUP]));
    for version in 0..=5 {
        peer.ask("list the only group", version, &ListGroupsRequest::default());
    }
    second_member(peer, GROUP, &first);
}

fn second_member(peer: &mut Peer, group: &str, first: &StrBytes) {
    let pending = peer.on(1).ask("second: join", 9, &join(group, &text(""))).unwrap();
    let second = pending.member_id;
    peer.on(0).ask("heartbeat beside a pending member", 4, &heartbeat(group, 1, first));
    let parked = peer.on(1).send(9, &join(group, &second));
    peer.on(0).until("rebalance", |peer| {
        (peer.get(4, &heartbeat(group, 1, first)).error_code == REBALANCE).then_some(())
    });
    peer.ask("commit in the rebalance", 8, &commit(group, 1, first, "produced", 7));
    peer.ask("commit in the rebalance, unknown", 8, &commit(group, 1, "x", "produced", 7));
    peer.ask("sync in the rebalance", 5, &sync(group, 1, first));
    peer.ask("describe in the rebalance", 5, &describe(&[group]));
    peer.ask("leader joins again", 9, &join(group, first));
    peer.receive("second: joined", &parked);
    let follower = peer.on(1).send(5, &sync(group, 2, &second));
    peer.on(0).ask("heartbeat before the leader's sync", 4, &heartbeat(group, 2, first));
    let assigned = [(first, "a"), (&second, "b")];
    peer.ask("leader assigns", 5, &assigning(sync(group, 2, first), &assigned));
    peer.receive("second: synced", &follower);
    peer.ask("describe two", 5, &describe(&[group]));
    peer.on(1).ask("follower joins again, unchanged", 9, &join(group, &second));
    peer.ask("heartbeat after that", 4, &heartbeat(group, 2, &second));
    peer.ask("commit of generation 1", 8, &commit(group, 1, &second, "produced", 8));
    let nobody = leave(group, 5, "nobody", None);
    peer.ask("leave: nobody", 5, &nobody);
    peer.ask("leave: second", 5, &leave(group, 5, &second, None));
    peer.ask("leave: second again", 5, &leave(group, 5, &second, None));
    peer.on(0).ask("heartbeat after a leave", 4, &heartbeat(group, 2, first));
    peer.ask("leader joins alone", 9, &join(group, first));
    peer.ask("sync without an assignment", 5, &sync(group, 3, first));
    peer.ask("leader joins when stable", 9, &join(group, first));
    peer.ask("leave: before sync", 2, &leave(group, 2, first, None));
    peer.ask("describe empty", 5, &describe(&[group]));
    peer.ask("heartbeat when empty", 4, &heartbeat(group, 4, first));
    peer.ask("simple commit when empty", 8, &commit(group, -1, "", "produced", 9));
    peer.ask("commit of a member gone", 8, &commit(group, 4, first, "produced", 9));
    peer.ask("joins once more", 3, &join(group, first));
    peer.ask("joins anew", 3, &join(group, &text("")));
}

/// Every version of the five requests with one member.
pub fn join_by_version(peer: &mut Peer) {
    for version in 0..=9 {
        let group = format!("alone-{version}");
        coordinate(peer, &group);
        let joined = join_alone(peer, version, &group);
        let member = joined.member_id;
        let synced = assigning(sync(&group, 1, &member), &[(&member, "all")]);
        peer.ask("sync", version.min(5), &sync_in(version, synced));
        peer.ask("heartbeat", version.min(4), &heartbeat(&group, 1, &member));
        let describing = DescribeGroupsRequest::default()
            .with_groups(vec![group_id(&group)])
            .with_include_authorized_operations(version >= 3);
        peer.ask("describe", version.min(6), &describing);
        peer.ask("join when stable", version, &join(&group, &member));
        let left = version.min(5);
        peer.ask("leave", left, &leave(&group, left, &member, None));
        peer.ask("leave again", left, &leave(&group, left, &member, None));
        peer.ask("heartbeat after", version.min(4), &heartbeat(&group, 1, &member));
    }
}

/// Requests that a coordinator does not take.
pub fn refusals(peer: &mut Peer) {
    const GROUP: &str = "picky";
    coordinate(peer, GROUP);
    let plain = || join(GROUP, &text(""));
    for version in [3, 5, 9] {
        for timeout in [0, -1, 5_999, 1_800_001, i32::MAX] {
            let request = plain().with_session_timeout_ms(timeout);
            peer.ask(format!("session timeout {timeout}"), version, &request);
        }
        peer.ask("no group", version, &plain().with_group_id(group_id("")));
        peer.ask("unknown member", version, &join(GROUP, &text("nobody")));
        peer.ask("no protocols", version, &plain().with_protocols(Vec::new()));
        peer.ask("no protocol type", version, &plain().with_protocol_type(text("")));
    }
    let member = join_alone(peer, 5, GROUP).member_id;
    peer.ask("sync", 5, &assigning(sync(GROUP, 1, &member), &[(&member, "all")]));
    let other = vec![protocol("sticky", Bytes::new())];
    for version in [3, 5] {
        peer.on(1).ask("no common protocol", version, &plain().with_protocols(other.clone()));
        peer.ask("another type", version, &plain().with_protocol_type(text("connect")));
    }
    let typed = |kind: &str, name: &str| {
        sync(GROUP, 1, &member)
            .with_protocol_type(Some(text(kind)))
            .with_protocol_name(Some(text(name)))
    };
    peer.on(0).ask("sync: its protocol", 5, &typed("consumer", "range"));
    let unnamed = sync_in(4, sync(GROUP, 1, &member));
    peer.ask("sync: no protocol", 5, &unnamed);
    peer.ask("sync: no protocol, unknown group", 5, &sync_in(4, sync("none", 1, &member)));
    peer.ask("sync: no protocol", 4, &unnamed);
    peer.ask("sync: another type", 5, &typed("connect", "range"));
    peer.ask("sync: another protocol", 5, &typed("consumer", "roundrobin"));
    peer.ask("sync: unknown group", 5, &sync("unknown", 1, &text("m")));
    peer.ask("sync: no group", 5, &sync("", 1, &text("m")));
    peer.ask("heartbeat: unknown group", 4, &heartbeat("unknown", 1, "m"));
    peer.ask("heartbeat: no group", 4, &heartbeat("", 1, "m"));
    for version in [2, 5] {
        peer.ask("leave: unknown group", version, &leave("unknown", version, "m", None));
        peer.ask("leave: no group", version, &leave("", version, "m", None));
        peer.ask("leave: unknown member", version, &leave(GROUP, version, "m", None));
    }
    let nobody = LeaveGroupRequest::default().with_group_id(group_id(GROUP));
    peer.ask("leave: no members", 5, &nobody);
    let mut both = leave(GROUP, 5, "m", None);
    both.members.push(leave(GROUP, 5, &member, None).members.remove(0));
    peer.ask("leave: one unknown, one known", 5, &both);
}

/// A static member that comes back while its group waits for the leader's assignment.
fn replaced_before_sync(peer: &mut Peer) {
    const GROUP: &str = "static-early";
    coordinate(peer, GROUP);
    let joining = |member: &StrBytes| join(GROUP, member).with_group_instance_id(Some(text("one")));
    let first = peer.ask("early: join", 9, &joining(&text(""))).unwrap().member_id;
    let again = peer.ask("early: join again", 9, &joining(&text(""))).unwrap();
    let generation = again.generation_id;
    peer.ask("early: old id's sync", 5, &sync(GROUP, 1, &first));
    let synced = assigning(
        sync(GROUP, generation, &again.member_id).with_group_instance_id(Some(text("one"))),
        &[(&again.member_id, "all")],
    );
    peer.ask("early: new id's sync", 5, &synced);
    peer.ask("early: describe", 5, &describe(&[GROUP]));
}

/// Members with an instance id.
pub fn static_members(peer: &mut Peer) {
    const GROUP: &str = "static";
    coordinate(peer, GROUP);
    let joining = |member: &StrBytes| join(GROUP, member).with_group_instance_id(Some(text("one")));
    let beating = |generation: i32, member: &str| {
        heartbeat(GROUP, generation, member).with_group_instance_id(Some(text("one")))
    };
    let syncing = |generation: i32, member: &StrBytes| {
        sync(GROUP, generation, member).with_group_instance_id(Some(text("one")))
    };
    let first = peer.ask("join", 9, &joining(&text(""))).unwrap().member_id;
    peer.ask("sync", 5, &assigning(syncing(1, &first), &[(&first, "all")]));
    peer.ask("heartbeat", 4, &beating(1, &first));
    peer.ask("unknown member, known instance", 9, &joining(&text("nobody")));
    let mut unknown = joining(&text("nobody"));
    unknown.group_instance_id = Some(text("other"));
    peer.ask("unknown member, unknown instance", 9, &unknown);
    for version in [5, 8, 9] {
        let again = peer.ask("join again", version, &joining(&text(""))).unwrap();
        let (member, generation) = (again.member_id, again.generation_id);
        if version < 9 && again.leader == member {
            let synced = assigning(syncing(generation, &member), &[(&member, "all")]);
            peer.ask("sync again", 5, &synced);
        } else {
            peer.ask("sync again", 5, &syncing(generation, &member));
        }
        peer.ask("heartbeat again", 4, &beating(generation, &member));
        peer.ask("heartbeat with the old id", 4, &beating(generation, &first));
        peer.ask("heartbeat, old id alone", 4, &heartbeat(GROUP, generation, &first));
        peer.ask("join with the old id", version, &joining(&first));
        peer.ask("sync with the old id", 5, &syncing(generation, &first));
        let fenced = commit(GROUP, generation, &first, "produced", 1)
            .with_group_instance_id(Some(text("one")));
        peer.ask("commit with the old id", 8, &fenced);
        peer.ask("describe", 5, &describe(&[GROUP]));
    }
    replaced_before_sync(peer);
    let mut changed = joining(&text(""));
    changed.protocols.truncate(1);
    changed.protocols[0].metadata = subscription(&["elsewhere"]);
    peer.ask("join with another subscription", 9, &changed);
    peer.ask("describe then", 5, &describe(&[GROUP]));
    peer.ask("leave: old id and instance", 5, &leave(GROUP, 5, &first, Some("one")));
    peer.ask("leave: unknown instance", 5, &leave(GROUP, 5, "", Some("two")));
    peer.ask("leave: by instance", 5, &leave(GROUP, 5, "", Some("one")));
    peer.ask("leave: again", 5, &leave(GROUP, 5, "", Some("one")));
    peer.ask("describe at the end", 5, &describe(&[GROUP]));
}
