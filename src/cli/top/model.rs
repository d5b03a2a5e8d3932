//! The picture: figures from two looks at a cluster. Pure, so that tests own every number.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::session::{Partition, Place, Topic};
use super::cluster::Told;
use super::exposition::Values;
use super::groups::Group;
use super::process::{Looks, Metric, Process};
use crate::clock::Instant;

/// A look at a cluster, and at metrics if there are any.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// The same moment in milliseconds since 1970.
    pub(super) wall_ms: i64,
    pub(super) told: Told,
    /// Where metrics were read, and what was there.
    pub(super) metrics: Option<(String, Values)>,
}

/// What is shown. A rate is per second, and nothing where there was only one look.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Picture {
    pub(super) cluster_id: Option<String>,
    pub(super) controller: Option<i32>,
    /// When the last look was, in milliseconds since 1970.
    pub(super) time: i64,
    /// The time that rates are over, but those of groups.
    pub(super) interval_seconds: Option<f64>,
    /// The time that rates of groups are over: longer, since consumers commit now and then.
    pub(super) group_interval_seconds: Option<f64>,
    pub(super) nodes: Vec<NodeRow>,
    pub(super) topics: Vec<TopicRow>,
    pub(super) groups: Vec<GroupRow>,
    /// How many groups were not asked for, since there are too many.
    pub(super) groups_omitted: usize,
    /// What a Tidegate's metrics tell.
    pub(super) process: Option<Process>,
    /// What could not be learnt.
    pub(super) notes: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct NodeRow {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) rack: Option<String>,
    pub(super) controller: bool,
    /// Partitions that it leads.
    pub(super) leads: usize,
    /// Partitions of which it has a replica.
    pub(super) replicas: usize,
    pub(super) log_bytes: Option<i64>,
    pub(super) volume_free_bytes: Option<i64>,
    pub(super) volume_bytes: Option<i64>,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct TopicRow {
    pub(super) name: String,
    pub(super) internal: bool,
    pub(super) partitions: usize,
    pub(super) replication_factor: usize,
    /// Offsets that were given out, those that stand for no record included.
    pub(super) records_in_per_second: Option<f64>,
    /// By Tidegate's metrics.
    pub(super) bytes_in_per_second: Option<f64>,
    /// By Tidegate's metrics.
    pub(super) bytes_out_per_second: Option<f64>,
    /// Of the leaders' replicas.
    pub(super) size_bytes: Option<i64>,
    /// Partitions that have a leader, and fewer replicas in sync than replicas.
    pub(super) under_replicated: usize,
    /// Partitions without a leader.
    pub(super) offline: usize,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct GroupRow {
    pub(super) group: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) state: Option<String>,
    pub(super) members: Option<usize>,
    pub(super) coordinator: i32,
    /// Of all partitions of which it has committed an offset; nothing where there is none.
    pub(super) lag: Option<i64>,
    /// The age of the first record that it has not consumed, by Tidegate's metrics.
    pub(super) lag_seconds: Option<f64>,
    /// Offsets by which what it has committed moved on.
    pub(super) consumed_per_second: Option<f64>,
    /// Offsets given out in the partitions that it has committed an offset of.
    pub(super) produced_per_second: Option<f64>,
    /// How long until the lag is 0, if all goes on as it does.
    pub(super) catch_up_seconds: Option<f64>,
    /// It has a lag and, at these rates, always will.
    pub(super) never_catches_up: bool,
}

impl Picture {
    /// The picture of `now`: rates since `before`, and those of groups since `long_before`.
    pub(super) fn of(now: &Look, before: Option<&Look>, long_before: Option<&Look>) -> Self {
        let interval = |before: Option<&Look>| {
            let seconds = now.at.saturating_duration_since(before?.at).as_secs_f64();
            (seconds > 0.0).then_some(seconds)
        };
        let (short, long) = (interval(before), interval(long_before));
        let looks = now.metrics.as_ref().map(|(url, values)| {
            let of_then = before.and_then(|then| then.metrics.as_ref());
            let of_then = of_then.filter(|(then, _)| then == url).map(|(_, values)| values);
            (url, Looks::new(of_then.zip(short), values))
        });
        let told = &now.told;
        let moved = before.zip(short).map(|(before, seconds)| Moved::new(before, now, seconds));
        let moved_long =
            long_before.zip(long).map(|(before, seconds)| Moved::new(before, now, seconds));
        let mut notes = told.notes.clone();
        if let Some((_, values)) = &now.metrics
            && values.wrong_lines() > 0
        {
            notes.push(format!("metrics: {} lines could not be read", values.wrong_lines()));
        }
        Self {
            cluster_id: told.cluster_id.clone(),
            controller: told.controller,
            time: now.wall_ms,
            interval_seconds: short,
            group_interval_seconds: long,
            nodes: nodes(told),
            topics: topics(told, moved.as_ref(), looks.as_ref().map(|(_, looks)| looks)),
            groups: groups(told, moved_long.as_ref(), looks.as_ref().map(|(_, looks)| looks)),
            groups_omitted: told.groups_omitted,
            process: looks.map(|(url, looks)| Process::of(url, &looks, now.wall_ms)),
            notes,
        }
    }
}

/// How far offsets moved on between two looks.
struct Moved<'a> {
    before: &'a Told,
    now: &'a Told,
    seconds: f64,
    /// What groups had committed.
    committed: BTreeMap<&'a str, &'a BTreeMap<Place, i64>>,
}

impl<'a> Moved<'a> {
    fn new(before: &'a Look, now: &'a Look, seconds: f64) -> Self {
        let groups = before.told.groups.iter();
        let committed =
            groups.filter_map(|group| Some((group.name.as_str(), group.committed.as_ref()?)));
        let committed = committed.collect();
        Self { before: &before.told, now: &now.told, seconds, committed }
    }

    /// Of a partition's end. One that went back is another partition of the same name.
    fn end(&self, place: &Place) -> Option<i64> {
        let (before, now) = (self.before.ends.get(place)?, self.now.ends.get(place)?);
        Some(now.checked_sub(*before)?).filter(|moved| *moved >= 0)
    }

    /// Per second, of the partitions of which it is known.
    fn ends<'b>(&self, places: impl Iterator<Item = &'b Place>) -> Option<f64> {
        self.rate(places.filter_map(|place| self.end(place)))
    }

    /// Of what a group has committed. Where it went back it consumed nothing: it was reset.
    fn committed(&self, group: &Group) -> Option<f64> {
        let before = self.committed.get(group.name.as_str())?;
        let now = group.committed.as_ref()?;
        self.rate(
            now.iter().filter_map(|(place, offset)| {
                Some(offset.checked_sub(*before.get(place)?)?.max(0))
            }),
        )
    }

    fn rate(&self, moved: impl Iterator<Item = i64>) -> Option<f64> {
        Some(moved.reduce(i64::saturating_add)? as f64 / self.seconds)
    }
}

fn nodes(told: &Told) -> Vec<NodeRow> {
    let mut leads: BTreeMap<i32, usize> = BTreeMap::new();
    let mut replicas: BTreeMap<i32, usize> = BTreeMap::new();
    for partition in told.topics.iter().flat_map(|topic| &topic.partitions) {
        if let Some(leader) = partition.leader {
            *leads.entry(leader).or_default() += 1;
        }
        for node in &partition.replicas {
            *replicas.entry(*node).or_default() += 1;
        }
    }
    let mut log_bytes: BTreeMap<i32, i64> = BTreeMap::new();
    for ((node, _), bytes) in &told.sizes.replicas {
        let all = log_bytes.entry(*node).or_default();
        *all = all.saturating_add(*bytes);
    }
    let row = |node: &super::cluster::Node| {
        let volume = told.sizes.volumes.get(&node.id);
        NodeRow {
            id: node.id,
            address: node.address.clone(),
            rack: node.rack.clone(),
            controller: told.controller == Some(node.id),
            leads: leads.get(&node.id).copied().unwrap_or(0),
            replicas: replicas.get(&node.id).copied().unwrap_or(0),
            log_bytes: log_bytes.get(&node.id).copied(),
            volume_free_bytes: volume.map(|(free, _)| *free),
            volume_bytes: volume.map(|(_, total)| *total),
        }
    };
    told.nodes.iter().map(row).collect()
}

fn topics(told: &Told, moved: Option<&Moved<'_>>, looks: Option<&Looks<'_>>) -> Vec<TopicRow> {
    let bytes = |metric| looks.map(|looks| looks.rates_by(metric, "topic")).unwrap_or_default();
    let (bytes_in, bytes_out) = (bytes(Metric::TopicReceived), bytes(Metric::TopicSent));
    let row = |topic: &Topic| {
        let count = |is_meant: fn(&Partition) -> bool| {
            topic.partitions.iter().filter(|partition| is_meant(partition)).count()
        };
        let places: Vec<Place> =
            topic.partitions.iter().map(|it| (topic.name.clone(), it.index)).collect();
        TopicRow {
            name: topic.name.clone(),
            internal: topic.internal,
            partitions: topic.partitions.len(),
            replication_factor: topic
                .partitions
                .iter()
                .map(|it| it.replicas.len())
                .max()
                .unwrap_or(0),
            records_in_per_second: moved.and_then(|moved| moved.ends(places.iter())),
            bytes_in_per_second: bytes_in.get(&topic.name).copied(),
            bytes_out_per_second: bytes_out.get(&topic.name).copied(),
            size_bytes: size(told, topic),
            under_replicated: count(|it| it.leader.is_some() && it.isr.len() < it.replicas.len()),
            offline: count(|it| it.leader.is_none()),
        }
    };
    told.topics.iter().map(row).collect()
}

fn size(told: &Told, topic: &Topic) -> Option<i64> {
    let of_leader = |partition: &Partition| {
        let place = (topic.name.clone(), partition.index);
        told.sizes.replicas.get(&(partition.leader?, place)).copied()
    };
    topic.partitions.iter().filter_map(of_leader).reduce(i64::saturating_add)
}

fn groups(told: &Told, moved: Option<&Moved<'_>>, looks: Option<&Looks<'_>>) -> Vec<GroupRow> {
    let ages = looks.map(|looks| looks.greatest_by(Metric::GroupLagSeconds, "group"));
    let ages = ages.unwrap_or_default();
    let row = |group: &Group| {
        let none = BTreeMap::new();
        let committed = group.committed.as_ref().unwrap_or(&none);
        let lags = committed.iter().filter_map(|(place, offset)| {
            Some(told.ends.get(place)?.saturating_sub(*offset).max(0))
        });
        let lag = lags.reduce(i64::saturating_add);
        let consumed = moved.and_then(|moved| moved.committed(group));
        let produced = moved.and_then(|moved| moved.ends(committed.keys()));
        let (catch_up_seconds, never_catches_up) = catch_up(lag, consumed, produced);
        GroupRow {
            group: group.name.clone(),
            kind: group.kind.clone(),
            state: group.state.clone(),
            members: group.members,
            coordinator: group.coordinator,
            lag,
            lag_seconds: ages.get(&group.name).copied(),
            consumed_per_second: consumed,
            produced_per_second: produced,
            catch_up_seconds,
            never_catches_up,
        }
    };
    told.groups.iter().map(row).collect()
}

/// How long it takes, and whether it takes for ever.
fn catch_up(lag: Option<i64>, consumed: Option<f64>, produced: Option<f64>) -> (Option<f64>, bool) {
    match (lag, consumed.zip(produced)) {
        (Some(0), _) => (Some(0.0), false),
        (Some(lag), Some((consumed, produced))) if consumed > produced => {
            (Some(lag as f64 / (consumed - produced)), false)
        }
        (Some(_), Some(_)) => (None, true),
        _ => (None, false),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "figures of whole numbers are exact")]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::cluster::{Node, Sizes};
    use super::*;

    pub(in super::super) fn topic(name: &str, partitions: Vec<Partition>) -> Topic {
        let internal = name.starts_with("__");
        Topic { name: name.to_owned(), id: None, internal, partitions }
    }

    pub(in super::super) fn partition(index: i32, leader: Option<i32>, isr: &[i32]) -> Partition {
        let (replicas, isr) = (vec![1, 2], isr.to_vec());
        Partition { index, leader, replicas, isr, offline: Vec::new() }
    }

    fn place(topic: &str, index: i32) -> Place {
        (topic.to_owned(), index)
    }

    fn group(name: &str, committed: &[(&str, i32, i64)]) -> Group {
        let committed =
            committed.iter().map(|(topic, index, offset)| (place(topic, *index), *offset));
        Group {
            name: name.to_owned(),
            state: Some("Stable".to_owned()),
            members: Some(2),
            committed: Some(committed.collect()),
            ..Group::default()
        }
    }

    /// A look so many seconds after the first, with these ends and groups.
    fn look(start: Instant, seconds: u64, ends: &[(&str, i32, i64)], groups: Vec<Group>) -> Look {
        let ends = ends.iter().map(|(topic, index, end)| (place(topic, *index), *end)).collect();
        let told = Told {
            controller: Some(2),
            nodes: [1, 2]
                .map(|id| Node { id, address: format!("k{id}:9092"), rack: None })
                .to_vec(),
            topics: vec![
                topic("a", vec![partition(0, Some(1), &[1, 2]), partition(1, Some(2), &[2])]),
                topic("b", vec![partition(0, None, &[])]),
            ],
            ends,
            sizes: Sizes {
                replicas: [
                    ((1, place("a", 0)), 70),
                    ((2, place("a", 0)), 71),
                    ((2, place("a", 1)), 5),
                ]
                .into(),
                volumes: [(1, (10, 100))].into(),
            },
            groups,
            ..Told::default()
        };
        let at = start + Duration::from_secs(seconds);
        Look { at, wall_ms: 1_000 * seconds as i64, told, metrics: None }
    }

    fn start() -> Instant {
        crate::clock::Clock::system().now()
    }

    #[test]
    fn a_first_look_has_no_rates() {
        let now = look(start(), 0, &[("a", 0, 10)], vec![group("g", &[("a", 0, 4)])]);
        let picture = Picture::of(&now, None, None);
        assert_eq!((picture.interval_seconds, picture.group_interval_seconds), (None, None));
        assert_eq!(picture.topics[0].records_in_per_second, None);
        let group = &picture.groups[0];
        assert_eq!((group.lag, group.consumed_per_second), (Some(6), None));
        assert_eq!((group.catch_up_seconds, group.never_catches_up), (None, false));
    }

    #[test]
    fn topics_and_nodes_are_counted() {
        let now = look(start(), 0, &[], Vec::new());
        let picture = Picture::of(&now, None, None);
        let [a, b] = &picture.topics[..] else { panic!("{picture:?}") };
        assert_eq!((a.partitions, a.replication_factor, a.size_bytes), (2, 2, Some(75)));
        assert_eq!((a.under_replicated, a.offline), (1, 0));
        assert_eq!((b.under_replicated, b.offline, b.size_bytes), (0, 1, None));
        let [one, two] = &picture.nodes[..] else { panic!("{picture:?}") };
        assert_eq!((one.leads, one.replicas, one.log_bytes), (1, 3, Some(70)));
        assert_eq!((one.volume_free_bytes, one.volume_bytes), (Some(10), Some(100)));
        assert_eq!((two.leads, two.log_bytes, two.volume_bytes), (1, Some(76), None));
        assert!(two.controller && !one.controller);
    }

    #[test]
    fn records_in_are_the_difference_of_the_ends() {
        let start = start();
        let before = look(start, 0, &[("a", 0, 10), ("a", 1, 500), ("b", 0, 1)], Vec::new());
        // The second partition was made anew, and of b nobody tells.
        let now = look(start, 4, &[("a", 0, 50), ("a", 1, 3)], Vec::new());
        let picture = Picture::of(&now, Some(&before), Some(&before));
        assert_eq!(picture.interval_seconds, Some(4.0));
        assert_eq!(picture.topics[0].records_in_per_second, Some(10.0));
        assert_eq!(picture.topics[1].records_in_per_second, None);
        let same = Picture::of(&now, Some(&now), Some(&now));
        assert_eq!(same.topics[0].records_in_per_second, None, "no time has passed");
    }

    #[test]
    fn a_group_catches_up_or_never_does() {
        let start = start();
        let of = |lazy: i64, quick: i64, reset: i64| {
            vec![
                group("done", &[("a", 1, 7)]),
                group("lazy", &[("a", 0, lazy)]),
                group("none", &[]),
                group("quick", &[("a", 0, quick)]),
                group("reset", &[("a", 0, reset)]),
            ]
        };
        let before = look(start, 0, &[("a", 0, 100), ("a", 1, 7)], of(10, 10, 90));
        let now = look(start, 10, &[("a", 0, 200), ("a", 1, 7)], of(20, 140, 0));
        let picture = Picture::of(&now, None, Some(&before));
        assert_eq!(picture.group_interval_seconds, Some(10.0));
        let [done, lazy, none, quick, reset] = &picture.groups[..] else { panic!("{picture:?}") };
        assert_eq!((done.lag, done.catch_up_seconds), (Some(0), Some(0.0)));
        assert_eq!((lazy.lag, lazy.consumed_per_second), (Some(180), Some(1.0)));
        assert_eq!(lazy.produced_per_second, Some(10.0));
        assert_eq!((lazy.catch_up_seconds, lazy.never_catches_up), (None, true));
        assert_eq!((none.lag, none.never_catches_up), (None, false));
        assert_eq!((quick.lag, quick.consumed_per_second), (Some(60), Some(13.0)));
        assert_eq!((quick.catch_up_seconds, quick.never_catches_up), (Some(20.0), false));
        assert_eq!((reset.lag, reset.consumed_per_second), (Some(200), Some(0.0)));
    }

    #[test]
    fn metrics_of_topics_and_groups_stand_beside_them() {
        let page = |n: u32| {
            let page = format!(
                "tidegate_topic_received_bytes_total{{topic=\"a\"}} {n}\n\
                 tidegate_consumer_group_lag_seconds{{group=\"g\",topic=\"a\"}} 3\n\
                 tidegate_consumer_group_lag_seconds{{group=\"g\",topic=\"b\"}} 8\nwrong\n"
            );
            Values::parse(page.as_bytes(), super::super::process::is_wanted)
        };
        let start = start();
        let with = |seconds, url: &str, n| {
            let mut look = look(start, seconds, &[], vec![group("g", &[])]);
            look.metrics = Some((url.to_owned(), page(n)));
            look
        };
        let (before, now) = (with(0, "u", 0), with(2, "u", 30));
        let picture = Picture::of(&now, Some(&before), Some(&before));
        assert_eq!(picture.topics[0].bytes_in_per_second, Some(15.0));
        assert_eq!(picture.topics[1].bytes_in_per_second, None);
        assert_eq!(picture.groups[0].lag_seconds, Some(8.0));
        assert_eq!(picture.notes, ["metrics: 1 lines could not be read"]);
        let elsewhere = Picture::of(&now, Some(&with(0, "v", 0)), None);
        assert_eq!(elsewhere.topics[0].bytes_in_per_second, None);
    }
}
