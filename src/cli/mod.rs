//! The command line: what can be asked of the binary, and what it says to a person.
//!
//! `main` calls [`parse`] and carries out the [`Command`]; those that need nothing but the
//! configuration are carried out here (one file each), the others by the rooms they belong to.
//! [`banner()`] and [`warnings`] are what a start says, of a proxy [`proxy_banner`] and
//! [`proxy_warnings`]. This room holds no state and starts
//! nothing.
//!
//! Exit codes: 0 done, 1 failed, [`EXIT_USAGE`] wrong usage or configuration.

mod banner;
mod bucket;
mod bucket_restore;
mod config;
mod doctor;
mod proxy;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Args, Parser, Subcommand};

pub use banner::{banner, warnings};
pub use bucket::bucket_check;
pub use bucket_restore::{Wanted, bucket_restore};
pub use config::{check, reference};
pub use doctor::doctor;
pub use proxy::{proxy_banner, proxy_warnings};
pub use wal::wal_check;

use crate::broker::restore::{OFFSET_GAP, OFFSET_GAP_MAX};
use crate::config::{Config, Errors, ProxyConfig, Role, Sources};

/// The exit code for a command line or configuration that is wrong.
pub const EXIT_USAGE: u8 = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the broker.
    Serve(Settings),
    /// Run a proxy.
    Proxy(Settings),
    /// Print every configuration key ([`reference()`]).
    ConfigReference {
        /// Of what.
        role: Role,
        /// As the page of the documentation rather than for the terminal.
        markdown: bool,
    },
    /// Say whether the configuration is right ([`check`]).
    ConfigCheck {
        /// The configuration to check.
        settings: Settings,
        /// What it is of.
        role: Role,
    },
    /// Examine the write-ahead log of a broker that is not running.
    WalCheck(Settings),
    /// Examine what a broker that is not running has in its bucket ([`bucket_check`]).
    BucketCheck {
        /// The broker's configuration.
        settings: Settings,
        /// Whether the findings are printed as JSON.
        json: bool,
    },
    /// Fill an empty data directory from the bucket ([`mod@bucket_restore`]).
    BucketRestore {
        /// The broker's configuration, with the empty directory.
        settings: Settings,
        /// How.
        wanted: Wanted,
    },
    /// Try bucket, disk and listeners, or the upstream of a proxy ([`doctor()`]).
    Doctor {
        /// The configuration to try.
        settings: Settings,
        /// What it is of.
        role: Role,
        /// Whether the findings are printed as JSON.
        json: bool,
    },
}

/// Runs `work` to its end on all cores. If that cannot be begun it is said, and the error is the
/// exit code.
#[allow(clippy::print_stderr, reason = "a command's answer is its output")]
pub fn run_to_end<T>(work: impl Future<Output = T>) -> Result<T, ExitCode> {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(error) => {
            eprintln!("start runtime: {error}");
            Err(ExitCode::FAILURE)
        }
    }
}

/// Where the command line says that the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file given with `--config`.
    pub file: Option<PathBuf>,
    /// Keys and values given with `--set` or a flag of their own.
    pub flags: Vec<(String, String)>,
    /// Whether a data directory that was fenced takes its place back (`--take-over`).
    pub take_over: bool,
}

impl Settings {
    /// Reads the file and the environment, and loads the configuration.
    pub fn load(&self) -> Result<Config, Errors> {
        Sources::of_process(self.flags.clone(), self.file.clone())?.load()
    }

    /// The same for a proxy.
    pub fn load_proxy(&self) -> Result<ProxyConfig, Errors> {
        Sources::of_process(self.flags.clone(), self.file.clone())?.load_proxy()
    }
}

/// Reads the process's command line. Prints and exits for `--help`, `--version` and usage errors.
pub fn parse() -> Command {
    Cli::parse().into_command()
}

/// A Kafka-compatible broker and proxy in one binary.
///
/// Kafka clients connect to it as to Apache Kafka. What it acknowledges is on disk. Without any
/// configuration it listens on 127.0.0.1:9092 and keeps its data in ./tidegate-data.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  tidegate
      run a broker for this machine, with data in ./tidegate-data
  tidegate --data-dir /var/lib/tidegate --listeners PLAINTEXT://0.0.0.0:9092 \\
      --advertised-listeners PLAINTEXT://broker.example.com:9092
      run a broker for other machines too
  tidegate --set log.retention.ms=1d --set num.partitions=6
      set any configuration key
  tidegate serve --config /etc/kafka/server.properties
      take the configuration from a file, in TOML or as a Kafka server.properties
  TIDEGATE_LOG_RETENTION_MS=1d tidegate
      take it from the environment
  tidegate proxy --upstream kafka-1:9092,kafka-2:9092
      stand in front of a Kafka cluster, for clients of 127.0.0.1:19092
  tidegate proxy --upstream kafka-1.example.com:9092,kafka-2.example.com:9092
      run a proxy in front of a Kafka cluster, for clients of this machine
  tidegate doctor --config /etc/tidegate.toml
      try bucket, disk and listeners before the first start, or when something is slow
  tidegate doctor --upstream kafka-1.example.com:9092
      try the Kafka cluster that a proxy is to be put before
  tidegate config reference
      list every key with its type, default and effect"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Run the broker (what happens without a command, too).
    Serve(SettingsArgs),
    /// Run a proxy in front of a Kafka cluster: clients change one address and nothing else.
    Proxy(ProxySettingsArgs),
    /// List or check the configuration.
    #[command(subcommand)]
    Config(ConfigSub),
    /// Examine the write-ahead log.
    #[command(subcommand)]
    Wal(WalSub),
    /// Examine the bucket, or restore a broker from it.
    #[command(subcommand)]
    Bucket(BucketSub),
    /// Try the bucket, the disk and the listeners of a configuration, or with --upstream the Kafka
    /// cluster behind a proxy, and say what is wrong, what that does and what helps; exit code 1 if
    /// something is.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        either: EitherArgs,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigSub {
    /// List every key with its type, default and effect.
    Reference {
        /// List the keys of a proxy rather than those of a broker.
        #[arg(long)]
        proxy: bool,
        /// Print it as docs/configuration.md, or docs/proxy-configuration.md.
        #[arg(long)]
        markdown: bool,
    },
    /// Check a configuration without starting anything; exit code 2 if it is wrong.
    Check(Box<EitherArgs>),
}

#[derive(Debug, Subcommand)]
enum WalSub {
    /// Read the whole write-ahead log of a broker that is not running, and say whether a start
    /// would accept it; nothing is changed.
    Check(SettingsArgs),
}

#[derive(Debug, Subcommand)]
enum BucketSub {
    /// Read all that a broker which is not running has in its bucket, and say whether a restore
    /// would find everything; exit code 1 if not. Nothing is changed.
    Check {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Fill an empty data directory from the bucket, for a broker whose own is lost; stop that one
    /// first. What had not reached the bucket is lost and told. Repeat it if it was cut.
    Restore {
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
        /// Go on so many offsets behind the last one known of each partition, so that none of a
        /// lost record is given out again.
        #[arg(
            long,
            value_name = "OFFSETS",
            default_value_t = OFFSET_GAP,
            value_parser = clap::value_parser!(i64).range(1..=OFFSET_GAP_MAX),
        )]
        offset_gap: i64,
        /// Go on without objects and groups that cannot be read; what they hold is lost then.
        #[arg(long)]
        skip_damaged: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

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
struct SettingsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The configuration of a proxy.
#[derive(Args, Debug)]
// There is nothing of a broker here that could be in conflict.
#[command(mut_group("ProxyArgs", |group| group.conflicts_with(Resettable::Reset)))]
struct ProxySettingsArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    of_proxy: ProxyArgs,
}

/// The configuration of a broker or of a proxy.
#[derive(Args, Debug)]
struct EitherArgs {
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

impl Cli {
    fn into_command(self) -> Command {
        match self.command {
            None => Command::Serve(self.settings.into()),
            Some(Sub::Serve(settings)) => Command::Serve(settings.into()),
            Some(Sub::Proxy(ProxySettingsArgs { common, of_proxy })) => {
                Command::Proxy(common.with(&of_proxy.keys()))
            }
            Some(Sub::Config(ConfigSub::Reference { proxy, markdown })) => {
                Command::ConfigReference { role: role(proxy), markdown }
            }
            Some(Sub::Config(ConfigSub::Check(either))) => {
                let (role, settings) = either.split();
                Command::ConfigCheck { settings, role }
            }
            Some(Sub::Wal(WalSub::Check(settings))) => Command::WalCheck(settings.into()),
            Some(Sub::Bucket(BucketSub::Check { json, settings })) => {
                Command::BucketCheck { settings: settings.into(), json }
            }
            Some(Sub::Bucket(BucketSub::Restore { json, offset_gap, skip_damaged, settings })) => {
                let wanted = Wanted { json, offset_gap, skip_damaged };
                Command::BucketRestore { settings: settings.into(), wanted }
            }
            Some(Sub::Doctor { json, either }) => {
                let (role, settings) = either.split();
                Command::Doctor { settings, role, json }
            }
        }
    }
}

fn role(is_proxy: bool) -> Role {
    if is_proxy { Role::Proxy } else { Role::Broker }
}

impl From<SettingsArgs> for Settings {
    fn from(SettingsArgs { common, broker }: SettingsArgs) -> Self {
        let take_over = broker.take_over;
        Self { take_over, ..common.with(&broker.keys()) }
    }
}

impl EitherArgs {
    fn split(self) -> (Role, Settings) {
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

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE, such as log.retention.ms=1d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(args: &[&str]) -> Command {
        let all = std::iter::once("tidegate").chain(args.iter().copied());
        Cli::try_parse_from(all).unwrap().into_command()
    }

    fn flags(pairs: &[(&str, &str)]) -> Settings {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Settings { file: None, flags: pairs.iter().map(owned).collect(), take_over: false }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve_with_the_same_flags() {
        assert_eq!(parsed(&[]), Command::Serve(Settings::default()));
        let args = ["--data-dir", "/d", "--set", "num.partitions=3", "--set", "a=b=c"];
        let expected =
            Command::Serve(flags(&[("num.partitions", "3"), ("a", "b=c"), ("data.dir", "/d")]));
        assert_eq!(parsed(&args), expected);
        let with_command: Vec<_> = std::iter::once("serve").chain(args).collect();
        assert_eq!(parsed(&with_command), expected);
    }

    #[test]
    fn the_other_commands_are_found() {
        assert_eq!(
            parsed(&["config", "reference", "--markdown"]),
            Command::ConfigReference { role: Role::Broker, markdown: true }
        );
        assert_eq!(
            parsed(&["config", "reference", "--proxy"]),
            Command::ConfigReference { role: Role::Proxy, markdown: false }
        );
        let file = Settings { file: Some("f".into()), ..Settings::default() };
        assert_eq!(
            parsed(&["config", "check", "--config", "f"]),
            Command::ConfigCheck { settings: file, role: Role::Broker }
        );
        assert_eq!(
            parsed(&["proxy", "--upstream", "a:1", "--set", "node.ids=1"]),
            Command::Proxy(flags(&[("node.ids", "1"), ("upstream.bootstrap.servers", "a:1")]))
        );
        assert_eq!(
            parsed(&["wal", "check", "--data-dir", "/d"]),
            Command::WalCheck(flags(&[("data.dir", "/d")]))
        );
        let settings = flags(&[("data.dir", "/d")]);
        assert_eq!(
            parsed(&["bucket", "check", "--json", "--data-dir", "/d"]),
            Command::BucketCheck { settings: settings.clone(), json: true }
        );
        assert_eq!(
            parsed(&["bucket", "restore", "--data-dir", "/d"]),
            Command::BucketRestore {
                settings: settings.clone(),
                wanted: Wanted { json: false, offset_gap: 1_000_000_000, skip_damaged: false }
            }
        );
        assert_eq!(
            parsed(&["doctor", "--json", "--data-dir", "/d"]),
            Command::Doctor { settings, role: Role::Broker, json: true }
        );
        assert_eq!(
            parsed(&["doctor", "--upstream", "a:1"]),
            Command::Doctor {
                settings: flags(&[("upstream.bootstrap.servers", "a:1")]),
                role: Role::Proxy,
                json: false
            }
        );
    }

    #[test]
    fn a_proxy_takes_its_own_flags_and_none_of_the_brokers() {
        let args = ["proxy", "--upstream=a:1,b:2", "--admin-listener=:3", "--set=x=y"];
        let keys =
            [("x", "y"), ("upstream.bootstrap.servers", "a:1,b:2"), ("admin.listener", ":3")];
        assert_eq!(parsed(&args), Command::Proxy(flags(&keys)));
        for wrong in ["--proxy", "--data-dir=/d", "--take-over"] {
            let error = Cli::try_parse_from(["tidegate", "proxy", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
        }
    }

    #[test]
    fn a_flag_of_the_proxy_makes_it_a_proxys_configuration() {
        let proxy = |args: &[&str]| match parsed(args) {
            Command::ConfigCheck { settings, role: Role::Proxy } => settings,
            other => panic!("{other:?}"),
        };
        let args = ["config", "check", "--upstream=a:1", "--listen=:2", "--node-ids=1-3", "-sx=y"];
        let keys = [
            ("x", "y"),
            ("upstream.bootstrap.servers", "a:1"),
            ("proxy.listener", ":2"),
            ("node.ids", "1-3"),
        ];
        assert_eq!(proxy(&args), flags(&keys));
        let common = ["config", "check", "--proxy", "--admin-listener=:3", "--log-level=debug"];
        assert_eq!(proxy(&common), flags(&[("admin.listener", ":3"), ("log.level", "debug")]));
        let flags = proxy(&args).flags.into_iter().filter(|(key, _)| key != "x").collect();
        let config = Sources { flags, ..Sources::default() }.load_proxy().unwrap();
        assert_eq!(config.clusters[0].listener.port, 2);
    }

    #[test]
    fn flags_of_broker_and_proxy_do_not_go_together() {
        for args in [["--proxy", "--data-dir=/d"], ["--upstream=a:1", "--take-over"]] {
            let all = ["tidegate", "config", "check"].into_iter().chain(args);
            let error = Cli::try_parse_from(all).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{args:?}");
        }
    }

    #[test]
    fn a_setting_without_a_value_is_a_usage_error() {
        for wrong in ["num.partitions", "=3", ""] {
            let error = Cli::try_parse_from(["tidegate", "--set", wrong]).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
        }
    }

    #[test]
    fn an_offset_gap_that_would_give_offsets_out_again_is_a_usage_error() {
        for wrong in ["0", "-1", "1099511627777", "many"] {
            let args = ["tidegate", "bucket", "restore", "--offset-gap", wrong];
            let error = Cli::try_parse_from(args).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
        }
    }

    #[test]
    fn every_flag_of_its_own_sets_a_key_that_exists() {
        let args = [
            "--data-dir=/d",
            "--listeners=PLAINTEXT://127.0.0.1:1",
            "--advertised-listeners=PLAINTEXT://a:1",
            "--admin-listener=127.0.0.1:2",
            "--log-level=debug",
        ];
        let Command::Serve(settings) = parsed(&args) else { panic!("not serve") };
        assert_eq!(settings.flags.len(), args.len());
        let config = Sources { flags: settings.flags, ..Sources::default() }.load().unwrap();
        assert_eq!(config.process.log_level, "debug");
        assert_eq!(config.server.listeners[0].advertised.to_string(), "a:1");
    }
}
