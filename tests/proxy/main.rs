//! `tidegate proxy` over real sockets: in front of Apache Kafka, new and old, of a cluster of three,
//! of franz-go's kfake and of Tidegate itself. Run by `tests/run`, which installs them under
//! `target/clients`; `cargo test` alone leaves this suite out (`test = false` in Cargo.toml).
//!
//! Whatever comes through a proxy is looked at twice before a test sees it: the frame must not hold
//! an upstream's host, and no field of the decoded response one of its ports ([`client::Leaks`]).
#![allow(unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::print_stdout, reason = "figures belong to the output of a test")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod client;
mod cluster;
mod groups;
mod memory;
mod quick;
mod secured;
mod sockets;
mod start;
mod transactions;
mod versions;
mod walk;
mod work;
