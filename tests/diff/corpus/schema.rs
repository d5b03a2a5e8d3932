//! Kafka's own message definitions, from the jar that the suite's Kafka runs from: all requests and
//! responses, in the terms in which Kafka writes them down.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// Prints all definitions of a jar, with the reader that also writes the guard's shapes.
const READER: &str = "import json, sys\n\
                      sys.path.insert(0, sys.argv[1])\n\
                      import generate_shapes\n\
                      json.dump(generate_shapes.definitions(sys.argv[2]), sys.stdout)";

/// Every message of a Kafka.
#[derive(Debug)]
pub struct Messages(BTreeMap<String, Message>);

/// A request or a response.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// The key of its API.
    #[serde(default)]
    pub api_key: i16,
    #[serde(rename = "type")]
    kind: String,
    /// Its name: that of the API, and what it is.
    pub name: String,
    /// Who listens to such requests.
    #[serde(default)]
    pub listeners: Vec<String>,
    valid_versions: Versions,
    #[serde(default)]
    flexible_versions: Versions,
    #[serde(default)]
    latest_version_unstable: bool,
    /// Its own fields.
    #[serde(default)]
    pub fields: Vec<Field>,
    #[serde(default)]
    common_structs: Vec<Common>,
}

#[derive(Debug, Deserialize)]
struct Common {
    name: String,
    fields: Vec<Field>,
}

/// A field of a message or of a structure.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// Kafka's name.
    pub name: String,
    #[serde(rename = "type")]
    of: String,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    #[serde(default)]
    pub nullable_versions: Versions,
    /// The versions in which it is a tagged field.
    #[serde(default)]
    pub tagged_versions: Versions,
    /// Its tag.
    pub tag: Option<u32>,
    /// What it is when nothing is said.
    pub default: Option<serde_json::Value>,
    /// What it names.
    #[serde(default)]
    pub entity_type: String,
    #[serde(default)]
    fields: Vec<Field>,
}

impl Field {
    /// Its type, or that of its elements, and whether it is an array.
    pub fn of(&self) -> (&str, bool) {
        match self.of.strip_prefix("[]") {
            Some(element) => (element, true),
            None => (&self.of, false),
        }
    }
}

/// A range of versions, as Kafka writes it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Versions(Option<(i16, i16)>);

impl Versions {
    /// Whether a version is one of them.
    pub fn has(self, version: i16) -> bool {
        self.0.is_some_and(|(min, max)| (min..=max).contains(&version))
    }
}

impl TryFrom<String> for Versions {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "none" {
            return Ok(Self(None));
        }
        if let Some(min) = text.strip_suffix('+') {
            return Ok(Self(Some((min.parse()?, i16::MAX))));
        }
        let (min, max) = text.split_once('-').unwrap_or((&text, &text));
        Ok(Self(Some((min.parse()?, max.parse()?))))
    }
}

impl Message {
    /// The versions that a release of Kafka speaks; nothing for what it speaks no more.
    pub fn stable(&self) -> Option<(i16, i16)> {
        let (min, max) = self.valid_versions.0?;
        Some((min, max - i16::from(self.latest_version_unstable)))
    }

    /// Whether a version has compact lengths and tagged fields.
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_versions.has(version)
    }

    /// Whether brokers answer such a request.
    pub fn is_for_brokers(&self) -> bool {
        self.listeners.iter().any(|listener| listener == "broker")
    }

    /// The fields of the structure that a field, or an element of it, is.
    pub fn fields_of<'a>(&'a self, field: &'a Field) -> &'a [Field] {
        let common = || self.common_structs.iter().find(|common| common.name == field.of().0);
        match &field.fields[..] {
            [] => common().map_or(&[], |common| &common.fields[..]),
            fields => fields,
        }
    }
}

impl Messages {
    /// Reads the definitions of the jar in `folder`.
    pub fn of_jars(folder: &Path) -> Self {
        let mut jars = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_clients = |path: &std::path::PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("kafka-clients-")
        };
        let jar = jars.find(is_clients).expect("a kafka-clients jar");
        let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
        let mut read = Command::new("python3");
        let output = read.args(["-c", READER]).arg(reader).arg(jar).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Every request that is still spoken, by key.
    pub fn requests(&self) -> Vec<&Message> {
        let mut found: Vec<&Message> = self
            .0
            .values()
            .filter(|message| message.kind == "request" && message.stable().is_some())
            .collect();
        found.sort_by_key(|message| message.api_key);
        found
    }

    /// The response of an API.
    pub fn response(&self, key: i16) -> &Message {
        let is_it = |message: &&Message| message.kind == "response" && message.api_key == key;
        self.0.values().find(is_it).expect("every request has a response")
    }
}
