//! Where settings come from: the command line, the environment, a file.
#![allow(clippy::disallowed_methods, reason = "config is one of the rooms that read files")]

use std::path::PathBuf;

use super::client::{BOOTSTRAP_VARIABLE, COMMAND_CONFIG_VARIABLE};
use super::error::{Errors, Origin, Problem};
use super::machine::Machine;
use super::secret::Secret;
use crate::failpoint;

/// What the names of our environment variables begin with.
const ENV_PREFIX: &str = "TIDEGATE_";

/// One setting as it was written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The key, dotted.
    pub(super) key: String,
    /// The value.
    pub(super) value: Secret,
    /// The place.
    pub(super) origin: Origin,
}

/// Everything that a configuration is made of, and nothing else: loading reads no file, variable
/// or clock beyond it. [`Sources::default`] is an empty command line on a machine of 4 GiB.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Keys and values of the command line, in its order; the last of a key holds.
    pub flags: Vec<(String, String)>,
    /// The process's environment; variables that are not ours are passed over.
    pub env: Vec<(String, String)>,
    /// The file's path as the user named it, and its text.
    pub file: Option<(PathBuf, String)>,
    /// What defaults depend on.
    pub machine: Machine,
}

impl Sources {
    /// The settings of a command line alone, for tests and tools.
    pub fn of_flags(flags: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self { flags: flags.iter().map(owned).collect(), ..Self::default() }
    }

    /// The process's environment and machine, the given command line, and the file it names.
    pub fn of_process(flags: Vec<(String, String)>, file: Option<PathBuf>) -> Result<Self, Errors> {
        let text = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => {
                Err(Errors(vec![Problem::Unreadable { path, reason: error.to_string() }]))
            }
        };
        let lossy = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Ok(Self {
            flags,
            env: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
            file: file.map(text).transpose()?,
            machine: Machine::detect(),
        })
    }

    /// Every setting, the weakest source first; what the file has wrong goes to `problems`.
    pub(super) fn settings(&self, problems: &mut Vec<Problem>) -> Vec<Setting> {
        let mut settings = Vec::new();
        if let Some((path, text)) = &self.file {
            match super::file::parse(path, text) {
                Ok(found) => settings.extend(found),
                Err(found) => problems.extend(found),
            }
        }
        settings.extend(self.env.iter().filter_map(|(name, value)| of_variable(name, value)));
        settings.extend(self.flags.iter().map(|(key, value)| Setting {
            key: key.trim().to_owned(),
            value: Secret::new(value.as_str()),
            origin: Origin::Flag,
        }));
        settings
    }
}

/// `TIDEGATE_LOG_RETENTION_MS` sets `log.retention.ms`; what Kubernetes sets is not ours, and what
/// the command line connects by is no setting.
fn of_variable(name: &str, value: &str) -> Option<Setting> {
    // A debug build's own; a release build takes it for a setting that it does not know.
    if failpoint::VARIABLE == Some(name) {
        return None;
    }
    let ours = name.strip_prefix(ENV_PREFIX)?;
    if [BOOTSTRAP_VARIABLE, COMMAND_CONFIG_VARIABLE].contains(&name) {
        return None;
    }
    if is_of_kubernetes(ours) {
        return None;
    }
    Some(Setting {
        key: ours.to_ascii_lowercase().replace('_', "."),
        value: Secret::new(value),
        origin: Origin::Env(name.to_owned()),
    })
}

/// Whether Kubernetes sets such a variable, in every container beside a Service named `tidegate`
/// (`TIDEGATE_SERVICE_HOST`, `TIDEGATE_PORT_9092_TCP`) or, say, `tidegate-proxy`
/// (`TIDEGATE_PROXY_PORT`). No key of ours has an underscore where these have one.
fn is_of_kubernetes(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        let protocol = parts.next().is_some_and(|it| matches!(it, "TCP" | "UDP" | "SCTP"));
        let end = parts.next();
        number && protocol && matches!(end, None | Some("PROTO" | "PORT" | "ADDR"))
    };
    let has = |part: &str| name.starts_with(part) || name.contains(&format!("_{part}"));
    let in_port = name.strip_prefix("PORT_").or_else(|| name.split_once("_PORT_").map(|it| it.1));
    name == "PORT"
        || name.ends_with("_PORT")
        || has("SERVICE_HOST")
        || has("SERVICE_PORT")
        || in_port.is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_keys_with_underscores_and_those_of_kubernetes_or_clients_are_not() {
        let setting = of_variable("TIDEGATE_LOG_RETENTION_MS", "5").unwrap();
        assert_eq!((setting.key.as_str(), setting.value.expose()), ("log.retention.ms", "5"));
        assert_eq!(setting.origin.to_string(), "environment TIDEGATE_LOG_RETENTION_MS");
        for injected in [
            "TIDEGATE_SERVICE_HOST",
            "TIDEGATE_SERVICE_PORT_KAFKA",
            "TIDEGATE_PORT",
            "TIDEGATE_SERVICE_PORT",
            "TIDEGATE_PORT_9092_TCP",
            "TIDEGATE_PORT_9092_TCP_ADDR",
            "TIDEGATE_PROXY_SERVICE_HOST",
            "TIDEGATE_PROXY_SERVICE_PORT_KAFKA",
            "TIDEGATE_PROXY_PORT",
            "TIDEGATE_PROXY_PORT_19092_TCP",
            "TIDEGATE_PROXY_PORT_19092_TCP_PROTO",
            "TIDEGATE_BOOTSTRAP_SERVER",
            "TIDEGATE_COMMAND_CONFIG",
            "PATH",
        ] {
            assert!(of_variable(injected, "x").is_none(), "{injected}");
        }
        for ours in ["TIDEGATE_NODE_PORT_BASE", "TIDEGATE_NODE_ADVERTISED_PORT_BASE"] {
            assert!(of_variable(ours, "1").is_some(), "{ours}");
        }
        let failpoint = of_variable("TIDEGATE_FAILPOINT", "x");
        assert_eq!(failpoint.is_some(), !cfg!(debug_assertions), "release builds refuse it");
    }
}
