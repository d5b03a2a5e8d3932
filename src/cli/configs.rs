//! The configuration of topics and brokers: what `topic config` and `cluster config` share.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use serde::Serialize;

use super::output::{Align, Answer, Failure, Output, Table, column, note};
use super::session::{Session, explain, text};
use crate::client::Target;
use crate::config::nearest;
use crate::protocol::error::ErrorCode;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Where a value comes from: `DescribeConfigsResponse.ConfigSource` of Kafka.
const SOURCES: [(i8, &str); 8] = [
    (1, "topic"),
    (2, "broker"),
    (3, "all brokers"),
    (4, "start"),
    (5, "default"),
    (6, "logger"),
    (7, "client metrics"),
    (8, "group"),
];

/// Keys whose lower value lets records go sooner; -1 keeps them for ever.
const RETENTIONS: [&str; 6] = [
    "retention.ms",
    "retention.bytes",
    "log.retention.ms",
    "log.retention.minutes",
    "log.retention.hours",
    "log.retention.bytes",
];
/// Keys whose every new policy lets records go.
const POLICIES: [&str; 2] = ["cleanup.policy", "log.cleanup.policy"];

/// Whose configuration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource<'a> {
    /// A topic's.
    Topic(&'a str),
    /// One broker's.
    Broker(i32),
    /// What all brokers share.
    Brokers,
}

impl Resource<'_> {
    fn kind(self) -> i8 {
        match self {
            Resource::Topic(_) => TOPIC,
            Resource::Broker(_) | Resource::Brokers => BROKER,
        }
    }

    fn name(self) -> String {
        match self {
            Resource::Topic(name) => name.to_owned(),
            Resource::Broker(id) => id.to_string(),
            Resource::Brokers => String::new(),
        }
    }

    fn words(self) -> String {
        match self {
            Resource::Topic(name) => format!("topic {name}"),
            Resource::Broker(id) => format!("broker {id}"),
            Resource::Brokers => "all brokers".to_owned(),
        }
    }

    /// The source of what is set for exactly this.
    fn own_source(self) -> i8 {
        match self {
            Resource::Topic(_) => 1,
            Resource::Broker(_) => 2,
            Resource::Brokers => 3,
        }
    }

    /// What is in force: what all brokers share says nothing of what they were started with, so
    /// one of them is asked.
    async fn or_one_of_them(self, session: &Session) -> Result<Self, Failure> {
        let Resource::Brokers = self else { return Ok(self) };
        session.cluster().metadata(Some(&[]), false).await.map_err(Failure::failed)?;
        let first = session.cluster().nodes().into_keys().next();
        Ok(first.map_or(self, Resource::Broker))
    }

    /// Who knows it. A broker is asked for its own, since others do not know how it was started.
    async fn target(self, session: &Session) -> Result<Target<'static>, Failure> {
        let Resource::Broker(id) = self else { return Ok(Target::Any) };
        session.cluster().metadata(Some(&[]), false).await.map_err(Failure::failed)?;
        let nodes = session.cluster().nodes();
        if nodes.contains_key(&id) {
            return Ok(Target::Node(id));
        }
        let known: Vec<String> = nodes.keys().map(ToString::to_string).collect();
        let known = known.join(", ");
        Err(Failure::Failed(format!("broker {id} is not there; the cluster has {known}")))
    }
}

/// One key with its value.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    key: String,
    /// Nothing where the server keeps it to itself, or where there is none.
    value: Option<String>,
    /// Where the value comes from.
    source: &'static str,
    read_only: bool,
    sensitive: bool,
    /// The value without what is set for this resource itself.
    inherited: Option<String>,
}

impl Entry {
    fn new(row: DescribeConfigsResourceResult, own: i8) -> Self {
        let source = SOURCES.iter().find(|(code, _)| *code == row.config_source);
        let inherited = row.synonyms.iter().find(|it| it.source != own && it.value.is_some());
        let inherited = inherited.and_then(|it| in_unit(&row.name, &it.name, it.value.as_ref()?));
        Self {
            key: row.name.to_string(),
            value: row.value.map(|value| value.to_string()),
            source: source.map_or("unknown", |(_, name)| name),
            read_only: row.read_only,
            sensitive: row.is_sensitive,
            inherited,
        }
    }

    /// Whether it is set for the topic itself.
    pub(super) fn is_own(&self) -> bool {
        self.source == "topic"
    }

    /// Key and value.
    pub(super) fn into_pair(self) -> (String, Option<String>) {
        (self.key, self.value)
    }
}

/// What a synonym's value is in the unit of `key`: `retention.ms` may come from
/// `log.retention.hours`.
fn in_unit(key: &str, synonym: &str, value: &str) -> Option<String> {
    let units = (synonym.rsplit_once('.'), key.rsplit_once('.'));
    let ms = match units {
        (Some((_, "hours")), Some((_, "ms"))) => 3_600_000,
        (Some((_, "minutes")), Some((_, "ms"))) => 60_000,
        _ => return Some(value.to_owned()),
    };
    let count = value.trim().parse::<i64>().ok()?;
    Some(if count < 0 { count } else { count.checked_mul(ms)? }.to_string())
}

/// The settings of several topics, by topic. A topic that went meanwhile is left out.
pub(super) async fn of_topics(
    session: &Session,
    topics: &[String],
) -> Result<BTreeMap<String, Vec<Entry>>, Failure> {
    let resources: Vec<_> = topics.iter().map(|name| Resource::Topic(name)).collect();
    let mut found = BTreeMap::new();
    let own = Resource::Topic("").own_source();
    for (name, answered) in read(session, Target::Any, &resources, own).await? {
        match answered {
            Ok(entries) => drop(found.insert(name, entries)),
            Err((code, _)) if code == ErrorCode::UnknownTopicOrPartition.code() => {}
            Err((_, reason)) => return Err(Failure::Failed(format!("topic {name}: {reason}"))),
        }
    }
    Ok(found)
}

type Read = Vec<(String, Result<Vec<Entry>, (i16, String)>)>;

async fn read(
    session: &Session,
    target: Target<'_>,
    resources: &[Resource<'_>],
    own: i8,
) -> Result<Read, Failure> {
    let asked = resources.iter().map(|resource| {
        DescribeConfigsResource::default()
            .with_resource_type(resource.kind())
            .with_resource_name(text(&resource.name()))
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default()
        .with_resources(asked.collect())
        .with_include_synonyms(true);
    let answer = Box::pin(session.ask(target, &request)).await.map_err(Failure::failed)?;
    let results = answer.results.into_iter().map(|result| {
        let name = result.resource_name.to_string();
        if result.error_code != 0 {
            let reason = explain(result.error_code, result.error_message.as_ref());
            return (name, Err((result.error_code, reason)));
        }
        let entries = result.configs.into_iter().map(|row| Entry::new(row, own));
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        (name, Ok(entries))
    });
    Ok(results.collect())
}

/// The settings of a resource; what is inherited is what is in force without those of source `own`.
async fn entries(
    session: &Session,
    resource: Resource<'_>,
    own: i8,
) -> Result<Vec<Entry>, Failure> {
    let target = resource.target(session).await?;
    let found = read(session, target, &[resource], own).await?.into_iter().next();
    match found {
        Some((_, Ok(entries))) => Ok(entries),
        Some((_, Err((_, reason)))) => {
            Err(Failure::Failed(format!("{}: {reason}", resource.words())))
        }
        None => Err(Failure::Failed(format!("{}: the answer is empty", resource.words()))),
    }
}

#[derive(Serialize)]
struct Shown {
    resource: String,
    configs: Vec<Entry>,
}

impl Answer for Shown {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("KEY", Align::Left),
            column("VALUE", Align::Left),
            column("FROM", Align::Left),
        ]);
        table.rows(self.configs.iter().map(|entry| {
            let value = match &entry.value {
                Some(value) => value.clone(),
                None if entry.sensitive => "(hidden)".to_owned(),
                None => "-".to_owned(),
            };
            vec![entry.key.clone(), value, entry.source.to_owned()]
        }));
        vec![(None, table)]
    }
}

/// Prints what is set for the resource itself, or `keys`, or everything.
pub(super) async fn get(
    session: &Session,
    output: Output,
    resource: Resource<'_>,
    keys: &[String],
    all: bool,
) -> Result<(), Failure> {
    let mut configs = entries(session, resource, resource.own_source()).await?;
    for key in keys {
        if !configs.iter().any(|entry| entry.key == *key) {
            return Err(unknown_key(key, &configs, resource));
        }
    }
    let own = SOURCES.iter().find(|(code, _)| *code == resource.own_source());
    let own = own.map_or("", |(_, name)| name);
    configs.retain(|entry| {
        if keys.is_empty() { all || entry.source == own } else { keys.contains(&entry.key) }
    });
    if configs.is_empty() && output.is_table() {
        note(format_args!("nothing is set for {} itself", resource.words()));
    }
    output.print(&Shown { resource: resource.words(), configs })
}

fn unknown_key(key: &str, known: &[Entry], resource: Resource<'_>) -> Failure {
    let hint = match nearest(key, known.iter().map(|entry| entry.key.as_str())) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`config get --all` names those that are".to_owned(),
    };
    Failure::Failed(format!("{} has no key {key}; {hint}", resource.words()))
}

/// Changes to keys: a value that is set, or nothing where the setting is taken away.
pub(super) type Changes = BTreeMap<String, Option<String>>;

#[derive(Serialize)]
struct Changed {
    resource: String,
    executed: bool,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    key: String,
    from: Option<String>,
    to: Option<String>,
    /// Whether records may go because of it.
    may_delete_records: bool,
}

impl Answer for Changed {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut table = Table::new(vec![
            column("KEY", Align::Left),
            column("FROM", Align::Left),
            column("TO", Align::Left),
        ]);
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.rows(
            self.changes.iter().map(|it| vec![it.key.clone(), shown(&it.from), shown(&it.to)]),
        );
        vec![(None, table)]
    }
}

/// Makes the changes; where records may go because of them, only with `execute`.
pub(super) async fn change(
    session: &Session,
    output: Output,
    resource: Resource<'_>,
    changes: &Changes,
    execute: bool,
) -> Result<(), Failure> {
    let at = resource.or_one_of_them(session).await?;
    let now = entries(session, at, resource.own_source()).await?;
    let planned = changes.iter().map(|(key, value)| plan(key, value.as_deref(), &now));
    let planned: Vec<Change> = planned.collect();
    let destroys = planned.iter().find(|change| change.may_delete_records);
    let held = destroys.filter(|_| !execute).map(|change| change.key.clone());
    alter(session, resource, changes, held.is_some()).await?;
    let executed = held.is_none();
    output.print(&Changed { resource: resource.words(), executed, changes: planned })?;
    match held {
        Some(key) => Err(Failure::Failed(format!(
            "nothing was changed: {key} may delete records of {}; --execute does it",
            resource.words()
        ))),
        None => Ok(()),
    }
}

fn plan(key: &str, value: Option<&str>, now: &[Entry]) -> Change {
    let entry = now.iter().find(|entry| entry.key == key);
    let from = entry.and_then(|entry| entry.value.clone());
    let inherited = entry.and_then(|entry| entry.inherited.clone());
    let to = value.map(str::to_owned).or(inherited);
    let may_delete_records = may_delete(key, from.as_deref(), to.as_deref());
    Change { key: key.to_owned(), from, to, may_delete_records }
}

/// Whether records may go when the key's value changes so. What is not known may.
fn may_delete(key: &str, from: Option<&str>, to: Option<&str>) -> bool {
    if from.is_some() && from == to {
        return false;
    }
    if POLICIES.contains(&key) {
        let (Some(from), Some(to)) = (from, to) else { return true };
        let has = |policy: &str| from.split(',').any(|it| it.trim() == policy);
        return to.split(',').map(str::trim).any(|policy| !has(policy));
    }
    if !RETENTIONS.contains(&key) {
        return false;
    }
    // Below 0 is for ever.
    let length = |value: Option<&str>| {
        let length = value?.trim().parse::<i64>().ok()?;
        Some(if length < 0 { i64::MAX } else { length })
    };
    match (length(from), length(to)) {
        (_, Some(i64::MAX)) => false,
        (Some(from), Some(to)) => to < from,
        _ => true,
    }
}

async fn alter(
    session: &Session,
    resource: Resource<'_>,
    changes: &Changes,
    dry_run: bool,
) -> Result<(), Failure> {
    let configs = changes.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    });
    let asked = AlterConfigsResource::default()
        .with_resource_type(resource.kind())
        .with_resource_name(text(&resource.name()))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![asked])
        .with_validate_only(dry_run);
    let target = match resource {
        Resource::Broker(id) => Target::Node(id),
        Resource::Topic(_) | Resource::Brokers => Target::Controller,
    };
    let answer = Box::pin(session.ask(target, &request)).await.map_err(Failure::failed)?;
    match answer.responses.iter().find(|row| row.error_code != 0) {
        None => Ok(()),
        Some(row) => {
            let reason = explain(row.error_code, row.error_message.as_ref());
            let words = resource.words();
            Err(Failure::Failed(format!("the configuration of {words} is as it was: {reason}")))
        }
    }
}

/// The changes that set these.
pub(super) fn set(pairs: &[(String, String)]) -> Changes {
    pairs.iter().map(|(key, value)| (key.trim().to_owned(), Some(value.clone()))).collect()
}

/// The changes that take these away.
pub(super) fn unset(keys: &[String]) -> Changes {
    keys.iter().map(|key| (key.clone(), None)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inherited_is_told_in_the_keys_own_unit() {
        let told = |name, value| in_unit("retention.ms", name, value);
        assert_eq!(told("log.retention.hours", "168").as_deref(), Some("604800000"));
        assert_eq!(told("log.retention.minutes", "-1").as_deref(), Some("-1"));
        assert_eq!(told("log.retention.ms", "5").as_deref(), Some("5"));
        assert_eq!(told("log.retention.hours", "9223372036854775807"), None);
        assert_eq!(
            in_unit("log.retention.hours", "log.retention.hours", "1").as_deref(),
            Some("1")
        );
    }

    #[test]
    fn records_may_go_where_they_are_kept_less_long() {
        let retention = |from, to| may_delete("retention.ms", from, to);
        assert!(retention(Some("1000"), Some("999")));
        assert!(retention(Some("-1"), Some("604800000")));
        assert!(!retention(Some("1000"), Some("1000")) && !retention(Some("1000"), Some("-1")));
        assert!(retention(None, Some("1000")) && retention(Some("1000"), None));
        assert!(retention(Some("1000"), Some("soon")) && !retention(None, Some("-1")));
        let policy = |from, to| may_delete("cleanup.policy", Some(from), Some(to));
        assert!(policy("delete", "compact") && policy("compact", "compact,delete"));
        assert!(!policy("compact,delete", "delete") && !policy("delete", "delete"));
        assert!(!may_delete("max.message.bytes", Some("2"), Some("1")));
    }
}
