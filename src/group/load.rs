//! A partition of `__consumer_offsets` read back: the last record of each key counts.

use std::collections::HashMap;

use tracing::warn;

use super::expiry::Age;
use super::group::{ClassicGroup, Turn};
use super::log::LoadedRecord;
use super::member::Member;
use super::metrics::Reason;
use super::offsets::{CommittedOffset, Offsets};
use super::record::{GroupValue, Key, Malformed, OffsetValue};
use super::types::{Name, State};

/// The groups of a partition as the log has them, while it is read.
#[derive(Debug, Default)]
pub(super) struct Image {
    groups: HashMap<Name, Loaded>,
    /// Records of types that are not ours.
    unknown: u64,
}

#[derive(Debug, Default)]
struct Loaded {
    group: Option<(GroupValue, i64)>,
    offsets: HashMap<(Name, i32), (OffsetValue, i64)>,
}

impl Image {
    /// Takes in the next record.
    pub(super) fn add(&mut self, loaded: &LoadedRecord) -> Result<(), Malformed> {
        let LoadedRecord { append_time_ms, record } = loaded;
        match Key::decode(&record.key)? {
            Key::Group { group } => {
                let value = record.value.as_ref().map(GroupValue::decode).transpose()?;
                self.entry(&group, |loaded| {
                    loaded.group = value.map(|value| (value, *append_time_ms));
                });
            }
            Key::Offset { group, topic, partition } => {
                let value = record.value.as_ref().map(OffsetValue::decode).transpose()?;
                self.entry(&group, |loaded| match value {
                    Some(value) => {
                        loaded.offsets.insert((topic, partition), (value, *append_time_ms));
                    }
                    None => {
                        loaded.offsets.remove(&(topic, partition));
                    }
                });
            }
            Key::Unknown(_) => self.unknown += 1,
        }
        Ok(())
    }

    fn entry(&mut self, group: &Name, change: impl FnOnce(&mut Loaded)) {
        let loaded = self.groups.entry(group.clone()).or_default();
        change(loaded);
        if loaded.group.is_none() && loaded.offsets.is_empty() {
            self.groups.remove(group);
        }
    }

    /// The groups, every member with a full session from `turn.now` on; ages are measured from
    /// `log_now_ms`, what the log's clock shows.
    pub(super) fn finish(
        self,
        partition: i32,
        log_now_ms: i64,
        turn: &mut Turn<'_>,
    ) -> Vec<(ClassicGroup, Offsets)> {
        if self.unknown > 0 {
            warn!(
                partition,
                records = self.unknown,
                "__consumer_offsets has records of group types that this broker does not know"
            );
        }
        let mut groups = Vec::with_capacity(self.groups.len());
        for (id, loaded) in self.groups {
            let mut group = ClassicGroup::new(id);
            if let Some((value, append_ms)) = loaded.group {
                let age = Age::in_log(turn.now, append_ms, log_now_ms);
                group.load(value, age, turn);
            }
            let offset = |((topic, partition), (value, append_ms))| {
                let age = Age::in_log(turn.now, append_ms, log_now_ms);
                (topic, partition, Some(CommittedOffset::loaded(value, age)))
            };
            let mut offsets = Offsets::default();
            offsets.apply(loaded.offsets.into_iter().map(offset).collect());
            groups.push((group, offsets));
        }
        groups
    }
}

impl ClassicGroup {
    fn load(&mut self, value: GroupValue, age: Age, turn: &mut Turn<'_>) {
        self.is_recorded = true;
        self.generation = value.generation;
        self.state_timestamp_ms = value.state_timestamp_ms;
        self.state_since = (value.state_timestamp_ms != -1).then_some(age);
        self.leader = value.leader;
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in value.members {
            self.add(Member::loaded(member, protocol.clone(), turn.now), &value.protocol_type);
        }
        self.protocol_name = value.protocol;
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        if self.members.is_empty() {
            self.leader = None;
        } else {
            self.state = State::Stable;
            let known = self.leader.as_ref().is_some_and(|id| self.members.contains(id));
            if !known {
                self.leader = self.members.iter().next().map(|member| member.id.clone());
            }
        }
        if self.members.len() > turn.config.max_size {
            // The limit was lowered; a rebalance lets members commit before some are refused.
            self.prepare_rebalance(turn, Reason::GroupFull);
        }
    }
}
