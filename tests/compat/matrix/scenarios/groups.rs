//! Groups whose members come and go, judged by what the coordinator says and by the log.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::Wire;
use crate::matrix::context::{Context, Reader, position, wait_until, wait_until_or};
use crate::matrix::log::{self, Member, describe};

const PARTITIONS: i32 = 6;
/// How often a client may join again before its group is at rest.
const REJOINS_MAX: usize = 5;

pub fn eager(context: &Context<'_>) {
    joining_and_leaving(context, "eager");
}

pub fn cooperative(context: &Context<'_>) {
    joining_and_leaving(context, "cooperative");
}

/// Whether the group is stable, has `members`, and each partition one owner.
fn is_settled(state: &str, members: &[Member], count: usize, partitions: usize) -> bool {
    let owned: Vec<&(String, i32)> = members.iter().flat_map(|member| &member.partitions).collect();
    let distinct: HashSet<&(String, i32)> = owned.iter().copied().collect();
    state == "Stable"
        && members.len() == count
        && owned.len() == partitions
        && distinct.len() == partitions
        && members.iter().all(|member| !member.partitions.is_empty())
}

/// A member that polls on a thread of its own until it is told to leave.
struct Polling {
    name: &'static str,
    leave: AtomicBool,
    seen: Mutex<HashSet<(String, i64, i64)>>,
}

impl Polling {
    fn new(name: &'static str) -> Self {
        Self { name, leave: AtomicBool::new(false), seen: Mutex::default() }
    }

    /// Joins, polls and leaves. Some clients join as soon as they are opened.
    fn run(&self, context: &Context<'_>, fields: &Value) {
        let mut reader = context.open(self.name, fields.clone());
        let see = |records: Vec<Value>| {
            self.seen.lock().unwrap().extend(records.iter().map(position));
        };
        while !self.leave.load(Ordering::Relaxed) {
            see(reader.poll_once());
        }
        see(reader.close());
    }

    fn leave(&self) {
        self.leave.store(true, Ordering::Relaxed);
    }
}

/// Lets its members leave when the scenario ends, well or not: the scope waits for their threads.
struct Leaving<'a>(&'a [Polling]);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(Polling::leave);
    }
}

fn joining_and_leaving(context: &Context<'_>, strategy: &str) {
    let topic = context.topic("records", PARTITIONS);
    let group = context.name("group");
    let mut wire = context.wire();
    let fields = json!({
        "group": group, "topics": [topic], "strategy": strategy, "auto_commit": true,
    });
    let load = context.load(&topic, "");
    let mut settle = |count: usize| {
        wait_until(&format!("{group} settles with {count} members"), || {
            let (state, _, members) = describe(&mut wire, &group);
            is_settled(&state, &members, count, PARTITIONS as usize)
        });
    };
    let members = ["one", "two", "three"].map(Polling::new);
    std::thread::scope(|threads| {
        let leaving = Leaving(&members);
        threads.spawn(|| members[0].run(context, &fields));
        threads.spawn(|| members[1].run(context, &fields));
        settle(2);
        threads.spawn(|| members[2].run(context, &fields));
        settle(3);
        let mut one_leaves = || {
            members[0].leave();
            settle(2);
        };
        // A message that comes while kcat is told to stop is committed and not printed: nothing
        // may be on its way to it then.
        let is_kcat = context.client.id == "kcat";
        if !is_kcat {
            one_leaves();
        }
        load.stop();
        let mut wire = context.wire();
        let stored = log::all_records(&mut wire, &topic, PARTITIONS);
        assert!(!stored.is_empty(), "there was a load");
        let unread = RefCell::new(Vec::new());
        let all_read = || {
            let seen: Vec<_> = members.iter().map(|member| member.seen.lock().unwrap()).collect();
            unread.replace(stored.iter().map(position).collect());
            unread.borrow_mut().retain(|at| !seen.iter().any(|seen| seen.contains(at)));
            unread.borrow().is_empty()
        };
        wait_until_or("the group reads every record", all_read, || {
            let ends = log::end_offsets(&mut wire, &[&topic], PARTITIONS);
            let (_, _, members) = describe(&mut wire, &group);
            format!("of the log up to {ends:?}, not {:?}; members {members:?}", unread.borrow())
        });
        if is_kcat {
            one_leaves();
        }
        if strategy == "cooperative" {
            let (_, protocol, _) = describe(&mut wire, &group);
            assert!(protocol.contains("cooperative"), "the group's protocol is {protocol}");
        }
        drop(leaving);
    });
    let mut wire = context.wire();
    let ends = log::end_offsets(&mut wire, &[&topic], PARTITIONS);
    for (partition, end) in ends.into_iter().enumerate() {
        let (committed, _) = log::committed(&mut wire, &group, &topic, partition as i32);
        // Not every client commits its last records when it leaves (kafka-go).
        assert!(committed <= end, "partition {partition}: {committed} is past {end}");
        assert!(committed > 0 || end == 0, "partition {partition}: nothing is committed");
    }
}

pub fn static_members(context: &Context<'_>) {
    let topic = context.topic("records", 4);
    let group = context.name("group");
    let mut wire = context.wire();
    let fields = |instance: &str| json!({"group": group, "topics": [topic], "instance": instance});
    let mut first = context.open("first", fields("first"));
    let mut second = context.open("second", fields("second"));
    let before = settled(&mut wire, &group, [&mut first, &mut second]);
    first.close();
    let (state, _, members) = describe(&mut wire, &group);
    assert_eq!((state.as_str(), &members), ("Stable", &before), "a static member does not leave");
    let mut first = context.open("again", fields("first"));
    let after = RefCell::new(Vec::new());
    wait_until("the static member is back", || {
        first.poll_once();
        second.poll_once();
        let (state, _, members) = describe(&mut wire, &group);
        assert_eq!(state, "Stable", "nobody else is disturbed");
        after.replace(members);
        named(&after.borrow(), "first").id != named(&before, "first").id
    });
    let after = after.into_inner();
    assert_eq!(named(&after, "second"), named(&before, "second"));
    assert_eq!(named(&after, "first").partitions, named(&before, "first").partitions);
    settled(&mut wire, &group, [&mut first, &mut second]);
    first.close();
    second.close();
}

/// The members once their group is stable, each has read what came to its partitions then, and is
/// still their owner: some clients join again soon after they have joined. The coordinator's word
/// alone does not say that a member has been told what it owns, and librdkafka does not end a
/// consumer whose assignment has come and is not handled yet.
fn settled(wire: &mut Wire, group: &str, mut readers: [&mut Reader<'_>; 2]) -> Vec<Member> {
    for _ in 0..REJOINS_MAX {
        let found = RefCell::new(Vec::new());
        wait_until("two members", || {
            for reader in &mut readers {
                reader.poll_once();
            }
            let (state, _, members) = describe(wire, group);
            found.replace(members);
            is_settled(&state, &found.borrow(), 2, 4)
        });
        let members = found.into_inner();
        let owned = members.iter().flat_map(|member| &member.partitions);
        let written: Vec<_> = owned
            .map(|(topic, partition)| {
                let end = log::end_offsets(wire, &[topic], partition + 1)[*partition as usize];
                log::append(wire, topic, *partition, &[(1, "a record".to_owned())]);
                (topic.clone(), i64::from(*partition), end)
            })
            .collect();
        wait_until("the members read what is written", || {
            for reader in &mut readers {
                reader.poll_once();
            }
            written.iter().all(|at| readers.iter().any(|reader| reader.has_read(at)))
                && readers.iter().all(|reader| written.iter().any(|at| reader.has_read(at)))
        });
        let (state, _, now) = describe(wire, group);
        if state == "Stable" && now == members {
            return members;
        }
    }
    panic!("the members of {group} join again and again");
}

fn named<'m>(members: &'m [Member], instance: &str) -> &'m Member {
    let found = members.iter().find(|member| member.instance.as_deref() == Some(instance));
    found.unwrap_or_else(|| panic!("no member {instance} in {members:?}"))
}
