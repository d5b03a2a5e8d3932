//! The command line: what can be asked of the binary, and what it says to a person.
//!
//! `main` calls [`parse`] and carries out the [`Command`]; those that need nothing but the
//! configuration or a cluster to speak to are carried out here (one file each), the others by the
//! rooms they belong to.
//! [`banner()`] and [`warnings`] are what a start says, of a proxy [`proxy_banner`] and
//! [`proxy_warnings`]. This room holds no state and starts nothing.
//!
//! Exit codes: 0 done, 1 failed, [`EXIT_USAGE`] wrong usage or configuration.

mod args;
mod banner;
mod bench;
mod bucket;
mod bucket_restore;
mod cluster;
mod completions;
mod config;
mod configs;
mod connection;
mod consume;
mod demo;
mod doctor;
mod group;
mod input;
mod interrupt;
mod output;
mod places;
mod produce;
mod proxy;
mod session;
mod top;
mod topic;
mod wal;
mod when;

use std::path::PathBuf;
use std::process::ExitCode;

pub use banner::{banner, warnings};
pub use bench::bench;
pub use bucket::bucket_check;
pub use bucket_restore::{Wanted, bucket_restore};
pub use cluster::cluster;
pub use completions::completions;
pub use config::{check, reference, schema};
pub use connection::Connection;
pub use consume::consume;
pub use demo::{Shown, demo};
pub use doctor::doctor;
pub use group::group;
pub use output::Output;
pub use produce::{Form, Wanted as Produced, produce};
pub use proxy::{proxy_banner, proxy_warnings};
pub use top::{Top, top};
pub use topic::topic;
pub use wal::wal_check;

use self::args::cluster::ClusterAction;
use self::args::consume::Consume;
use self::args::group::GroupAction;
use self::args::topic::TopicAction;
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
    /// Print the keys as a JSON Schema ([`schema`]).
    ConfigSchema {
        /// Of what.
        role: Role,
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
    /// Administer topics ([`topic()`]).
    Topic(Box<Remote<TopicAction>>),
    /// Administer consumer groups ([`group()`]).
    Group(Box<Remote<GroupAction>>),
    /// Look at a cluster ([`cluster()`]).
    Cluster(Box<Remote<ClusterAction>>),
    /// Produce records ([`produce()`]).
    Produce {
        /// To which cluster.
        connection: Connection,
        /// What, and how.
        wanted: Box<Produced>,
    },
    /// Measure a cluster ([`bench()`]).
    Bench(Box<Remote<bench::Wanted>>),
    /// Fill sample topics and read them ([`demo()`]).
    Demo {
        /// Of which cluster.
        connection: Connection,
        /// How.
        shown: Shown,
    },
    /// Print records ([`consume()`]).
    Consume(Box<(Connection, Consume)>),
    /// Watch a cluster ([`mod@top`]).
    Top(Box<Top>),
    /// Print what makes a shell complete the command line ([`completions()`]).
    Completions(clap_complete::Shell),
}

/// What is asked of a cluster over the Kafka protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<A> {
    /// Which cluster.
    pub connection: Connection,
    /// How the answer is printed.
    pub output: Output,
    /// What is asked.
    pub action: A,
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
    args::parse()
}
