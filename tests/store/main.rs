//! One contract over every backend of the bucket: a directory, memory, and real servers that the
//! tests start on loopback. Run by `tests/run`, which installs the servers under `target/clients`;
//! `cargo test` alone leaves this suite out (`test = false` in Cargo.toml).
//!
//! Each server gives the same results, or is refused by the conformance probe with the name of the
//! property that it does not keep. A server that is not installed is passed over with a word,
//! unless `CI` is `true`.
#![allow(unreachable_pub, reason = "modules of one test binary")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod broker;
mod contract;
mod identity;
mod parts;

use std::future::Future;

use tidegate::clock::{Clock, Random};
use tidegate::config::{ObjectConfig, ObjectUrl};
use tidegate::metrics::Registry;
use tidegate::object::{Store, Variables};

use crate::contract::Races;
use crate::harness::servers::Server;

/// Objects of more than one page.
const LISTED: usize = 1_001;

/// A store of the bucket of `config`.
fn connect(config: &ObjectConfig, variables: &Variables) -> Store {
    let (clock, random) = (Clock::system(), Random::system());
    Store::connect(config, variables, &clock, &random, &Registry::new()).unwrap()
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(future);
}

/// The contract over a server, in a bucket and below a prefix.
fn contract_over(server: &Server, races: Races) {
    let variables = Server::variables();
    for (bucket, prefix, listed) in [("whole", "", LISTED), ("part", "/some/prefix", 40)] {
        server.make_bucket(bucket);
        let config = server.config(&format!("s3://{bucket}{prefix}"));
        run(contract::holds(&connect(&config, &variables), listed, races));
        let (killed, next) = (connect(&config, &variables), connect(&config, &variables));
        let data = tempfile::tempdir().unwrap();
        run(parts::of_a_kill_are_given_up(&killed, &next, data.path()));
    }
}

#[test]
fn memory_keeps_the_contract() {
    let config = ObjectConfig::at(ObjectUrl::Memory);
    run(contract::holds(&connect(&config, &Variables::default()), LISTED, Races::AreWon));
}

#[test]
fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = ObjectConfig::at(ObjectUrl::File(folder.path().join("bucket")));
    run(contract::holds(&connect(&config, &Variables::default()), LISTED, Races::AreWon));
}

#[test]
fn versitygw_keeps_the_contract() {
    if let Some(server) = Server::versitygw() {
        contract_over(&server, Races::AreWon);
    }
}

#[test]
fn versitygw_keeps_the_contract_over_tls() {
    if let Some(server) = Server::versitygw_with_tls() {
        contract_over(&server, Races::AreWon);
    }
}

/// In the long form only: it takes minutes to build, and its repository is archived.
#[test]
fn minio_keeps_the_contract() {
    if std::env::var_os("TIDEGATE_LONG").is_none() {
        return;
    }
    if let Some(server) = Server::minio() {
        contract_over(&server, Races::AreWon);
    }
}

#[test]
fn seaweedfs_keeps_the_contract() {
    if let Some(server) = Server::seaweedfs() {
        contract_over(&server, Races::AreWon);
    }
}

#[test]
fn moto_keeps_the_contract() {
    if let Some(server) = Server::moto() {
        // `moto/s3/responses.py` looks for the object, and writes it some lines later.
        contract_over(&server, Races::MayBeLost);
    }
}
