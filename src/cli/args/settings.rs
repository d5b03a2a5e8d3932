//! How a command is told the configuration of a broker or proxy.

use std::path::PathBuf;

use clap::Args;
use clap::builder::Resettable;

use super::super::Settings;
use crate::config::Role;

/// How any command is told the configuration. The order of strength is: command line, environment
/// (`TIDEGATE_*`), file, default.
#[derive(Args, Debug)]
struct CommonArgs {
    /// Read the configuration from FILE: TOML, or a Kafka server.properties.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any configuration key; may be given several times.
    #[arg(long = "set", short, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Serve metrics and health here [admin.listener, default: 127.0.0.1:9464].
    #[arg(long, value_name = "HOST:PORT")]
    admin_listener: Option<String>,
    /// Log this much: error, warn, info, debug, trace [log.level, default: info].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// What only a broker is told.
#[derive(Args, Debug)]
struct BrokerArgs {
    /// Keep the data in DIR [data.dir, default: ./tidegate-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Listen here [listeners, default: port 9092 on loopback].
    #[arg(long, value_name = "NAME://HOST:PORT,..")]
    listeners: Option<String>,
    /// Tell clients to connect here [advertised.listeners].
    #[arg(long, value_name = "NAME://HOST:PORT,..")]
    advertised_listeners: Option<String>,
    /// Start from a data directory whose place another run of this broker took. Only when that
    /// other run is stopped for good.
    #[arg(long)]
    take_over: bool,
}

/// What only a proxy is told.
#[derive(Args, Debug)]
#[group(conflicts_with = "BrokerArgs", multiple = true)]
struct ProxyArgs {
    /// The Kafka cluster behind the proxy: some of its brokers [upstream.bootstrap.servers].
    #[arg(long, value_name = "HOST:PORT,..")]
    upstream: Option<String>,
    /// Let clients bootstrap here [proxy.listener, default: 127.0.0.1:19092].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The ids that the upstream's brokers have or may get; each has a port [node.ids, default:
    /// 0-9].
    #[arg(long, value_name = "RANGES")]
    node_ids: Option<String>,
}

/// The configuration of a broker.
#[derive(Args, Debug)]
pub(super) struct SettingsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The configuration of a proxy.
#[derive(Args, Debug)]
// There is nothing of a broker here that could be in conflict.
#[command(mut_group("ProxyArgs", |group| group.conflicts_with(Resettable::Reset)))]
pub(super) struct ProxySettingsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    of_proxy: ProxyArgs,
}

/// The configuration of a broker or of a proxy.
#[derive(Args, Debug)]
pub(super) struct EitherArgs {
    /// It is a proxy's configuration; so it is with any flag of the proxy's.
    #[arg(long, conflicts_with = "BrokerArgs")]
    proxy: bool,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    of_proxy: ProxyArgs,
}

impl From<SettingsArgs> for Settings {
    fn from(SettingsArgs { common, broker }: SettingsArgs) -> Self {
        let take_over = broker.take_over;
        Self { take_over, ..common.with(&broker.keys()) }
    }
}

impl From<ProxySettingsArgs> for Settings {
    fn from(ProxySettingsArgs { common, of_proxy }: ProxySettingsArgs) -> Self {
        common.with(&of_proxy.keys())
    }
}

impl EitherArgs {
    pub(super) fn split(self) -> (Role, Settings) {
        let Self { proxy, common, broker, of_proxy } = self;
        let keys = of_proxy.keys();
        if proxy || keys.iter().any(|(_, value)| value.is_some()) {
            return (Role::Proxy, common.with(&keys));
        }
        (Role::Broker, SettingsArgs { common, broker }.into())
    }
}

impl BrokerArgs {
    fn keys(&self) -> [(&'static str, &Option<String>); 3] {
        [
            ("data.dir", &self.data_dir),
            ("listeners", &self.listeners),
            ("advertised.listeners", &self.advertised_listeners),
        ]
    }
}

impl ProxyArgs {
    fn keys(&self) -> [(&'static str, &Option<String>); 3] {
        [
            ("upstream.bootstrap.servers", &self.upstream),
            ("proxy.listener", &self.listen),
            ("node.ids", &self.node_ids),
        ]
    }
}

impl CommonArgs {
    /// The settings, with flags of their own for these `keys` too.
    fn with(self, keys: &[(&str, &Option<String>)]) -> Settings {
        let common = [("admin.listener", &self.admin_listener), ("log.level", &self.log_level)];
        let own = keys.iter().chain(&common);
        let own = own.filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)));
        // The flag of its own is the more deliberate one: it comes last and so decides.
        let flags = self.set.iter().cloned().chain(own).collect();
        Settings { file: self.config, flags, take_over: false }
    }
}

pub(super) fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE, such as log.retention.ms=1d".to_owned()),
    }
}
