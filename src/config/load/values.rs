//! The effective value of every key, and the problems found so far.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::describe::StaticConfigs;
use super::super::error::{Errors, Origin, Problem};
use super::super::kafka_names;
use super::super::key::{Default, Key, Kind};
use super::super::keys::{self, KEYS};
use super::super::nearest::nearest;
use super::super::source::Setting;
use super::super::value::{self, Value};
use super::super::{Sources, proxy_keys};
use super::tls;

/// One key's value and where it is from.
#[derive(Clone, Debug)]
struct Entry {
    /// The key as it was written: that of a virtual cluster has more before it.
    written: Cow<'static, str>,
    value: Value,
    /// The value as it may be shown.
    text: String,
    origin: Origin,
    /// Whether it is one virtual cluster's of several only because it is every one's.
    is_shared: bool,
}

/// The effective values of one table of keys.
///
/// A key whose default is worked out has no entry unless it is set. A value that was refused is
/// replaced by the default, so that the rest can still be checked.
#[derive(Clone, Debug)]
pub(super) struct Values {
    entries: BTreeMap<&'static str, Entry>,
    /// The settings of single listeners (`listener.name.<name>.<key>`), by name and key.
    listeners: BTreeMap<(String, &'static str), Setting>,
    without_effect: BTreeSet<String>,
    refused: BTreeSet<&'static str>,
    problems: Vec<Problem>,
}

impl Values {
    /// Nothing but the defaults of `table`.
    pub(super) fn defaults(table: &'static [Key]) -> Self {
        Self {
            entries: table.iter().filter_map(|key| Some((key.name, default(key)?))).collect(),
            listeners: BTreeMap::new(),
            without_effect: BTreeSet::new(),
            refused: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Sorts every setting of a broker into ours, without effect, or unknown; the strongest source
    /// of a key decides its value.
    pub(super) fn gather(sources: &Sources) -> Self {
        let mut values = Self::defaults(KEYS);
        let mut effective = BTreeMap::new();
        for setting in sources.settings(&mut values.problems) {
            if let Some(key) = keys::find(&setting.key) {
                effective.insert(key.name, (key, setting));
            } else if let Some((listener, key)) = of_one_listener(&setting.key) {
                values.listeners.insert((listener, key.name), setting);
            } else if kafka_names::is_without_effect(&setting.key) {
                values.without_effect.insert(setting.key);
            } else {
                let hint = hint(&setting.key);
                values.unknown(setting, hint);
            }
        }
        for (key, setting) in effective.into_values() {
            values.set(key, setting);
        }
        values
    }

    /// The values as a listener has them: its own settings win over those of all. Problems in
    /// what is returned are found there.
    pub(super) fn of_listener(&self, name: &str) -> Self {
        let mut own = Self { problems: Vec::new(), ..self.clone() };
        let name = name.to_ascii_lowercase();
        for ((_, key), setting) in self.listeners.iter().filter(|((of, _), _)| *of == name) {
            let key = keys::find(key).expect("the key was found in the table before");
            own.set(key, setting.clone());
        }
        own
    }

    /// The settings of single listeners other than those that `used` knows, as they were written.
    pub(super) fn take_of_other_listeners(&mut self, used: impl Fn(&str) -> bool) -> Vec<String> {
        let others = std::mem::take(&mut self.listeners).into_iter();
        others.filter(|((name, _), _)| !used(name)).map(|(_, setting)| setting.key).collect()
    }

    /// Gives `key` the value of `setting`.
    pub(super) fn set(&mut self, key: &'static Key, setting: Setting) {
        let given = setting.value.expose();
        let parsed = value::parse(key.kind, given);
        let text = if key.kind == Kind::Pem { "***" } else { given }.to_owned();
        let (written, origin) = (setting.key, setting.origin);
        match parsed {
            Ok(value) => {
                self.refused.remove(key.name);
                let written = Cow::Owned(written);
                self.entries
                    .insert(key.name, Entry { written, value, text, origin, is_shared: false });
            }
            Err(expected) => {
                self.refused.insert(key.name);
                self.problems.push(Problem::Value { key: written, value: text, origin, expected });
            }
        }
    }

    /// No key of this name is known; `hint` says what to do.
    pub(super) fn unknown(&mut self, setting: Setting, hint: String) {
        let Setting { key, origin, .. } = setting;
        self.problems.push(Problem::UnknownKey { key, origin, hint });
    }

    /// Adds what is wrong with `others`; what several find wrong with one setting is told once.
    pub(super) fn absorb(&mut self, others: Vec<Problem>) {
        for problem in others {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    /// The problems so far, which are the caller's from now on.
    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
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
                key: entry.written.clone().into_owned(),
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

    /// A setting with its value and place.
    pub(super) fn told(&self, key: &'static str) -> String {
        self.entries.get(key).map_or_else(
            || key.to_owned(),
            |entry| format!("{} = \"{}\" ({})", entry.written, entry.text, entry.origin),
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

    /// Marks all that is set as one of several clusters' common settings.
    pub(super) fn share(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_shared = true);
    }

    /// Whether `key` is set, and not only as what several clusters fall back on: what one of them
    /// has no use for another may need.
    pub(super) fn is_own(&self, key: &str) -> bool {
        self.is_set(key) && self.entries.get(key).is_some_and(|entry| !entry.is_shared)
    }

    /// How much is wrong so far.
    pub(super) fn count_problems(&self) -> usize {
        self.problems.len()
    }

    /// `config`, unless something is wrong.
    pub(super) fn finish<T>(self, config: T) -> Result<T, Errors> {
        if self.problems.is_empty() { Ok(config) } else { Err(Errors(self.problems)) }
    }

    /// What was set and what is where nothing is, as text; defaults that are worked out are the
    /// caller's to add.
    pub(super) fn statics(&self) -> StaticConfigs {
        let mut statics = StaticConfigs::default();
        for (key, entry) in &self.entries {
            if entry.origin != Origin::Default {
                let is_secret = keys::find(key).is_some_and(|key| key.kind == Kind::Pem);
                let text = if is_secret { "***".to_owned() } else { entry.value.to_text() };
                statics.give(key, text);
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

    /// Text that is not empty.
    pub(super) fn text_if_given(&self, key: &'static str) -> Option<&str> {
        self.text_if_set(key).filter(|text| !text.is_empty())
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
    let value = if text.is_empty() && key.kind == Kind::Pem {
        Value::Text(String::new())
    } else {
        value::parse(key.kind, text).expect("the table's tests parse every default")
    };
    let (written, text) = (Cow::Borrowed(key.name), text.to_owned());
    Some(Entry { written, value, text, origin: Origin::Default, is_shared: false })
}

/// The listener, in lower case, and the key of a setting of one listener alone; nothing for any
/// other setting.
fn of_one_listener(written: &str) -> Option<(String, &'static Key)> {
    let rest = written.strip_prefix("listener.name.")?;
    tls::LISTENER.names().into_iter().find_map(|name| {
        let listener = rest.strip_suffix(name)?.strip_suffix('.')?;
        Some((listener.to_ascii_lowercase(), keys::find(name)?))
    })
}

/// What a broker's setting of an unknown key may be. Our own keys win over Kafka's.
fn hint(unknown: &str) -> String {
    let is_proxys = proxy_keys::find(proxy_keys::PROXY_KEYS, unknown)
        .or_else(|| proxy_keys::find(proxy_keys::CLUSTER_KEYS, unknown))
        .is_some();
    if is_proxys || proxy_keys::of_cluster(unknown).is_some() {
        return "it is a key of the proxy (`tidegate proxy`): leave it out".to_owned();
    }
    let known = KEYS.iter().map(|key| key.name).chain(kafka_names::names());
    match nearest(unknown, known) {
        Some(key) => format!("did you mean {key}?"),
        None => "`tidegate config reference` lists every key".to_owned(),
    }
}
