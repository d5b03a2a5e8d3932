//! Real clients over real sockets. Run by `tests/run`, which installs them under `target/clients`;
//! `cargo test` alone leaves this suite out (`test = false` in Cargo.toml).
#![allow(unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::disallowed_methods, reason = "tests own their files, threads and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod churn;
mod clients;
mod judge;
mod main_job;
mod matrix;
mod sessions;
mod smoke;
mod suites;
mod tiered;
mod tools;
