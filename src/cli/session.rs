//! What every command about topics, groups and clusters asks: where partitions are, their offsets,
//! and the same again where a cluster is just about to be able to answer.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{BrokerId, GroupId, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::{Connection, Opened};
use super::output::{Failure, end};
use super::run_to_end;
use crate::client::{Cluster, ClusterError, Leaders, ListedOffset, Listing, Target};
pub(super) use crate::client::{EARLIEST, LATEST, Place};
use crate::clock::Clock;
use crate::config::nearest;
use crate::protocol::error::ErrorCode;
use crate::protocol::versions::VersionRange;

/// Every version that both sides have.
pub(super) const ANY_VERSION: VersionRange = VersionRange::new(0, i16::MAX);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How often something that passes is tried.
const TRIES: u32 = 100;
/// How long partitions without a leader are asked for offsets.
const OFFSETS_PATIENCE: Duration = Duration::from_secs(1);
/// How long topics that were created may be unknown to the nodes that are asked.
const CREATED_PATIENCE: Duration = Duration::from_secs(10);

/// Does a command's work with the cluster that its flags name, for at most the time that they give
/// it, and gives the exit code: 0 done, 1 failed, 2 asked wrongly.
pub(super) fn carry_out(
    connection: &Connection,
    work: impl AsyncFnOnce(&Session) -> Result<(), Failure>,
) -> ExitCode {
    let opened = match connection.open() {
        Ok(opened) => opened,
        Err(failure) => return end(Err(failure)),
    };
    let session = Session::new(opened.clone());
    let work = opened.within(work(&session));
    run_to_end(Box::pin(work)).map_or_else(|code| code, end)
}

/// The same for a command that goes on for as long as it is wanted: only what it gives a time to
/// ([`Session::within`]) has one.
pub(super) fn carry_on(
    connection: &Connection,
    work: impl AsyncFnOnce(&Session) -> Result<(), Failure>,
) -> ExitCode {
    let session = match connection.open() {
        Ok(opened) => Session::new(opened),
        Err(failure) => return end(Err(failure)),
    };
    run_to_end(Box::pin(work(&session))).map_or_else(|code| code, end)
}

/// A cluster, for the length of one command.
#[derive(Clone, Debug)]
pub(super) struct Session {
    opened: Opened,
    leaders: Leaders,
}

/// A topic as metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) name: String,
    /// Nothing from brokers before Kafka 2.8.
    pub(super) id: Option<String>,
    pub(super) internal: bool,
    pub(super) partitions: Vec<Partition>,
}

/// A partition as metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) index: i32,
    /// Nothing where there is none.
    pub(super) leader: Option<i32>,
    pub(super) replicas: Vec<i32>,
    pub(super) isr: Vec<i32>,
    pub(super) offline: Vec<i32>,
}

/// What a leader says of a partition: an offset, -1 where there is none, or an error code.
pub(super) type Offsets = BTreeMap<Place, Result<i64, String>>;

impl Session {
    /// Nothing is connected yet.
    pub(super) fn new(opened: Opened) -> Self {
        let leaders = Leaders::new(&opened.cluster);
        Self { opened, leaders }
    }

    /// The cluster.
    pub(super) fn cluster(&self) -> &Cluster {
        &self.opened.cluster
    }

    /// Who leads which partition.
    pub(super) fn leaders(&self) -> &Leaders {
        &self.leaders
    }

    /// Does a part of a command's work, for at most the time that a command may take.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.opened.within(work).await
    }

    /// Time.
    pub(super) fn clock(&self) -> &Clock {
        &self.opened.clock
    }

    /// Now, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> i64 {
        self.opened.clock.wall_ms()
    }

    /// How long the cluster may take for what it is told to do.
    pub(super) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.opened.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks in the highest common version.
    pub(super) async fn ask<R: Request + Clone>(
        &self,
        target: Target<'_>,
        request: &R,
    ) -> Result<R::Response, ClusterError> {
        self.cluster().ask(target, ANY_VERSION, |_| request.clone()).await
    }

    /// Asks until the answer's code is none that passes: `code` finds it.
    pub(super) async fn ask_patiently<R: Request + Clone>(
        &self,
        target: Target<'_>,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClusterError> {
        self.patiently(|| self.ask(target, request), |answer| is_retriable(code(answer))).await
    }

    /// Does `work` again while its answer, or the refusal of it, is one that passes.
    pub(super) async fn patiently<T>(
        &self,
        work: impl AsyncFn() -> Result<T, ClusterError>,
        passes: impl Fn(&T) -> bool,
    ) -> Result<T, ClusterError> {
        let mut tries = 1;
        loop {
            let answered = Box::pin(work()).await;
            let again = match &answered {
                Ok(answer) => passes(answer),
                Err(ClusterError::Refused { code, .. }) => is_retriable(*code),
                Err(_) => false,
            };
            if !again || tries == TRIES {
                return answered;
            }
            tries += 1;
            self.opened.clock.sleep(PAUSE).await;
        }
    }

    /// The node that coordinates a group.
    pub(super) async fn coordinator(&self, group: &str) -> Result<i32, Failure> {
        let found = self.patiently(|| self.cluster().coordinator(group), |_| false).await;
        found.map_err(Failure::failed)
    }

    /// Every topic, by name.
    pub(super) async fn all_topics(&self) -> Result<Vec<Topic>, Failure> {
        let response = self.cluster().metadata(None, false).await.map_err(Failure::failed)?;
        let mut topics: Vec<Topic> = response.topics.iter().filter_map(topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// These topics, in their order. One that is not there is an error that says which is meant.
    pub(super) async fn topics(&self, names: &[String]) -> Result<Vec<Topic>, Failure> {
        let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        let asked = || self.cluster().metadata(Some(&wanted), false);
        // Leaders are being elected, or the topic is: that passes.
        let passes =
            |code: i16| code != ErrorCode::UnknownTopicOrPartition.code() && is_retriable(code);
        let response = self
            .patiently(asked, |it| it.topics.iter().any(|topic| passes(topic.error_code)))
            .await
            .map_err(Failure::failed)?;
        let mut found = Vec::new();
        for name in names {
            let of_name = |topic: &&MetadataResponseTopic| {
                topic.name.as_ref().is_some_and(|it| it.as_str() == name)
            };
            let answer = response.topics.iter().find(of_name);
            match answer.map(|it| (it.error_code, topic(it))) {
                Some((0, Some(topic))) => found.push(topic),
                Some((code, _)) if code != ErrorCode::UnknownTopicOrPartition.code() => {
                    return Err(Failure::Failed(format!("topic {name}: {}", explain(code, None))));
                }
                _ => return Err(self.missing_topic(name).await),
            }
        }
        Ok(found)
    }

    /// Waits until topics that were just created have leaders: a cluster's nodes learn of them one
    /// after the other.
    pub(super) async fn created(&self, topics: &[&str]) -> Result<(), Failure> {
        let leaders = &self.leaders;
        let deadline = self.opened.clock.now() + CREATED_PATIENCE;
        leaders.learn(topics).await.map_err(Failure::failed)?;
        let is_led = |topic: &&&str| {
            let all = leaders.partitions(topic).len();
            all > 0 && leaders.led_partitions(topic).len() == all
        };
        while let Some(topic) = topics.iter().find(|topic| !is_led(topic)) {
            if self.opened.clock.now() >= deadline {
                let reason = "was created, and has no leaders yet; try again";
                return Err(Failure::Failed(format!("topic {topic} {reason}")));
            }
            leaders.refresh(topics).await.map_err(Failure::failed)?;
        }
        leaders.settled();
        Ok(())
    }

    /// What is said of a topic that is not there.
    pub(super) async fn missing_topic(&self, name: &str) -> Failure {
        let known = self.all_topics().await.unwrap_or_default();
        let names = known.iter().map(|topic| topic.name.as_str());
        let hint = match nearest(name, names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "`tidegate topic list` names those that are".to_owned(),
        };
        Failure::Failed(format!("topic {name} is not there; {hint}"))
    }

    /// The offsets that leaders tell for these timestamps, each partition by its leader. What a
    /// leader refuses stands beside the partition.
    pub(super) async fn offsets(&self, asked: &BTreeMap<Place, i64>) -> Offsets {
        let listing = Listing { is_committed: false, patience: OFFSETS_PATIENCE };
        let found = Box::pin(self.leaders.list_offsets(asked, listing)).await;
        let told = |listed: Result<ListedOffset, ClusterError>| {
            listed.map(|listed| listed.offset).map_err(|error| error.to_string())
        };
        found.into_iter().map(|(place, listed)| (place, told(listed))).collect()
    }

    /// The ends of partitions, asked once of the leaders that `topics` have.
    pub(super) async fn ends_once(
        &self,
        topics: &[MetadataResponseTopic],
        places: impl IntoIterator<Item = Place>,
    ) -> Vec<(Place, Result<i64, ClusterError>)> {
        self.leaders.remember(topics);
        let asked = places.into_iter().map(|place| (place, LATEST)).collect();
        let listing = Listing { is_committed: false, patience: OFFSETS_PATIENCE };
        let found = Box::pin(self.leaders.list_offsets_once(&asked, listing)).await;
        found.into_iter().map(|(place, it)| (place, it.map(|it| it.offset))).collect()
    }
}

fn is_retriable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// A topic that metadata has a name for, and no fault of.
pub(super) fn topic(topic: &MetadataResponseTopic) -> Option<Topic> {
    let name = topic.name.as_ref()?.to_string();
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect::<Vec<i32>>();
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|row| Partition {
            index: row.partition_index,
            leader: (row.leader_id.0 >= 0).then_some(row.leader_id.0),
            replicas: ids(&row.replica_nodes),
            isr: ids(&row.isr_nodes),
            offline: ids(&row.offline_replicas),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let id = (!topic.topic_id.is_nil()).then(|| uuid_text(topic.topic_id.as_bytes()));
    Some(Topic { name, id, internal: topic.is_internal, partitions })
}

/// An id as Kafka's tools print it: base64 for URLs, without padding.
pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let whole = u128::from_be_bytes(*bytes);
    // 128 bits are 21 digits of 6 bits, and 2 bits that the last digit begins with.
    let digit = |at: u32| {
        let bits = if at < 21 { whole >> (122 - 6 * at) } else { whole << 4 };
        let index = usize::try_from(bits & 63).unwrap_or_default();
        char::from(DIGITS.get(index).copied().unwrap_or(b'A'))
    };
    (0..22).map(digit).collect()
}

/// A topic's name as the crate's messages have it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A group's id as the crate's messages have it.
pub(super) fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

/// Text as the crate's messages have it.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An error code in words: Kafka's name, what the server says, and what helps.
pub(super) fn explain(code: i16, message: Option<&StrBytes>) -> String {
    let Some(known) = ErrorCode::from_code(code) else { return format!("error code {code}") };
    let said = message.filter(|said| !said.trim().is_empty());
    let said = said.map(|said| format!(": {}", said.trim())).unwrap_or_default();
    let hint = hint(known).map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{said}{hint}", known.name())
}

fn hint(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopicOrPartition => "it is not there, or it is not yours to see",
        ErrorCode::GroupIdNotFound => "`tidegate group list` names the groups that are there",
        ErrorCode::NonEmptyGroup => "stop the group's consumers first",
        ErrorCode::GroupSubscribedToTopic => {
            "the group's consumers are subscribed to the topic; stop them first"
        }
        ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
            "the group has members; stop its consumers first"
        }
        ErrorCode::OffsetOutOfRange => "it lies outside of what the partition holds",
        ErrorCode::RequestTimedOut => "--timeout gives it more time",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => {
            "who you are to the cluster may not do this; see --command-config"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printed_as_kafka_does() {
        assert_eq!(uuid_text(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(uuid_text(&[0xff; 16]), "_____________________w");
        let bytes =
            [0x32, 0x4e, 0xc4, 0x10, 0x05, 0x34, 0xe5, 0x23, 0x90, 0x34, 0x30, 0xda, 1, 2, 3, 4];
        assert_eq!(uuid_text(&bytes), "Mk7EEAU05SOQNDDaAQIDBA");
    }

    #[test]
    fn a_code_has_its_name_what_was_said_and_what_helps() {
        let said = text("Replication factor: 3 larger than available brokers: 1.");
        let code = ErrorCode::InvalidReplicationFactor.code();
        let expected = "INVALID_REPLICATION_FACTOR: Replication factor: 3 larger than available \
                        brokers: 1.";
        assert_eq!(explain(code, Some(&said)), expected);
        let empty = explain(ErrorCode::NonEmptyGroup.code(), Some(&text("")));
        assert_eq!(empty, "NON_EMPTY_GROUP; stop the group's consumers first");
        assert_eq!(explain(9_999, None), "error code 9999");
    }
}
