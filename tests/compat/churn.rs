//! Fifty members over a hundred partitions, coming and going: no partition is owned twice, neither in
//! one generation nor at one time.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::clients::folder;
use crate::harness::{Broker, Options};

const TOPIC: &str = "churned";
const PARTITIONS: usize = 100;
const MEMBERS: usize = 50;
const CHANGES: usize = 20;

#[test]
fn eager_members_never_own_a_partition_twice() {
    churn("range");
}

#[test]
fn cooperative_members_never_own_a_partition_twice() {
    churn("cooperative-sticky");
}

/// Who owns what, as the members say it.
#[derive(Default)]
struct Owners {
    now: HashMap<u64, u64>,
    /// The owner of a partition in a generation.
    of: HashMap<(u64, u64), u64>,
    generations: BTreeSet<u64>,
    /// The most partitions that had an owner at one time.
    most: usize,
}

impl Owners {
    fn take(&mut self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap();
        let (member, generation) = (number("member"), number("generation"));
        let partitions = event.get("partitions").and_then(Value::as_array).unwrap();
        let partitions = partitions.iter().map(|partition| partition.as_u64().unwrap());
        match event.get("event").and_then(Value::as_str).unwrap() {
            "assigned" => {
                self.generations.insert(generation);
                for partition in partitions {
                    let before = self.now.insert(partition, member);
                    assert_eq!(before, None, "partition {partition} had an owner before {line}");
                    self.own(partition, generation, member);
                }
            }
            "revoked" => {
                for partition in partitions {
                    let owner = self.now.remove(&partition);
                    assert_eq!(owner, Some(member), "partition {partition} before {line}");
                }
            }
            _ => panic!("a member lost its membership: {line}"),
        }
        // What a member keeps through a cooperative rebalance it owns in the new generation, too.
        let kept: Vec<u64> =
            self.now.iter().filter(|(_, owner)| **owner == member).map(|(at, _)| *at).collect();
        for partition in kept {
            self.own(partition, generation, member);
        }
        self.most = self.most.max(self.now.len());
    }

    fn own(&mut self, partition: u64, generation: u64, member: u64) {
        let owner = *self.of.entry((partition, generation)).or_insert(member);
        assert_eq!(
            owner, member,
            "partition {partition} is owned twice in generation {generation}"
        );
    }
}

fn churn(balancer: &str) {
    let broker = Broker::start_with(Options::new().set("num.partitions", PARTITIONS));
    let partitions = crate::judge::partition_count(&mut broker.connect(), TOPIC);
    assert_eq!(partitions as usize, PARTITIONS);
    let mut command = Command::new(folder().join("churn"));
    command.args([&broker.address(), TOPIC, &PARTITIONS.to_string(), "churners", balancer]);
    command.args([MEMBERS.to_string(), CHANGES.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut owners = Owners::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        owners.take(&line.unwrap());
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(owners.most, PARTITIONS, "every partition had an owner at some time");
    let generations = owners.generations.len();
    assert!(generations >= CHANGES / 2, "{generations} generations with assignments");
    assert!(owners.now.is_empty(), "the members leave with nothing");
}
