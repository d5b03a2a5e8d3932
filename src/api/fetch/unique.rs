//! What a request lists, each partition once: a few bytes must not stand for a read, a wait and an
//! answer each as often as they are repeated.

use std::collections::HashMap;

use crate::broker::fetch_sessions::{Listed, SessionPartition, SessionTopic};

/// Where a partition is listed, and which it is: topics are told apart by numbers. Sorted, the same
/// partitions are neighbours in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    topic: u32,
    index: i32,
    /// Position of its topic in the list, and of it there.
    at: (u32, u32),
}

impl Place {
    fn is_same(&self, other: &Place) -> bool {
        (self.topic, self.index) == (other.topic, other.index)
    }
}

/// Leaves one of the partitions that are listed several times, where it is first and as it is last,
/// and the topics that have one: the map in Kafka's `FetchRequest.fetchData`.
pub(super) fn make_unique(topics: &mut Vec<Listed<SessionPartition>>) {
    let gone = merge(topics);
    let mut gone = gone.into_iter().peekable();
    for (topic, at) in topics.iter_mut().zip(0_u32..) {
        if gone.peek().is_none() {
            break;
        }
        let mut places = (0_u32..).map(|partition| (at, partition));
        topic.partitions.retain(|_| {
            let place = places.next();
            gone.next_if(|gone| Some(*gone) == place).is_none()
        });
    }
    topics.retain(|topic| !topic.partitions.is_empty());
}

/// Makes the first of the same partitions what the last is; where the others are, in order.
fn merge(topics: &mut [Listed<SessionPartition>]) -> Vec<(u32, u32)> {
    // What clients send that list a topic in order, or one partition.
    if let [only] = topics
        && only.partitions.is_sorted_by(|one, next| one.index < next.index)
    {
        return Vec::new();
    }
    let mut places = places(topics);
    places.sort_unstable();
    let mut gone = Vec::new();
    for same in places.chunk_by(Place::is_same) {
        let [first, others @ ..] = same else { continue };
        if let Some(last) = others.last() {
            *at(topics, first) = *at(topics, last);
            gone.extend(others.iter().map(|place| place.at));
        }
    }
    gone.sort_unstable();
    gone
}

fn places(topics: &[Listed<SessionPartition>]) -> Vec<Place> {
    let mut numbers: HashMap<&SessionTopic, u32> = HashMap::with_capacity(topics.len());
    let mut places = Vec::with_capacity(topics.iter().map(|topic| topic.partitions.len()).sum());
    for (listed, topic_at) in topics.iter().zip(0_u32..) {
        let topic = *numbers.entry(&listed.topic).or_insert(topic_at);
        let partitions = listed.partitions.iter().zip(0_u32..);
        places.extend(partitions.map(|(partition, partition_at)| Place {
            topic,
            index: partition.index,
            at: (topic_at, partition_at),
        }));
    }
    places
}

fn at<'a>(topics: &'a mut [Listed<SessionPartition>], place: &Place) -> &'a mut SessionPartition {
    let (topic, partition) = place.at;
    &mut topics[topic as usize].partitions[partition as usize]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::types::TopicId;

    type Flat = Vec<(String, i32, i64)>;

    fn listed(topics: &[(u8, Vec<i32>)]) -> Vec<Listed<SessionPartition>> {
        let mut number = 0;
        let mut partition = |index: &i32| {
            number += 1;
            SessionPartition {
                fetch_offset: number,
                index: *index,
                max_bytes: 1,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
            }
        };
        let topics = topics.iter().map(|(name, partitions)| Listed {
            topic: SessionTopic {
                id: TopicId::ZERO,
                name: Some(Arc::from(format!("topic {name}"))),
            },
            partitions: partitions.iter().map(&mut partition).collect(),
        });
        topics.collect()
    }

    fn flat(topics: &[Listed<SessionPartition>]) -> Flat {
        let of = |listed: &Listed<SessionPartition>| -> Flat {
            let name = listed.topic.name.as_deref().unwrap().to_owned();
            let partitions = listed.partitions.iter();
            partitions.map(|p| (name.clone(), p.index, p.fetch_offset)).collect()
        };
        topics.iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn it_is_what_a_map_that_keeps_its_order_would_hold(
            topics in prop::collection::vec(
                (0..4_u8, prop::collection::vec(0..6_i32, 0..8)),
                0..6,
            ),
        ) {
            let mut unique = listed(&topics);
            let mut expected = Flat::new();
            for (topic, index, offset) in flat(&unique) {
                match expected.iter_mut().find(|known| known.0 == topic && known.1 == index) {
                    Some(known) => known.2 = offset,
                    None => expected.push((topic, index, offset)),
                }
            }
            make_unique(&mut unique);
            prop_assert_eq!(flat(&unique), expected);
            prop_assert!(unique.iter().all(|topic| !topic.partitions.is_empty()));
        }
    }
}
