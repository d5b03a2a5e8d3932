//! What the APIs about configs share: resources, their configs on the wire, and changes of them.
//!
//! Deviations from Kafka: what has no effect here cannot be set for a broker; groups and client
//! metrics subscriptions show Kafka's defaults and cannot be changed; levels of the log cannot be
//! changed. The refusals say what can be done instead.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::Context;
use super::error::topic_error;
use crate::cluster::{ALL_BROKERS, Change, ClusterImage, Topic, TopicRef, validate_name};
use crate::config::describe::{ConfigSource, Described};
use crate::config::dynamic::check_broker_config;
use crate::config::kafka::ConfigType;
use crate::config::topic::{check_topic_config, check_topic_configs, topic_key};
use crate::protocol::error::ErrorCode;

/// The code and the words for the client.
pub(super) type Refusal = (ErrorCode, String);

/// Kinds of things that have configs (`ConfigResource.Type`).
pub(super) mod kind {
    pub(crate) const TOPIC: i8 = 2;
    pub(crate) const BROKER: i8 = 4;
    pub(crate) const BROKER_LOGGER: i8 = 8;
    pub(crate) const CLIENT_METRICS: i8 = 16;
    pub(crate) const GROUP: i8 = 32;
}

/// A topic by the name of a resource.
pub(super) fn find_topic<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a Topic, Refusal> {
    validate_name(name).map_err(|error| (ErrorCode::InvalidTopicException, error.to_string()))?;
    let topic = image.topic(name).map(|topic| &**topic);
    topic.ok_or_else(|| {
        let message = format!("topic \"{name}\" does not exist");
        (ErrorCode::UnknownTopicOrPartition, message)
    })
}

/// Checks that a broker's resource names this broker.
pub(super) fn check_broker(cx: &Context, name: &str) -> Result<(), Refusal> {
    let own = cx.broker.node_id();
    if name.parse() == Ok(own) {
        return Ok(());
    }
    let message = format!("\"{}\" is not this broker, whose id is {own}", name.escape_default());
    Err((ErrorCode::InvalidRequest, message))
}

/// A source as the wire says it (`DescribeConfigsResponse.ConfigSource`).
pub(super) fn source_id(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::DynamicBroker => 2,
        ConfigSource::DynamicDefaultBroker => 3,
        ConfigSource::StaticBroker => 4,
        ConfigSource::Default => 5,
        ConfigSource::DynamicBrokerLogger => 6,
    }
}

fn type_id(kind: Option<ConfigType>) -> i8 {
    match kind {
        None => 0,
        Some(ConfigType::Boolean) => 1,
        Some(ConfigType::String) => 2,
        Some(ConfigType::Int) => 3,
        Some(ConfigType::Short) => 4,
        Some(ConfigType::Long) => 5,
        Some(ConfigType::Double) => 6,
        Some(ConfigType::List) => 7,
        Some(ConfigType::Class) => 8,
        Some(ConfigType::Password) => 9,
    }
}

/// Text that is copied only if it is not part of the program.
pub(super) fn wire_text(text: Cow<'static, str>) -> StrBytes {
    match text {
        Cow::Borrowed(text) => StrBytes::from_static_str(text),
        Cow::Owned(text) => StrBytes::from_string(text),
    }
}

/// A config as the wire has it.
pub(super) fn on_the_wire(
    described: Described,
    with_synonyms: bool,
    with_documentation: bool,
) -> DescribeConfigsResourceResult {
    let synonyms = if with_synonyms { described.synonyms } else { Vec::new() };
    let documentation = described.documentation.filter(|_| with_documentation);
    DescribeConfigsResourceResult::default()
        .with_name(wire_text(described.name))
        .with_value(described.value.map(wire_text))
        .with_read_only(described.read_only)
        .with_config_source(source_id(described.source))
        .with_is_sensitive(described.sensitive)
        .with_config_type(type_id(described.kind))
        .with_documentation(documentation.map(StrBytes::from_static_str))
        .with_synonyms(
            synonyms
                .into_iter()
                .map(|synonym| {
                    DescribeConfigsSynonym::default()
                        .with_name(StrBytes::from_static_str(synonym.name))
                        .with_value(synonym.value.map(wire_text))
                        .with_source(source_id(synonym.source))
                })
                .collect(),
        )
}

/// What is to become of a config (`AlterConfigOp.OpType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    /// The operation of this number.
    pub(super) fn of_id(id: i8) -> Option<Self> {
        [Self::Set, Self::Delete, Self::Append, Self::Subtract]
            .into_iter()
            .find(|one| *one as i8 == id)
    }
}

/// One config of a request.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) key: StrBytes,
    /// `None` is a number that means nothing.
    pub(super) operation: Option<Operation>,
    pub(super) value: Option<StrBytes>,
}

/// What a request asks for a resource.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) edits: Vec<Edit>,
    /// Whether configs that are not named are removed.
    pub(super) replaces: bool,
}

/// Changes what can be changed, in one metadata entry; an outcome for each resource, in order.
pub(super) async fn alter(
    cx: &Context,
    asked: &[Asked],
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let mut times: HashMap<(i8, &str), u32> = HashMap::new();
    for one in asked {
        *times.entry((one.kind, one.name.as_str())).or_default() += 1;
    }
    let altering = match cx.broker.alter_configs().await {
        Ok(altering) => altering,
        Err(error) => return vec![Err((topic_error(&error), error.to_string())); asked.len()],
    };
    // Not the request's image: another change may have been waited for.
    let image = cx.broker.image();
    let plan = |one: &Asked| {
        if times.get(&(one.kind, one.name.as_str())).is_some_and(|times| *times > 1) {
            let message = "each resource must appear at most once".to_owned();
            return Err((ErrorCode::InvalidRequest, message));
        }
        plan(cx, &image, one)
    };
    let planned: Vec<Result<Option<Change>, Refusal>> = asked.iter().map(plan).collect();
    let changes: Vec<Change> =
        planned.iter().filter_map(|one| one.as_ref().ok().cloned().flatten()).collect();
    let made =
        if validate_only { altering.check(&changes) } else { altering.commit(changes).await };
    let mut made = made.into_iter();
    let outcome = |planned: Result<Option<Change>, Refusal>| match planned? {
        None => Ok(()),
        Some(_) => made
            .next()
            .expect("each change has an outcome")
            .map_err(|error| (topic_error(&error), error.to_string())),
    };
    planned.into_iter().map(outcome).collect()
}

/// The change that gives a resource what is asked; `None` where it has that already.
fn plan(cx: &Context, image: &ClusterImage, asked: &Asked) -> Result<Option<Change>, Refusal> {
    let refuse = |message: &str| Err((ErrorCode::InvalidRequest, message.to_owned()));
    check_edits(asked)?;
    match asked.kind {
        kind::TOPIC => plan_topic(cx, image, asked),
        kind::BROKER => plan_broker(cx, image, asked),
        kind::BROKER_LOGGER => refuse(
            "levels of the log cannot be changed at run time; set log.level in the configuration \
             file and restart the broker",
        ),
        kind::GROUP => refuse("configs of groups cannot be changed yet; groups use the defaults"),
        kind::CLIENT_METRICS => {
            refuse("client metrics cannot be subscribed to; use the broker's own /metrics")
        }
        other => Err((ErrorCode::InvalidRequest, format!("unknown resource type {other}"))),
    }
}

/// What must hold of any change, whatever it is for.
fn check_edits(asked: &Asked) -> Result<(), Refusal> {
    let refuse = |message: String| Err((ErrorCode::InvalidRequest, message));
    let mut keys: Vec<&str> = asked.edits.iter().map(|edit| edit.key.as_str()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse(format!("config \"{}\" stands more than once", twice[0].escape_default()));
    }
    for edit in &asked.edits {
        let key = edit.key.as_str().escape_default();
        match edit.operation {
            None => return refuse(format!("config \"{key}\" has an unknown operation")),
            Some(Operation::Delete) => {}
            Some(_) if edit.value.is_none() => {
                return refuse(format!("config \"{key}\" has no value"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn plan_topic(
    cx: &Context,
    image: &ClusterImage,
    asked: &Asked,
) -> Result<Option<Change>, Refusal> {
    if asked.name.is_empty() {
        return Err((ErrorCode::InvalidRequest, "the topic has no name".to_owned()));
    }
    let topic = find_topic(image, &asked.name)?;
    let dynamic = cx.broker.dynamic_configs(image);
    let config = cx.broker.config();
    let none = BTreeMap::new();
    let value = |key: &str, own| config.describe_topic_config(key, own, dynamic)?.value;
    let mut changes = changes(asked, &topic.configs, |key| {
        let described = config.describe_topic_config(key, &topic.configs, dynamic)?;
        (described.kind == Some(ConfigType::List)).then(|| described.value.unwrap_or_default())
    })?;
    let invalid = |message: String| (ErrorCode::InvalidConfig, message);
    for (key, value) in &mut changes {
        if let Some(text) = value {
            let checked = check_topic_config(key, text);
            *text = checked.map_err(|error| invalid(error.to_string()))?;
        }
    }
    let mut after = topic.configs.clone();
    for (key, value) in &changes {
        match value {
            Some(value) => after.insert(key.clone(), value.clone()),
            None => after.remove(key),
        };
    }
    check_topic_configs(&after, |key| value(key, &none)?.parse().ok())
        .map_err(|error| invalid(error.to_string()))?;
    changes.retain(|key, value| topic.configs.get(key) != value.as_ref());
    let change = Change::SetTopicConfigs { topic: TopicRef::Id(topic.id), configs: changes };
    Ok(Some(change).filter(|change| !is_empty(change)))
}

fn plan_broker(
    cx: &Context,
    image: &ClusterImage,
    asked: &Asked,
) -> Result<Option<Change>, Refusal> {
    let node_id = if asked.name.is_empty() {
        ALL_BROKERS
    } else {
        check_broker(cx, &asked.name)?;
        cx.broker.node_id()
    };
    let set = image.broker_configs(node_id);
    let dynamic = cx.broker.dynamic_configs(image);
    let mut changes = changes(asked, set, |key| {
        let described = cx.broker.config().describe_broker_config(key, dynamic)?;
        (described.kind == Some(ConfigType::List)).then(|| described.value.unwrap_or_default())
    })?;
    for (key, value) in &mut changes {
        if let Some(text) = value {
            let checked = check_broker_config(key, text);
            *text = checked.map_err(|error| (ErrorCode::InvalidRequest, error.to_string()))?;
        }
    }
    changes.retain(|key, value| set.get(key) != value.as_ref());
    let change = Change::SetBrokerConfigs { node_id, configs: changes };
    Ok(Some(change).filter(|change| !is_empty(change)))
}

fn is_empty(change: &Change) -> bool {
    match change {
        Change::SetTopicConfigs { configs, .. } | Change::SetBrokerConfigs { configs, .. } => {
            configs.is_empty()
        }
        _ => false,
    }
}

/// The new value of every config that is touched; `None` removes it. `list` gives the present
/// value of a config that is a list, and `None` for one that is not.
fn changes(
    asked: &Asked,
    present: &BTreeMap<String, String>,
    list: impl Fn(&str) -> Option<Cow<'static, str>>,
) -> Result<BTreeMap<String, Option<String>>, Refusal> {
    let mut changes = BTreeMap::new();
    if asked.replaces {
        changes.extend(present.keys().map(|key| (key.clone(), None)));
    }
    for edit in &asked.edits {
        let key = edit.key.as_str();
        let value = edit.value.as_deref().unwrap_or_default();
        let new = match edit.operation {
            Some(Operation::Set) => Some(value.to_owned()),
            Some(Operation::Delete) | None => None,
            Some(operation @ (Operation::Append | Operation::Subtract)) => {
                let before = list(key).ok_or_else(|| {
                    let message = format!("config \"{}\" is not a list", key.escape_default());
                    (ErrorCode::InvalidConfig, message)
                })?;
                Some(edited(&before, operation, value))
            }
        };
        changes.insert(key.to_owned(), new);
    }
    Ok(changes)
}

/// A list with words added that are not in it, or with words taken out. A client may send words
/// without end, so each is looked up, never compared with all others.
fn edited(before: &str, operation: Operation, words: &str) -> String {
    let mut list: Vec<&str> = before.split(',').filter(|word| !word.is_empty()).collect();
    let words = words.split(',').map(str::trim);
    if operation == Operation::Subtract {
        let gone: HashSet<&str> = words.collect();
        list.retain(|known| !gone.contains(known));
    } else {
        let mut known: HashSet<&str> = list.iter().copied().collect();
        list.extend(words.filter(|word| known.insert(word)));
    }
    list.join(",")
}

/// Checks the configs of a topic that is to be created.
pub(super) fn check_new_topic(
    cx: &Context,
    configs: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let dynamic = cx.broker.dynamic_configs(&cx.image);
    let none = BTreeMap::new();
    let default = |key: &str| {
        topic_key(key)?;
        cx.broker.config().describe_topic_config(key, &none, dynamic)?.value?.parse().ok()
    };
    check_topic_configs(configs, default)
        .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_kafkas_numbers() {
        let ids = [0, 1, 2, 3, 4, -1].map(Operation::of_id);
        let known = [Operation::Set, Operation::Delete, Operation::Append, Operation::Subtract];
        assert_eq!(ids[..4], known.map(Some));
        assert_eq!(ids[4..], [None, None]);
    }

    #[test]
    fn lists_gain_and_lose_words() {
        assert_eq!(edited("delete", Operation::Append, "compact"), "delete,compact");
        assert_eq!(edited("delete", Operation::Append, "delete, compact"), "delete,compact");
        assert_eq!(edited("", Operation::Append, "0:1"), "0:1");
        assert_eq!(edited("delete,compact", Operation::Subtract, "delete"), "compact");
        assert_eq!(edited("delete", Operation::Subtract, "delete,compact"), "");
        assert_eq!(edited("a", Operation::Append, "b,b,a,c"), "a,b,c");
    }

    #[test]
    fn a_replacement_removes_what_it_does_not_name() {
        let present = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let edit = Edit {
            key: StrBytes::from_static_str("b"),
            operation: Some(Operation::Set),
            value: Some(StrBytes::from_static_str("2")),
        };
        let asked = Asked {
            kind: kind::TOPIC,
            name: StrBytes::from_static_str("t"),
            edits: vec![edit],
            replaces: true,
        };
        let changes = changes(&asked, &present, |_| None).unwrap();
        let expected = [("a".to_owned(), None), ("b".to_owned(), Some("2".to_owned()))];
        assert_eq!(changes, BTreeMap::from(expected));
    }
}
