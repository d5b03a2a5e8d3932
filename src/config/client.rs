//! How the command line connects to a cluster: Kafka's own client properties, as its tools take
//! them with `--command-config`.
#![allow(clippy::disallowed_methods, reason = "the configuration is a file")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Errors, Origin, Problem};
use super::file;
use super::key::Kind;
use super::secret::Secret;
use super::source::Setting;
use super::tls::{ClientTls, Keystore, Pem};
use super::value::{self, Value};

/// Where the command line connects to without `--bootstrap-server`; no setting of a broker's.
pub const BOOTSTRAP_VARIABLE: &str = "TIDEGATE_BOOTSTRAP_SERVER";
/// The client's properties without `--command-config`; no setting of a broker's.
pub const COMMAND_CONFIG_VARIABLE: &str = "TIDEGATE_COMMAND_CONFIG";

const PROTOCOL: &str = "security.protocol";
const TRUSTSTORE: &str = "ssl.truststore.location";
const TRUSTED: &str = "ssl.truststore.certificates";
const KEYSTORE: &str = "ssl.keystore.location";
const CHAIN: &str = "ssl.keystore.certificate.chain";
const KEY: &str = "ssl.keystore.key";
const IDENTIFICATION: &str = "ssl.endpoint.identification.algorithm";
const TYPES: [&str; 2] = ["ssl.truststore.type", "ssl.keystore.type"];
const KEY_PASSWORD: &str = "ssl.key.password";
/// What has an effect with TLS only and is not ignored.
const OF_TLS: [&str; 5] = [TRUSTSTORE, TRUSTED, KEYSTORE, CHAIN, KEY];

/// A client's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientConfig {
    /// `security.protocol` and `ssl.*`; `None` is plaintext.
    pub tls: Option<ClientTls>,
    /// `bootstrap.servers`, as it was written.
    pub bootstrap: Option<String>,
    /// `client.id`.
    pub client_id: Option<String>,
    /// `request.timeout.ms`.
    pub timeout: Option<Duration>,
    /// Keys that were set and mean nothing here, in their order.
    pub ignored: Vec<String>,
}

impl ClientConfig {
    /// Reads `file`, a Kafka client's properties or the same in TOML, and then `overrides`, the
    /// last of which wins.
    pub fn load(file: Option<&Path>, overrides: &[(String, String)]) -> Result<Self, Errors> {
        let mut settings = Vec::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            settings = file::parse(path, &text).map_err(Errors)?;
        }
        settings.extend(overrides.iter().map(|(key, value)| Setting {
            key: key.trim().to_owned(),
            value: Secret::new(value.as_str()),
            origin: Origin::Flag,
        }));
        let mut given = Given::default();
        for Setting { key, value, origin } in settings {
            given.settings.insert(key, (value, origin));
        }
        given.read()
    }
}

/// A length of time as it is typed: milliseconds, or a number with a unit, such as 30s; from 1 ms
/// to a day. The error says what it has to be.
pub fn duration(text: &str) -> Result<Duration, String> {
    match value::parse(Kind::Duration { min: 1, max: 86_400_000 }, text)? {
        Value::Number(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
        _ => Err("must be a length of time, such as 30s".to_owned()),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Errors {
    Errors(vec![Problem::Conflict {
        what: format!("client configuration file \"{}\": {error}", path.display()),
        fix: "check the path given with --command-config".to_owned(),
    }])
}

/// What was set and not read yet.
#[derive(Default)]
struct Given {
    settings: BTreeMap<String, (Secret, Origin)>,
    problems: Vec<Problem>,
}

impl Given {
    fn read(mut self) -> Result<ClientConfig, Errors> {
        let tls = if self.has_tls() { Some(self.tls()) } else { self.without_tls() };
        let timeout = self.take("request.timeout.ms").and_then(|(text, origin)| {
            let read = duration(&text);
            read.map_err(|expected| self.refuse("request.timeout.ms", &text, origin, expected)).ok()
        });
        let config = ClientConfig {
            tls,
            bootstrap: self.take("bootstrap.servers").map(|(text, _)| text),
            client_id: self.take("client.id").map(|(text, _)| text),
            timeout,
            ignored: self.settings.into_keys().collect(),
        };
        if self.problems.is_empty() { Ok(config) } else { Err(Errors(self.problems)) }
    }

    /// The value of a key, which counts as read; an empty one is none.
    fn take(&mut self, key: &str) -> Option<(String, Origin)> {
        let (value, origin) = self.settings.remove(key)?;
        let text = value.expose().trim();
        (!text.is_empty()).then(|| (text.to_owned(), origin))
    }

    fn refuse(&mut self, key: &str, value: &str, origin: Origin, expected: impl Into<String>) {
        let (key, value, expected) = (key.to_owned(), value.to_owned(), expected.into());
        self.problems.push(Problem::Value { key, value, origin, expected });
    }

    fn has_tls(&mut self) -> bool {
        let Some((text, origin)) = self.take(PROTOCOL) else { return false };
        match text.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => false,
            "SSL" => true,
            "SASL_SSL" | "SASL_PLAINTEXT" => {
                let expected = "must be PLAINTEXT or SSL: the command line cannot authenticate by \
                                SASL yet; use a listener without it";
                self.refuse(PROTOCOL, &text, origin, expected);
                text.eq_ignore_ascii_case("SASL_SSL")
            }
            _ => {
                self.refuse(PROTOCOL, &text, origin, "must be PLAINTEXT or SSL");
                false
            }
        }
    }

    /// A certificate that nobody would look at is a mistake in one of the two.
    fn without_tls(&mut self) -> Option<ClientTls> {
        for key in OF_TLS {
            if self.take(key).is_some() && self.problems.is_empty() {
                self.problems.push(Problem::Conflict {
                    what: format!("{key} is set and {PROTOCOL} is PLAINTEXT"),
                    fix: format!("set {PROTOCOL}=SSL, or leave out {key}"),
                });
            }
        }
        None
    }

    fn tls(&mut self) -> ClientTls {
        for key in TYPES {
            let Some((text, origin)) = self.take(key) else { continue };
            if !text.eq_ignore_ascii_case("PEM") {
                let expected = "must be PEM; `keytool -importkeystore -deststoretype PKCS12` and \
                                then `openssl pkcs12 -nodes` turn other stores into it";
                self.refuse(key, &text, origin, expected);
            }
        }
        if let Some((_, origin)) = self.take(KEY_PASSWORD) {
            let expected = "encrypted keys cannot be read; `openssl pkey` takes the password off";
            self.refuse(KEY_PASSWORD, "***", origin, expected);
        }
        let verify_hostname = self.verify_hostname();
        ClientTls { truststore: self.truststore(), keystore: self.keystore(), verify_hostname }
    }

    fn verify_hostname(&mut self) -> bool {
        let Some((value, origin)) = self.settings.remove(IDENTIFICATION) else { return true };
        let text = value.expose().trim();
        if !text.is_empty() && !text.eq_ignore_ascii_case("https") {
            let expected = "must be https, or empty to take any host's certificate";
            self.refuse(IDENTIFICATION, text, origin, expected);
        }
        !text.is_empty()
    }

    fn truststore(&mut self) -> Option<Pem> {
        let file = self.take(TRUSTSTORE).map(|(path, _)| Pem::File(PathBuf::from(path)));
        let text = self.pem(TRUSTED);
        if file.is_some() && text.is_some() {
            self.both(TRUSTSTORE, TRUSTED);
        }
        file.or(text)
    }

    fn keystore(&mut self) -> Option<Keystore> {
        let file = self.take(KEYSTORE).map(|(path, _)| Pem::File(PathBuf::from(path)));
        let (chain, key) = (self.pem(CHAIN), self.pem(KEY));
        match (file, chain, key) {
            (Some(file), None, None) => Some(Keystore { chain: file.clone(), key: file }),
            (None, Some(chain), Some(key)) => Some(Keystore { chain, key }),
            (None, None, None) => None,
            (Some(_), chain, _) => {
                self.both(KEYSTORE, if chain.is_some() { CHAIN } else { KEY });
                None
            }
            (None, chain, _) => {
                let (given, lacking) = if chain.is_some() { (CHAIN, KEY) } else { (KEY, CHAIN) };
                self.problems.push(Problem::Conflict {
                    what: format!("{given} without {lacking}"),
                    fix: format!("give both, or {KEYSTORE} for a file that has both"),
                });
                None
            }
        }
    }

    fn both(&mut self, one: &str, other: &str) {
        self.problems.push(Problem::Conflict {
            what: format!("{one} and {other} are both set"),
            fix: "give one of them".to_owned(),
        });
    }

    /// Text in PEM, or the path of a file.
    fn pem(&mut self, key: &str) -> Option<Pem> {
        let (text, origin) = self.take(key)?;
        match value::parse(Kind::Pem, &text) {
            Ok(Value::Text(text)) if text.starts_with("-----") => {
                Some(Pem::Text(Secret::new(text)))
            }
            Ok(_) => Some(Pem::File(PathBuf::from(text))),
            Err(expected) => {
                self.refuse(key, "***", origin, expected);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
