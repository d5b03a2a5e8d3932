//! The effective value of every key, and the problems found so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::describe::StaticConfigs;
use super::super::error::{Errors, Origin, Problem};
use super::super::kafka_names;
use super::super::key::{Default, Key};
use super::super::keys::{self, KEYS};
use super::super::nearest::nearest;
use super::super::source::Setting;
use super::super::value::{self, Value};
use super::super::{Config, Sources};

/// One key's value and where it is from.
#[derive(Debug)]
struct Entry {
    value: Value,
    text: String,
    origin: Origin,
}

/// The effective values.
///
/// A key whose default is worked out has no entry unless it is set. A value that was refused is
/// replaced by the default, so that the rest can still be checked.
#[derive(Debug)]
pub(super) struct Values {
    entries: BTreeMap<&'static str, Entry>,
    without_effect: BTreeSet<String>,
    refused: BTreeSet<&'static str>,
    problems: Vec<Problem>,
}

impl Values {
    /// Sorts every setting into ours, without effect, or unknown; the strongest source of a key
    /// decides its value.
    pub(super) fn gather(sources: &Sources) -> Self {
        let mut problems = Vec::new();
        let settings = sources.settings(&mut problems);
        let mut values = Self {
            entries: KEYS.iter().filter_map(|key| Some((key.name, default(key)?))).collect(),
            without_effect: BTreeSet::new(),
            refused: BTreeSet::new(),
            problems,
        };
        let mut effective = BTreeMap::new();
        for setting in settings {
            if let Some(key) = keys::find(&setting.key) {
                effective.insert(key.name, (key, setting));
            } else if kafka_names::is_without_effect(&setting.key) {
                values.without_effect.insert(setting.key);
            } else {
                values.problems.push(Problem::UnknownKey {
                    nearest: nearest(&setting.key),
                    key: setting.key,
                    origin: setting.origin,
                });
            }
        }
        for (key, setting) in effective.into_values() {
            values.set(key, setting);
        }
        values
    }

    fn set(&mut self, key: &'static Key, setting: Setting) {
        let text = setting.value.expose().to_owned();
        match value::parse(key.kind, &text) {
            Ok(value) => {
                self.entries.insert(key.name, Entry { value, text, origin: setting.origin });
            }
            Err(expected) => {
                self.refused.insert(key.name);
                let (key, origin) = (key.name, setting.origin);
                self.problems.push(Problem::Value { key, value: text, origin, expected });
            }
        }
    }

    /// The Kafka settings without effect that were given.
    pub(super) fn take_without_effect(&mut self) -> Vec<String> {
        std::mem::take(&mut self.without_effect).into_iter().collect()
    }

    /// The value of `key` cannot be: it must be as `expected`.
    pub(super) fn refuse(&mut self, key: &'static str, expected: &str) {
        if !self.refused.insert(key) {
            return;
        }
        if let Some(entry) = self.entries.get(key) {
            self.problems.push(Problem::Value {
                key,
                value: entry.text.clone(),
                origin: entry.origin.clone(),
                expected: expected.to_owned(),
            });
        }
    }

    /// Settings that cannot hold together.
    pub(super) fn conflict(&mut self, what: String, fix: impl Into<String>) {
        self.problems.push(Problem::Conflict { what, fix: fix.into() });
    }

    /// Two settings as a [`Problem::Conflict`] tells them.
    pub(super) fn both(&self, one: &'static str, other: &'static str) -> String {
        format!("{} and {}", self.told(one), self.told(other))
    }

    fn told(&self, key: &'static str) -> String {
        self.entries.get(key).map_or_else(
            || key.to_owned(),
            |entry| format!("{key} = \"{}\" ({})", entry.text, entry.origin),
        )
    }

    /// Whether none of `keys` has been refused.
    pub(super) fn are_good(&self, keys: &[&'static str]) -> bool {
        keys.iter().all(|key| !self.refused.contains(key))
    }

    /// Whether `key` is set in any source.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.origin != Origin::Default)
    }

    /// `config`, unless something is wrong.
    pub(super) fn finish(self, config: Config) -> Result<Config, Errors> {
        if self.problems.is_empty() { Ok(config) } else { Err(Errors(self.problems)) }
    }

    /// What was set and what is where nothing is, as text; defaults that are worked out are the
    /// caller's to add.
    pub(super) fn statics(&self) -> StaticConfigs {
        let mut statics = StaticConfigs::default();
        for (key, entry) in &self.entries {
            if entry.origin != Origin::Default {
                statics.give(key, entry.value.to_text());
            }
        }
        for key in KEYS {
            let text = default(key).map(|entry| entry.value.to_text());
            statics.set_default(key.name, text.filter(|text| !text.is_empty()));
        }
        statics
    }

    fn value(&self, key: &'static str) -> &Value {
        &self.entries.get(key).expect("the table has the key, with a default").value
    }

    /// A number, also of a duration in milliseconds or of a size in bytes.
    pub(super) fn number(&self, key: &'static str) -> i64 {
        match self.value(key) {
            Value::Number(number) => *number,
            other => unreachable!("the table says that {key} is a number, not {other:?}"),
        }
    }

    /// A number without a fixed default.
    pub(super) fn number_if_set(&self, key: &'static str) -> Option<i64> {
        self.entries.contains_key(key).then(|| self.number(key))
    }

    /// A duration that is not negative.
    pub(super) fn duration(&self, key: &'static str) -> Duration {
        Duration::from_millis(u64::try_from(self.number(key)).unwrap_or(0))
    }

    /// A fraction from 0 to 1.
    pub(super) fn ratio(&self, key: &'static str) -> f64 {
        self.text(key).parse().expect("a ratio was read as one before")
    }

    /// Text, or the chosen word.
    pub(super) fn text(&self, key: &'static str) -> &str {
        match self.value(key) {
            Value::Text(text) => text,
            other => unreachable!("the table says that {key} is text, not {other:?}"),
        }
    }

    /// Text without a fixed default.
    pub(super) fn text_if_set(&self, key: &'static str) -> Option<&str> {
        self.entries.contains_key(key).then(|| self.text(key))
    }

    /// A boolean.
    pub(super) fn bool(&self, key: &'static str) -> bool {
        match self.value(key) {
            Value::Bool(truth) => *truth,
            other => unreachable!("the table says that {key} is a boolean, not {other:?}"),
        }
    }

    /// The items of a list; empty if it has no default and is not set.
    pub(super) fn list(&self, key: &'static str) -> &[String] {
        match self.entries.get(key).map(|entry| &entry.value) {
            None => &[],
            Some(Value::List(items)) => items,
            Some(other) => unreachable!("the table says that {key} is a list, not {other:?}"),
        }
    }
}

fn default(key: &Key) -> Option<Entry> {
    let Default::Is(text) = key.default else { return None };
    let value = value::parse(key.kind, text).expect("the table's tests parse every default");
    Some(Entry { value, text: text.to_owned(), origin: Origin::Default })
}
