//! The keys as a JSON Schema (draft 7), for the `config` of the Helm chart's values and for
//! editors: a key that nobody knows is refused before anything is started.
//!
//! It takes what the loader takes, but for the case of letters in choices and for what only the
//! loader can see, which is whatever one key means beside another.

use serde_json::{Map, Value, json};

use super::kafka_names;
use super::key::{Default, Key, Kind};
use super::keys::KEYS;
use super::proxy_keys::{CLUSTER_KEYS, CLUSTER_PREFIX, PROXY_KEYS};
use super::reference::Role;

/// A whole number of milliseconds, or a number and a unit.
const DURATION: &str = r"^(-?[0-9]+|[0-9]+(\.[0-9]{1,9})? ?([mM][sS]|[sSmMhHdD]))$";
/// A whole number of bytes, or a number and a unit.
const BYTES: &str = r"^(-?[0-9]+|[0-9]+(\.[0-9]{1,9})? ?([kKmMgGtT][iI]?)?[bB])$";

impl Role {
    /// The schema of an object whose keys are the configuration's.
    pub fn json_schema(self) -> String {
        let schema = match self {
            Self::Broker => broker(),
            Self::Proxy => proxy(),
        };
        let text = serde_json::to_string_pretty(&schema).expect("names of objects are text");
        text + "\n"
    }
}

fn broker() -> Value {
    let mut properties = properties(KEYS);
    let without_effect = json!({ "description": "Kafka's; it has no effect here." });
    for name in kafka_names::names() {
        properties.entry(name).or_insert_with(|| without_effect.clone());
    }
    let mut patterns = Map::new();
    for prefix in kafka_names::PREFIXES {
        patterns.insert(format!("^{}", escaped(prefix)), json!({}));
    }
    object("Configuration of a broker", &properties, &patterns)
}

fn proxy() -> Value {
    let mut all = properties(PROXY_KEYS);
    all.extend(properties(CLUSTER_KEYS));
    let own = |key: &Key| {
        let pattern = format!("^{}[a-z0-9-]+\\.{}$", escaped(CLUSTER_PREFIX), escaped(key.name));
        (pattern, property(key))
    };
    object("Configuration of a proxy", &all, &CLUSTER_KEYS.iter().map(own).collect())
}

fn object(title: &str, properties: &Map<String, Value>, patterns: &Map<String, Value>) -> Value {
    json!({
        "title": title,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "patternProperties": patterns,
    })
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), property(key))).collect()
}

/// What one key may be. A number may stand as text, too: YAML readers take large ones for
/// fractions.
fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Bool => json!({ "enum": [true, false, "true", "false"] }),
        Kind::Int { min, max } => number(min, max, "^-?[0-9]+$"),
        Kind::Duration { min, max } => number(min, max, DURATION),
        Kind::Bytes { min, max } => number(min, max, BYTES),
        Kind::Ratio => json!({
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": 1,
            "pattern": r"^[0-9]*(\.[0-9]+)?$",
        }),
        Kind::Text | Kind::Pem => json!({ "type": "string" }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::List => json!({
            "type": ["array", "string", "integer"],
            "items": { "type": ["string", "integer"] },
        }),
    };
    schema["description"] = json!(key.effect);
    if let Default::Is(default) = key.default
        && !default.is_empty()
    {
        schema["default"] = json!(default);
    }
    schema
}

fn number(min: i64, max: i64, pattern: &str) -> Value {
    let mut schema = json!({ "type": ["integer", "string"], "minimum": min, "pattern": pattern });
    if max != i64::MAX {
        schema["maximum"] = json!(max);
    }
    schema
}

/// A name as a regular expression.
fn escaped(name: &str) -> String {
    name.replace('.', "\\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(role: Role) -> Value {
        serde_json::from_str(&role.json_schema()).unwrap()
    }

    #[test]
    fn the_schema_has_every_key_with_its_effect() {
        let both = [(Role::Broker, KEYS), (Role::Proxy, PROXY_KEYS), (Role::Proxy, CLUSTER_KEYS)];
        for (role, keys) in both {
            let properties = &schema(role)["properties"];
            for key in keys {
                assert_eq!(properties[key.name]["description"], key.effect, "{}", key.name);
            }
        }
    }

    #[test]
    fn kafkas_names_without_effect_may_stand_in_a_brokers_and_others_may_not() {
        let properties = &schema(Role::Broker)["properties"];
        let named = properties.as_object().unwrap();
        assert!(named.contains_key("num.network.threads"));
        assert!(!named.contains_key("num.network.thread"));
        assert_eq!(schema(Role::Broker)["additionalProperties"], false);
        let proxy = schema(Role::Proxy);
        assert!(proxy["properties"].get("num.network.threads").is_none());
        let pattern = r"^virtual\.cluster\.[a-z0-9-]+\.node\.ids$";
        assert_eq!(proxy["patternProperties"][pattern], proxy["properties"]["node.ids"]);
    }

    #[test]
    fn the_charts_values_have_this_schema() {
        let chart = include_str!("../../helm/tidegate/values.schema.json");
        let chart: Value = serde_json::from_str(chart).unwrap();
        for (role, name) in [(Role::Broker, "brokerConfig"), (Role::Proxy, "proxyConfig")] {
            assert!(
                chart["definitions"][name] == schema(role),
                "helm/tidegate/values.schema.json is out of date: run helm/sync"
            );
        }
    }
}
