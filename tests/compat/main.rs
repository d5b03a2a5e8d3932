//! Real clients over real sockets. Run by `tests/run`, which installs them under `target/clients`;
//! `cargo test` alone leaves this suite out (`test = false` in Cargo.toml).
//!
//! Long forms, each after `tests/run`, with figures in the output:
//!
//! ```text
//! export TIDEGATE_BIN=$PWD/target/release/tidegate TIDEGATE_LONG=1
//! cargo test --test compat main_job -- --test-threads=1             a million records, five kills
//! cargo test --test compat a_log_of_many -- --nocapture             5 GiB with 1 GiB of disk
//! cargo test --test compat a_server_that_is_away -- --nocapture     ten minutes without a bucket
//! cargo test --test compat of_more_keys -- --nocapture              ten million keys
//! TIDEGATE_KEYS=100000000 cargo test --test compat of_more_keys -- --nocapture
//! cargo test --test compat through_the_proxy -- --test-threads=1   the whole matrix at the proxy
//! TIDEGATE_MINUTES=60 cargo test --test compat under_load -- --nocapture     an hour of load
//! ```
#![allow(unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::print_stdout, reason = "figures belong to the output of a test")]
#![allow(clippy::disallowed_methods, reason = "tests own their files, threads and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod churn;
mod clients;
mod compacted;
mod judge;
mod main_job;
mod matrix;
mod sessions;
mod smoke;
mod suites;
mod tiered;
mod tools;
