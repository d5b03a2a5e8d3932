//! Tools for groups.

use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest,
};

use super::bench::{Bench, text, topic_name, words};
use crate::harness::until;
use crate::judge::committed_offsets;

const TOOL: &str = "consumer.group.ConsumerGroupCommand";

/// Timestamp of the first record of `logged`: 2023-11-14T22:13:20Z.
const LONG_AGO: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Commits offsets of `logged` as a client without membership does.
fn commit(bench: &mut Bench<'_>, group: &str, topic: &str, offsets: &[i64]) {
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    assert_eq!(bench.wire.call(4, &find).coordinators[0].error_code, 0);
    let partition = |(index, offset): (usize, &i64)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index as i32)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(offsets.iter().enumerate().map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    until("the coordinator has loaded", || {
        (bench.wire.call(8, &request).topics[0].partitions[0].error_code == 0).then_some(())
    });
}

fn state(bench: &mut Bench<'_>, group: &str) -> String {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    bench.wire.call(5, &request).groups.remove(0).group_state.to_string()
}

/// A member of a group that reads `topic` until it is dropped.
struct Member(Child);

impl Member {
    fn join(bench: &mut Bench<'_>, group: &str, topic: &str) -> Self {
        let mut command = Command::new("kcat");
        command.args(["-b", &bench.broker.address(), "-G", group, "-q", topic]);
        command.args(["-X", "client.id=kcat"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let member = Self(command.spawn().unwrap());
        while state(bench, group) != "Stable" {
            std::thread::yield_now();
        }
        member
    }

    /// Ends as a client that nobody waits for; the group has lost its member when this returns.
    fn leave(mut self, bench: &mut Bench<'_>, group: &str) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap();
        while state(bench, group) != "Empty" {
            std::thread::yield_now();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ten records, five of them from 2023 and five of ten minutes ago, and another topic with three.
fn fill(bench: &mut Bench<'_>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let times = |first: i64| (0..5).map(|at| first + at * 1000).collect::<Vec<i64>>();
    bench.create("logged", 1);
    bench.write("logged", 0, &times(LONG_AGO));
    bench.write("logged", 0, &times(now - 10 * MINUTE));
    bench.create("beside", 1);
    bench.write("beside", 0, &[now; 3]);
}

/// `ConsumerGroupCommand`.
pub fn consumer_groups(bench: &mut Bench<'_>) {
    fill(bench);
    commit(bench, "first", "logged", &[2]);
    commit(bench, "first", "beside", &[1]);
    commit(bench, "second", "logged", &[10]);
    lists_and_describes(bench);
    describes_members(bench);
    resets(bench);
    resets_from_files(bench);
    deletes(bench);
}

fn lists_and_describes(bench: &mut Bench<'_>) {
    let listed = bench.run(TOOL, &["--list"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(listed, ["first", "second"]);
    assert_eq!(words(&bench.run(TOOL, &["--list", "--state"]), "first"), ["first", "Empty"]);
    assert_eq!(words(&bench.run(TOOL, &["--list", "--type"]), "first"), ["first", "Classic"]);
    let stable = bench.run(TOOL, &["--list", "--state", "stable"]);
    assert!(!stable.contains("first"), "{stable}");
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    let offsets = bench.run(TOOL, &["--describe", "--group", "first", "--offsets"]);
    let nobody = ["-", "-", "-"];
    let logged = ["first", "logged", "0", "2", "10", "8"];
    assert_eq!(words(&offsets, "logged"), [&logged[..], &nobody].concat(), "{offsets}");
    assert_eq!(words(&offsets, "beside")[3..6], ["1", "3", "2"], "{offsets}");
    let all = bench.run(TOOL, &["--describe", "--all-groups"]);
    assert_eq!(words(&all, "second ")[1..6], ["logged", "0", "10", "10", "0"], "{all}");
    assert!(all.contains("first "), "{all}");
    let state = bench.run(TOOL, &["--describe", "--group", "first", "--state"]);
    let line = words(&state, "first");
    assert_eq!(line[1..], [&bench.broker.address()[..], "(1)", "-", "Empty", "0"], "{state}");
    let unknown = bench.ended(TOOL, &["--describe", "--group", "none"], "");
    assert!(unknown.output.contains("GroupIdNotFoundException"), "{unknown:?}");
}

fn describes_members(bench: &mut Bench<'_>) {
    let member = Member::join(bench, "active", "logged");
    let members = bench.run(TOOL, &["--describe", "--group", "active", "--members"]);
    // GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS
    assert_eq!(words(&members, "kcat")[2..], ["/127.0.0.1", "kcat", "1"], "{members}");
    let verbose = bench.run(TOOL, &["--describe", "--group", "active", "--members", "--verbose"]);
    assert!(words(&verbose, "kcat").contains(&"logged:0"), "{verbose}");
    let state = bench.run(TOOL, &["--describe", "--group", "active", "--state"]);
    assert_eq!(words(&state, "active")[3..], ["range", "Stable", "1"], "{state}");
    let offsets = bench.run(TOOL, &["--describe", "--group", "active"]);
    assert_eq!(words(&offsets, "logged").last(), Some(&"kcat"), "{offsets}");
    let stable = bench.run(TOOL, &["--list", "--state", "stable"]);
    assert_eq!(words(&stable, "active"), ["active", "Stable"]);

    let reset = ["--reset-offsets", "--group", "active", "--topic", "logged", "--to-earliest"];
    let refused = bench.ended(TOOL, &[&reset[..], &["--execute"]].concat(), "");
    let why = "Assignments can only be reset if the group 'active' is inactive";
    assert!(refused.output.contains(why), "{refused:?}");
    let refused = bench.ended(TOOL, &["--delete", "--group", "active"], "");
    assert!(refused.output.contains("GroupNotEmptyException"), "{refused:?}");
    let offsets = ["--delete-offsets", "--group", "active", "--topic", "logged"];
    let refused = bench.ended(TOOL, &offsets, "");
    assert!(refused.output.contains("GroupSubscribedToTopicException"), "{refused:?}");
    member.leave(bench, "active");
    let said = bench.run(TOOL, &["--delete", "--group", "active"]);
    assert!(said.contains("('active') was successful"), "{said}");
    assert_eq!(state_of_all(bench), "first Empty, second Empty");
}

fn state_of_all(bench: &mut Bench<'_>) -> String {
    let listed = bench.run(TOOL, &["--list", "--state"]);
    let groups = listed.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.join(" ")
    });
    let mut groups: Vec<String> = groups.filter(|group| !group.is_empty()).collect();
    groups.sort();
    groups.join(", ")
}

/// Runs a reset of `first` in `logged` and returns the offset that the tool says and the one that
/// is committed afterwards.
fn reset(bench: &mut Bench<'_>, how: &[&str], execute: &str) -> (String, i64) {
    let args = ["--reset-offsets", "--group", "first", "--topic", "logged", execute];
    let said = bench.run(TOOL, &[&args[..], how].concat());
    // Warnings name the topic, too.
    let offset = words(&said, "first ").get(3).map_or(String::new(), |offset| (*offset).to_owned());
    (offset, committed_offsets(&mut bench.wire, "first", "logged", 1)[0])
}

fn resets(bench: &mut Bench<'_>) {
    for (how, said, committed) in [
        (&["--to-latest"][..], "10", 10),
        (&["--to-earliest"], "0", 0),
        (&["--to-offset", "4"], "4", 4),
        (&["--shift-by", "3"], "7", 7),
        (&["--shift-by", "-2"], "5", 5),
        (&["--shift-by", "100"], "10", 10),
        (&["--shift-by", "-100"], "0", 0),
        (&["--to-offset", "99"], "10", 10),
        (&["--to-datetime", "2023-11-14T22:13:23.000Z"], "3", 3),
        (&["--to-datetime", "2999-01-01T00:00:00.000Z"], "10", 10),
        (&["--by-duration", "PT1H"], "5", 5),
        (&["--to-current"], "5", 5),
    ] {
        let dry = reset(bench, how, "--dry-run").0;
        assert_eq!(dry, said, "{how:?} --dry-run");
        assert_eq!(reset(bench, how, "--execute"), (said.to_owned(), committed), "{how:?}");
    }
    assert_eq!(reset(bench, &["--to-earliest"], "--dry-run"), ("0".to_owned(), 5));
    let all = ["--reset-offsets", "--group", "first", "--all-topics", "--to-latest", "--execute"];
    bench.run(TOOL, &all);
    assert_eq!(committed_offsets(&mut bench.wire, "first", "logged", 1), [10]);
    assert_eq!(committed_offsets(&mut bench.wire, "first", "beside", 1), [3]);
    let all = ["--reset-offsets", "--all-groups", "--topic", "logged:0", "--to-offset", "6"];
    bench.run(TOOL, &[&all[..], &["--execute"]].concat());
    for group in ["first", "second"] {
        assert_eq!(committed_offsets(&mut bench.wire, group, "logged", 1), [6], "{group}");
    }
}

fn resets_from_files(bench: &mut Bench<'_>) {
    let one = ["--reset-offsets", "--group", "first", "--dry-run", "--export"];
    let exported = bench.run(TOOL, &[&one[..], &["--all-topics", "--to-current"]].concat());
    let mut lines: Vec<&str> = exported.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["beside,0,3", "logged,0,6"]);
    bench.run(
        TOOL,
        &["--reset-offsets", "--group", "first", "--all-topics", "--to-earliest", "--execute"],
    );
    let file = bench.file("offsets.csv", &exported);
    bench.run(TOOL, &["--reset-offsets", "--group", "first", "--from-file", &file, "--execute"]);
    assert_eq!(committed_offsets(&mut bench.wire, "first", "logged", 1), [6]);
    assert_eq!(committed_offsets(&mut bench.wire, "first", "beside", 1), [3]);

    let both = ["--reset-offsets", "--all-groups", "--topic", "logged", "--shift-by", "1"];
    let exported = bench.run(TOOL, &[&both[..], &["--dry-run", "--export"]].concat());
    let mut lines: Vec<&str> = exported.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["first,logged,0,7", "second,logged,0,7"]);
    let file = bench.file("groups.csv", &exported);
    bench.run(TOOL, &["--reset-offsets", "--all-groups", "--from-file", &file, "--execute"]);
    for group in ["first", "second"] {
        assert_eq!(committed_offsets(&mut bench.wire, group, "logged", 1), [7], "{group}");
    }
}

fn deletes(bench: &mut Bench<'_>) {
    let said = bench.run(TOOL, &["--delete-offsets", "--group", "first", "--topic", "logged:0"]);
    assert_eq!(words(&said, "logged"), ["logged", "0", "Successful"], "{said}");
    assert_eq!(committed_offsets(&mut bench.wire, "first", "logged", 1), [-1]);
    assert_eq!(committed_offsets(&mut bench.wire, "first", "beside", 1), [3]);
    let unknown = bench.run(TOOL, &["--delete", "--group", "none"]);
    assert!(unknown.contains("GroupIdNotFoundException"), "{unknown}");
    bench.run(TOOL, &["--delete", "--group", "first"]);
    assert_eq!(state_of_all(bench), "second Empty");
    bench.run(TOOL, &["--delete", "--all-groups"]);
    assert_eq!(state_of_all(bench), "");
    assert_eq!(committed_offsets(&mut bench.wire, "second", "logged", 1), [-1]);
}

/// `GroupsCommand`.
pub fn groups(bench: &mut Bench<'_>) {
    const TOOL: &str = "GroupsCommand";
    bench.create("logged", 1);
    bench.write("logged", 0, &[1]);
    assert_eq!(bench.run(TOOL, &["--list"]).lines().count(), 1, "the head");
    // A group that only commits has no protocol; one that had members keeps theirs.
    commit(bench, "committed", "logged", &[1]);
    Member::join(bench, "joined", "logged").leave(bench, "joined");
    let all = bench.run(TOOL, &["--list"]);
    assert_eq!(words(&all, "joined"), ["joined", "Classic", "consumer"], "{all}");
    assert_eq!(words(&all, "committed"), ["committed", "Classic"], "{all}");
    for (filter, shown) in [
        (&["--consumer"][..], &["committed", "joined"][..]),
        (&["--group-type", "classic"], &["committed", "joined"]),
        (&["--group-type", "share"], &[]),
        (&["--share"], &[]),
        (&["--protocol", "consumer"], &["joined"]),
        (&["--protocol", "connect"], &[]),
    ] {
        let said = bench.run(TOOL, &[&["--list"], filter].concat());
        let mut groups: Vec<&str> =
            said.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        groups.sort_unstable();
        assert_eq!(groups, shown, "{filter:?}\n{said}");
    }
}
