//! What members of a consumer group say to each other through its coordinator, and who gets which
//! partition: Kafka's `range` assignor.
//!
//! ```text
//! subscription: version INT16 | topics [STRING] | user data BYTES | from version 1 on more
//! assignment:   version INT16 | topics [STRING, partitions [INT32]] | user data BYTES
//! ```
//!
//! Every version begins as version 0 (`ConsumerProtocol` of the Java client), so what a later one
//! appends is passed over. The bytes are of other clients: counts in them are not believed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::client::Place;

/// The name of the assignor, and of the group's protocol.
pub(super) const RANGE: &str = "range";
/// What is written.
const VERSION: i16 = 0;
/// The most bytes of a topic's name (`org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_MAX: usize = 249;

/// A member as the group's leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) member_id: String,
    /// The id of a static member.
    pub(super) instance_id: Option<String>,
    pub(super) topics: BTreeSet<String>,
}

impl Subscriber {
    /// The order in which members take their parts: static ones first, by their own ids
    /// (`AbstractPartitionAssignor.MemberInfo`).
    fn order(&self, other: &Subscriber) -> Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(ours), Some(theirs)) => ours.cmp(theirs),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.member_id.cmp(&other.member_id),
        }
    }
}

/// The partitions of each member: of every topic each subscriber gets one range, and the first
/// ones one partition more where it does not come out even. Racks do not count.
pub(super) fn range(
    members: &[Subscriber],
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, BTreeSet<Place>> {
    let mut assigned: BTreeMap<String, BTreeSet<Place>> =
        members.iter().map(|it| (it.member_id.clone(), BTreeSet::new())).collect();
    for (topic, count) in counts {
        let mut subscribers: Vec<&Subscriber> =
            members.iter().filter(|it| it.topics.contains(topic)).collect();
        subscribers.sort_by(|a, b| a.order(b));
        let Ok(parts) = i32::try_from(subscribers.len()) else { continue };
        if parts == 0 {
            continue;
        }
        let (each, more) = (count / parts, count % parts);
        let mut first = 0;
        for (subscriber, at) in subscribers.into_iter().zip(0..) {
            let end = first + each + i32::from(at < more);
            let places = (first..end).map(|index| (topic.clone(), index));
            assigned.entry(subscriber.member_id.clone()).or_default().extend(places);
            first = end;
        }
    }
    assigned
}

/// What a member says that it wants.
pub(super) fn subscription(topics: &BTreeSet<String>) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    put_count(&mut bytes, topics.len());
    for topic in topics {
        put_text(&mut bytes, topic);
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Reads what a member says that it wants; nothing where it is no subscription.
pub(super) fn read_subscription(mut bytes: Bytes) -> Option<BTreeSet<String>> {
    let _version = bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    // Each takes bytes, so a count that is a lie ends with them.
    (0..count).map(|_| text(&mut bytes)).collect()
}

/// What the leader says that a member gets.
pub(super) fn assignment(places: &BTreeSet<Place>) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in places {
        topics.entry(topic).or_default().push(*index);
    }
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    put_count(&mut bytes, topics.len());
    for (topic, partitions) in topics {
        put_text(&mut bytes, topic);
        put_count(&mut bytes, partitions.len());
        for index in partitions {
            bytes.put_i32(index);
        }
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// Reads what a member gets; nothing where it is no assignment. One without any bytes is of nobody,
/// which coordinators give to members that came too late.
pub(super) fn read_assignment(mut bytes: Bytes) -> Option<BTreeSet<Place>> {
    let mut places = BTreeSet::new();
    if bytes.is_empty() {
        return Some(places);
    }
    let _version = bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        let topic = text(&mut bytes)?;
        for _ in 0..bytes.try_get_i32().ok()? {
            places.insert((topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(places)
}

/// A topic's name. A place of four bytes takes its topic's name along, so no name is longer than
/// Kafka lets them be.
fn text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    if length > TOPIC_NAME_MAX || bytes.remaining() < length {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

/// A topic's name has [`TOPIC_NAME_MAX`] bytes at most.
fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.put_slice(text.as_bytes());
}

fn put_count(bytes: &mut BytesMut, count: usize) {
    bytes.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests;
