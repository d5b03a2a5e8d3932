//! Groups after a restore from the bucket (DESIGN §6): without members, because nobody knows what
//! those were told since, and with a generation above all that were handed out before.

use std::collections::BTreeMap;

use super::log::{LoadedRecord, Record};
use super::record::{GroupValue, Key, Malformed, group_key};
use super::types::Name;

/// By this much the generation rises above the last one that is known: more rebalances than a log
/// can have lost.
const GENERATION_GAP: i32 = 1_000_000;

/// The groups of a partition of `__consumer_offsets`, as it is read. Offsets need nothing: they are
/// what the log says.
#[derive(Debug, Default)]
pub struct RestoredGroups {
    groups: BTreeMap<Name, Known>,
}

#[derive(Debug)]
struct Known {
    protocol_type: Name,
    generation: i32,
}

impl RestoredGroups {
    /// Takes in the next record.
    pub fn add(&mut self, loaded: &LoadedRecord) -> Result<(), Malformed> {
        let Key::Group { group } = Key::decode(&loaded.record.key)? else { return Ok(()) };
        let value = loaded.record.value.as_ref().map(GroupValue::decode).transpose()?;
        match value {
            Some(GroupValue { protocol_type, generation, .. }) => {
                self.groups.insert(group, Known { protocol_type, generation });
            }
            None => drop(self.groups.remove(&group)),
        }
        Ok(())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What is to be appended, a record for each group.
    pub fn into_records(self, wall_ms: i64) -> impl Iterator<Item = Record> {
        self.groups.into_iter().map(move |(group, known)| {
            let value = GroupValue {
                protocol_type: known.protocol_type,
                generation: known.generation.saturating_add(GENERATION_GAP),
                protocol: None,
                leader: None,
                state_timestamp_ms: wall_ms,
                members: Vec::new(),
            };
            Record { key: group_key(&group), value: Some(value.encode()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::record::MemberValue;
    use super::*;

    fn group(name: &str, generation: i32) -> LoadedRecord {
        let member = MemberValue {
            member_id: "member".into(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 1,
            subscription: Bytes::new(),
            assignment: Bytes::new(),
        };
        let value = GroupValue {
            protocol_type: "consumer".into(),
            generation,
            protocol: Some("range".into()),
            leader: Some("member".into()),
            state_timestamp_ms: 5,
            members: vec![member],
        };
        let record = Record { key: group_key(name), value: Some(value.encode()) };
        LoadedRecord { append_time_ms: 1, record }
    }

    #[test]
    fn groups_come_back_without_members_and_far_above_their_last_generation() {
        let mut groups = RestoredGroups::default();
        let mut gone = group("gone", 3);
        gone.record.value = None;
        for loaded in [group("a", 1), group("gone", 3), group("a", 7), group("b", i32::MAX), gone] {
            groups.add(&loaded).unwrap();
        }
        assert_eq!((groups.len(), groups.is_empty()), (2, false));
        let records: Vec<_> = groups.into_records(9).collect();
        let read = |record: &Record| GroupValue::decode(record.value.as_ref().unwrap()).unwrap();
        let expected = GroupValue {
            protocol_type: "consumer".into(),
            generation: 1_000_007,
            protocol: None,
            leader: None,
            state_timestamp_ms: 9,
            members: Vec::new(),
        };
        assert_eq!(records[0].key, group_key("a"));
        assert_eq!(read(&records[0]), expected);
        assert_eq!(read(&records[1]), GroupValue { generation: i32::MAX, ..expected });
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told() {
        let mut short = group("a", 1);
        short.record.value = Some(Bytes::from_static(&[0, 3, 0]));
        assert_eq!(RestoredGroups::default().add(&short), Err(Malformed::Short));
    }
}
