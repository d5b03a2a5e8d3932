//! Configuration that changes at run time: of topics and of this broker. It lives in the metadata,
//! so a change acts from the next request and the next look of a loop on.

use std::time::Duration;

use super::{Broker, TopicError};
use crate::cluster::{ALL_BROKERS, COMMIT_TIMEOUT, Change, ClusterImage, CommitError, Topic};
use crate::config::dynamic::DynamicConfigs;
use crate::config::topic::TopicSettings;

impl Broker {
    /// What an image has set for this broker.
    pub fn dynamic_configs<'a>(&self, image: &'a ClusterImage) -> DynamicConfigs<'a> {
        DynamicConfigs {
            broker: image.broker_configs(self.node_id()),
            cluster_wide: image.broker_configs(ALL_BROKERS),
        }
    }

    /// The settings of a topic of an image: the broker's, with what the topic sets itself.
    pub fn topic_settings(&self, image: &ClusterImage, topic: &Topic) -> TopicSettings {
        let settings = self.settings.clone().with_dynamic(self.dynamic_configs(image));
        if topic.configs.is_empty() {
            return settings;
        }
        settings.with(&topic.configs)
    }

    /// How long a partition remembers an idle producer.
    pub(super) fn producer_id_expiration(&self) -> Duration {
        let image = self.image();
        let set = self.dynamic_configs(&image).get("producer.id.expiration.ms");
        let set = set.and_then(|value| value.parse().ok()).map(Duration::from_millis);
        set.unwrap_or(self.config.producers.id_expiration)
    }

    /// Held from reading what is set until the change of it is committed: what is appended to a
    /// list or replaced as a whole must not overtake another such change. Refused when others
    /// take as long as a commit may take.
    pub async fn alter_configs(&self) -> Result<AlterConfigs<'_>, TopicError> {
        let altering = self.clock.timeout(COMMIT_TIMEOUT, self.altering.lock()).await;
        match altering {
            Ok(altering) => Ok(AlterConfigs { broker: self, _altering: altering }),
            Err(_) => Err(CommitError::Unavailable.into()),
        }
    }
}

/// The right to change configuration.
#[derive(Debug)]
pub struct AlterConfigs<'a> {
    broker: &'a Broker,
    _altering: tokio::sync::MutexGuard<'a, ()>,
}

impl AlterConfigs<'_> {
    /// Commits changes of configuration in one metadata entry; an outcome for each, in order.
    pub async fn commit(self, changes: Vec<Change>) -> Vec<Result<(), TopicError>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let count = changes.len();
        match self.broker.cluster.commit(changes).await {
            Ok(committed) => {
                let outcomes = committed.outcomes.into_iter();
                outcomes.map(|outcome| outcome.map(drop).map_err(TopicError::from)).collect()
            }
            Err(error) => vec![Err(error.into()); count],
        }
    }

    /// Whether the changes could be made now, without making them.
    pub fn check(self, changes: &[Change]) -> Vec<Result<(), TopicError>> {
        let checked = self.broker.cluster.check(changes).into_iter();
        checked.map(|outcome| outcome.map(drop).map_err(TopicError::from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::broker::tests::Bench;

    #[tokio::test]
    async fn what_is_set_for_brokers_at_run_time_acts_and_this_brokers_own_wins() {
        let bench = Bench::new();
        let broker = bench.start().await;
        broker.create_topics(vec![broker.default_topic("t")]).await.remove(0).unwrap();
        let set = |node_id, key: &str, value: Option<&str>| Change::SetBrokerConfigs {
            node_id,
            configs: BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]),
        };
        let seen = || {
            let image = broker.image();
            let settings = broker.topic_settings(&image, image.topic("t").unwrap());
            (settings.max_message_bytes, broker.producer_id_expiration().as_millis())
        };
        assert_eq!(seen(), (1_048_588, 86_400_000));
        let changes = vec![
            set(ALL_BROKERS, "message.max.bytes", Some("6")),
            set(ALL_BROKERS, "producer.id.expiration.ms", Some("5")),
            set(broker.node_id(), "message.max.bytes", Some("7")),
            set(broker.node_id() + 1, "message.max.bytes", Some("8")),
        ];
        let altering = broker.alter_configs().await.unwrap();
        assert!(altering.commit(changes).await.iter().all(Result::is_ok));
        assert_eq!(seen(), (7, 5));
        let altering = broker.alter_configs().await.unwrap();
        let removed = vec![set(broker.node_id(), "message.max.bytes", None)];
        assert!(altering.check(&removed).iter().all(Result::is_ok));
        assert_eq!(seen(), (7, 5));
        let altering = broker.alter_configs().await.unwrap();
        assert!(altering.commit(removed).await.iter().all(Result::is_ok));
        assert_eq!(seen(), (6, 5));
        broker.stop().await;
    }
}
