//! What an operator deploys and looks at: dashboards, rules and runbooks of `grafana/` and
//! `docs/runbooks`, against a real Prometheus that scrapes a broker and a proxy under load. Run by
//! `tests/run`; `cargo test` alone leaves this suite out (`test = false` in Cargo.toml). It needs
//! Debian's package `prometheus` and the clients of `tests/run`, and a debug build of the broker,
//! which alone takes other times than hours for what goes on beside the requests.
#![allow(unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod dashboards;
mod lint;
mod live;
mod promql;
mod rules;
mod scene;
