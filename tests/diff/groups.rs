//! Groups from outside: committed offsets, description, deletion.

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest,
};

use crate::membership::{coordinate, group_id, join, join_alone, subscription, sync};
use crate::peer::{Peer, name, text};

/// A commit of partition 0 of one topic.
pub fn commit(
    group: &str,
    generation: i32,
    member: &str,
    topic: &str,
    offset: i64,
) -> OffsetCommitRequest {
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![committed(topic, &[(0, offset, Some("words"))])])
}

fn committed(topic: &str, parts: &[(i32, i64, Option<&str>)]) -> OffsetCommitRequestTopic {
    let one = |(partition, offset, metadata): &(i32, i64, Option<&str>)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_metadata(metadata.map(text))
    };
    OffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(parts.iter().map(one).collect())
}

/// A description without authorized operations.
pub fn describe(groups: &[&str]) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default()
        .with_groups(groups.iter().map(|group| group_id(group)).collect())
}

/// What is fetched: topics with partitions, or all.
type Asked<'a> = Option<&'a [(&'a str, &'a [i32])]>;

pub fn fetch(version: i16, groups: &[&str], asked: Asked<'_>) -> OffsetFetchRequest {
    if version < 8 {
        let topic = |(topic, partitions): &(&str, &[i32])| {
            OffsetFetchRequestTopic::default()
                .with_name(name(topic))
                .with_partition_indexes(partitions.to_vec())
        };
        return OffsetFetchRequest::default()
            .with_group_id(group_id(groups[0]))
            .with_topics(asked.map(|asked| asked.iter().map(topic).collect()));
    }
    let topic = |(topic, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopics::default()
            .with_name(name(topic))
            .with_partition_indexes(partitions.to_vec())
    };
    let group = |group: &&str| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(asked.map(|asked| asked.iter().map(topic).collect()))
    };
    OffsetFetchRequest::default().with_groups(groups.iter().map(group).collect())
}

/// Every version of both, for a group without members.
pub fn commit_and_fetch(peer: &mut Peer) {
    peer.create("kept", 3, &[]);
    for version in 2..=9 {
        let group = format!("keeper-{version}");
        coordinate(peer, &group);
        let long = "m".repeat(4096);
        let longer = "m".repeat(4097);
        let mut request = commit(&group, -1, "", "kept", 5);
        if version >= 6 {
            request.topics[0].partitions[0].committed_leader_epoch = 0;
        }
        peer.ask("commit", version, &request);
        request.topics = vec![
            committed("kept", &[(1, 7, None), (2, 8, Some("")), (9, 1, None), (-1, 1, None)]),
            committed("no-such-topic", &[(0, 1, None)]),
            committed("a b", &[(0, 1, None)]),
        ];
        peer.ask("commit with unknown ones", version, &request);
        request.topics = vec![committed("kept", &[(0, 6, Some(&longer)), (1, 9, Some(&long))])];
        peer.ask("commit with long metadata", version, &request);
        request.topics = vec![committed("kept", &[(0, -1, None), (1, -5, None)])];
        peer.ask("commit of negative offsets", version, &request);
        request.topics = vec![committed("kept", &[(2, 0, None), (2, 4, None)])];
        peer.ask("commit of a partition twice", version, &request);
        request.topics.clear();
        peer.ask("commit of nothing", version, &request);
        for (label, asked) in [
            ("generation 3", commit("keeper-none", 3, "", "kept", 1)),
            ("generation 3 of a member", commit("keeper-none", 3, "m", "kept", 1)),
            ("generation -1 of a member", commit(&group, -1, "m", "kept", 1)),
            ("no group", commit("", -1, "", "kept", 1)),
        ] {
            peer.ask(format!("commit: {label}"), version, &asked);
        }
    }
    for version in 1..=9 {
        let group = "keeper-5";
        let asked: &[(&str, &[i32])] = &[("kept", &[0, 1, 2, 7]), ("no-such-topic", &[0])];
        peer.ask("fetch", version, &fetch(version, &[group], Some(asked)));
        peer.ask("fetch of nothing", version, &fetch(version, &[group], Some(&[])));
        peer.ask("fetch of an unknown group", version, &fetch(version, &["none"], Some(asked)));
        peer.ask("fetch of no group", version, &fetch(version, &[""], Some(asked)));
        if version >= 2 {
            peer.ask("fetch of all", version, &fetch(version, &[group], None));
            peer.ask("fetch of all, unknown group", version, &fetch(version, &["none"], None));
        }
        if version >= 7 {
            let request = fetch(version, &[group], Some(asked)).with_require_stable(true);
            peer.ask("fetch of stable ones", version, &request);
        }
        if version >= 8 {
            let groups = [group, "keeper-6", "none", group];
            peer.ask("fetch for several", version, &fetch(version, &groups, Some(asked)));
            peer.ask("fetch for nobody", version, &fetch(version, &[], None));
        }
    }
    let mut member = fetch(9, &["keeper-5"], None);
    member.groups[0].member_id = Some(text("nobody"));
    member.groups[0].member_epoch = 4;
    peer.ask("fetch of an unknown member", 9, &member);
}

fn delete_offsets(group: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let topic = |(topic, partitions): &(&str, &[i32])| {
        let one =
            |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        OffsetDeleteRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(partitions.iter().map(one).collect())
    };
    OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(topics.iter().map(topic).collect())
}

/// From groups with and without members.
pub fn offset_delete(peer: &mut Peer) {
    peer.create("dropped", 2, &[]);
    peer.create("held", 2, &[]);
    coordinate(peer, "dropper");
    peer.get(8, &commit("dropper", -1, "", "dropped", 5));
    peer.get(8, &commit("dropper", -1, "", "held", 5));
    let some: &[(&str, &[i32])] = &[("dropped", &[0, 1, 9]), ("none", &[0])];
    peer.ask("some", 0, &delete_offsets("dropper", some));
    peer.ask("fetch", 7, &fetch(7, &["dropper"], None));
    peer.ask("nothing", 0, &delete_offsets("dropper", &[]));
    peer.ask("unknown group", 0, &delete_offsets("none", some));
    peer.ask("no group", 0, &delete_offsets("", some));
    let mut joining = join("dropper", &text(""));
    joining.protocols.truncate(1);
    joining.protocols[0].metadata = subscription(&["held"]);
    let member = peer.get(3, &joining).member_id;
    peer.get(5, &sync("dropper", 1, &member));
    peer.ask("describe", 5, &describe(&["dropper"]));
    peer.ask("subscribed", 0, &delete_offsets("dropper", &[("held", &[0]), ("dropped", &[0])]));
    coordinate(peer, "dropper-connect");
    let member =
        peer.get(3, &join("dropper-connect", &text("")).with_protocol_type(text("connect")));
    peer.get(5, &sync("dropper-connect", 1, &member.member_id));
    peer.ask("of another protocol", 0, &delete_offsets("dropper-connect", &[("held", &[0])]));
}

/// Every version, in several states.
pub fn describe_and_list(peer: &mut Peer) {
    for group in ["seen-empty", "seen-joining", "seen-stable"] {
        coordinate(peer, group);
    }
    peer.get(8, &commit("seen-empty", -1, "", "kept", 5));
    join_alone(peer, 9, "seen-joining");
    let member = join_alone(peer, 9, "seen-stable").member_id;
    peer.get(5, &sync("seen-stable", 1, &member));
    for version in 0..=6 {
        let all = describe(&["seen-empty", "seen-joining", "seen-stable", "none", ""]);
        peer.ask("describe", version, &all);
        peer.ask("describe none", version, &describe(&[]));
        peer.ask("describe one twice", version, &describe(&["seen-stable", "seen-stable"]));
        if version >= 3 {
            let request =
                describe(&["seen-stable", "none"]).with_include_authorized_operations(true);
            peer.ask("describe with operations", version, &request);
        }
    }
    let words = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
    for version in 0..=5 {
        peer.ask("list", version, &ListGroupsRequest::default());
        if version >= 4 {
            for states in [
                &["Stable"][..],
                &["stable"],
                &["Empty", "CompletingRebalance"],
                &["Nonsense"],
                &["Dead"],
                &[""],
            ] {
                let request = ListGroupsRequest::default().with_states_filter(words(states));
                peer.ask(format!("list {states:?}"), version, &request);
            }
        }
        if version >= 5 {
            for types in
                [&["classic"][..], &["CLASSIC"], &["consumer"], &["share"], &["odd"], &[""]]
            {
                let request = ListGroupsRequest::default()
                    .with_types_filter(words(types))
                    .with_states_filter(words(&["Stable"]));
                peer.ask(format!("list types {types:?}"), version, &request);
            }
        }
    }
}

/// Unknown, empty, in use, twice.
pub fn delete_groups(peer: &mut Peer) {
    for version in 0..=2 {
        let (empty, used) = (format!("gone-{version}"), format!("used-{version}"));
        coordinate(peer, &empty);
        coordinate(peer, &used);
        peer.get(8, &commit(&empty, -1, "", "kept", 5));
        join_alone(peer, 9, &used);
        let delete = |groups: &[&str]| {
            let names = groups.iter().map(|group| group_id(group)).collect();
            DeleteGroupsRequest::default().with_groups_names(names)
        };
        peer.ask("some", version, &delete(&[&empty, &used, "none", ""]));
        peer.ask("again", version, &delete(&[&empty]));
        peer.ask("none", version, &delete(&[]));
        peer.ask("describe", 6, &describe(&[&empty, &used]));
        peer.ask("fetch", 7, &fetch(7, &[&empty], None));
    }
}
