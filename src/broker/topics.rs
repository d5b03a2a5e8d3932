//! Creating and deleting topics: metadata first, then partitions (DESIGN §5).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::{info, warn};

use super::{Broker, NewTopic, OFFSETS_TOPIC};
use crate::cluster::{Change, ChangeError, ClusterImage, CommitError, Outcome, Topic, TopicRef};
use crate::failpoint;
use crate::partition::record;
use crate::protocol::types::{TopicId, TopicPartition};
use crate::task;
use crate::wal::{Admission, Class};

/// Why a topic was not created, changed or deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopicError {
    /// The metadata does not allow it; nothing changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The metadata could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Broker {
    /// Whether a client that names a missing topic gets it created.
    pub fn creates_topics(&self) -> bool {
        self.config.topics.auto_create
    }

    /// Whether topics may be deleted.
    pub fn deletes_topics(&self) -> bool {
        self.config.topics.deletable
    }

    /// A topic of this name with the broker's defaults. Kafka's own internal topic has keys and
    /// defaults of its own.
    pub fn default_topic(&self, name: &str) -> NewTopic {
        let (topics, groups) = (&self.config.topics, &self.config.groups);
        if name == OFFSETS_TOPIC {
            let configs = [("cleanup.policy", "compact"), ("compression.type", "producer")];
            return NewTopic {
                name: name.to_owned(),
                partitions: groups.offsets_topic_partitions,
                replication_factor: groups.offsets_topic_replication_factor,
                configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            };
        }
        NewTopic {
            name: name.to_owned(),
            partitions: topics.partitions,
            replication_factor: topics.replication_factor,
            configs: BTreeMap::new(),
        }
    }

    /// Creates topics in one metadata entry; an outcome for each, in order.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
    ) -> Vec<Result<Arc<Topic>, TopicError>> {
        if topics.is_empty() {
            return Vec::new();
        }
        let count = topics.len();
        let changes = topics.into_iter().map(Change::CreateTopic).collect();
        let committed = match self.cluster.commit(changes).await {
            Ok(committed) => committed,
            Err(error) => return vec![Err(error.into()); count],
        };
        let created = |outcome| match outcome {
            Ok(Outcome::Topic(topic)) => {
                self.open_topic(&committed.image, &topic);
                info!(topic = &*topic.name, partitions = topic.partition_count(), "topic created");
                Ok(topic)
            }
            Ok(Outcome::ProducerIds(_) | Outcome::BrokerConfigs) => {
                unreachable!("a topic was asked for")
            }
            Err(error) => Err(TopicError::from(error)),
        };
        committed.outcomes.into_iter().map(created).collect()
    }

    /// Whether the topics could be created now, all of them together, without creating them. A
    /// topic that could is returned as it would be, with the zero id.
    pub fn check_new_topics(&self, topics: Vec<NewTopic>) -> Vec<Result<Arc<Topic>, TopicError>> {
        let changes: Vec<Change> = topics.into_iter().map(Change::CreateTopic).collect();
        let without_id = |outcome| match outcome {
            Ok(Outcome::Topic(topic)) => {
                Ok(Arc::new(Topic { id: TopicId::ZERO, ..Topic::clone(&topic) }))
            }
            Ok(Outcome::ProducerIds(_) | Outcome::BrokerConfigs) => {
                unreachable!("a topic was asked for")
            }
            Err(error) => Err(TopicError::from(error)),
        };
        self.cluster.check(&changes).into_iter().map(without_id).collect()
    }

    /// Creates `__consumer_offsets` if it is not there.
    pub async fn ensure_offsets_topic(&self) -> Result<(), TopicError> {
        if self.image().topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let wanted = vec![self.default_topic(OFFSETS_TOPIC)];
        match self.create_topics(wanted).await.pop() {
            // Somebody else asked at the same time.
            Some(Err(TopicError::Change(ChangeError::TopicExists { .. }))) | None => Ok(()),
            Some(outcome) => outcome.map(drop),
        }
    }

    /// Gives a topic more partitions.
    pub async fn create_partitions(&self, topic: TopicId, count: i32) -> Result<(), TopicError> {
        let change = Change::CreatePartitions { topic: TopicRef::Id(topic), count };
        let mut committed = self.cluster.commit(vec![change]).await?;
        match committed.outcomes.pop() {
            Some(Ok(Outcome::Topic(topic))) => self.open_topic(&committed.image, &topic),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Outcome::ProducerIds(_) | Outcome::BrokerConfigs)) | None => {}
        }
        Ok(())
    }

    /// Deletes a topic: the metadata entry, then its partitions are closed; the Drop record that
    /// lets replay skip its data follows in the background, and a start after a crash does without.
    pub async fn delete_topic(self: &Arc<Self>, topic: TopicId) -> Result<(), TopicError> {
        let change = Change::DeleteTopic(TopicRef::Id(topic));
        let committed = self.cluster.commit(vec![change]).await?;
        for outcome in committed.outcomes {
            outcome?;
        }
        failpoint::pass("topic deletion: committed");
        let partitions = self.partitions.close_topic(topic);
        failpoint::pass("topic deletion: closed");
        info!(topic_id = %topic, partitions, "topic deleted");
        let broker = Arc::clone(self);
        task::spawn("drop-topic", async move { broker.append_drop(topic).await });
        Ok(())
    }

    /// [`Broker::reconcile`] when a look at two numbers says that it is needed.
    pub(super) fn reconcile_if_counts_differ(&self) {
        let open = i64::try_from(self.partitions.len()).unwrap_or(i64::MAX);
        if open != self.image().partition_count() {
            self.reconcile();
        }
    }

    /// Opens every partition of the present image and closes what is open and not in it. Whoever
    /// asked for a topic normally does that; but a commit may take effect after its caller has
    /// given up.
    pub(super) fn reconcile(&self) {
        // In this order: what is open was in some image, so it is in this one or deleted.
        let open: BTreeSet<TopicId> =
            self.partitions.all().iter().map(|partition| partition.id().topic).collect();
        let image = self.image();
        for topic in open.into_iter().filter(|topic| image.topic_by_id(*topic).is_none()) {
            self.partitions.close_topic(topic);
        }
        for topic in image.topics() {
            self.open_topic(&image, topic);
        }
    }

    /// Opens the partitions that an image gives a topic.
    pub(super) fn open_topic(&self, image: &ClusterImage, topic: &Topic) {
        self.stream.set_metadata_number(image.number());
        for partition in 0..topic.partition_count() {
            let of = TopicPartition { topic: topic.id, partition };
            let epoch = image.leader_epoch(topic, partition).unwrap_or_default();
            self.partitions.get_or_create(of, epoch);
        }
    }

    async fn append_drop(&self, topic: TopicId) {
        let mut admission = Admission::uncharged();
        let mut appended = self.partitions.append_drop(&mut admission, topic);
        if appended.is_err()
            && self.stream.wait_for_room(Class::Housekeeping, record::DROP_LEN).await.is_ok()
        {
            appended = self.partitions.append_drop(&mut admission, topic);
        }
        match appended {
            Ok(lsn) => {
                failpoint::pass("topic deletion: dropped");
                self.view_changed(lsn);
            }
            Err(error) => warn!(
                topic_id = %topic,
                %error,
                "drop record not written; a start skips the data anyway"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::Bench;

    #[tokio::test]
    async fn a_commit_whose_caller_gave_up_opens_and_closes_partitions_all_the_same() {
        let bench = Bench::new();
        let broker = bench.start().await;
        let topic = NewTopic { partitions: 3, ..broker.default_topic("orphan") };
        broker.cluster.commit(vec![Change::CreateTopic(topic)]).await.unwrap();
        assert_eq!(broker.partitions.len(), 0);
        broker.reconcile_if_counts_differ();
        assert_eq!(broker.partitions.len(), 3);
        let delete = Change::DeleteTopic(TopicRef::Name("orphan".to_owned()));
        broker.cluster.commit(vec![delete]).await.unwrap();
        broker.reconcile_if_counts_differ();
        assert_eq!(broker.partitions.len(), 0);
        broker.stop().await;
    }
}
