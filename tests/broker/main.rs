//! The broker over real sockets: one process, one data directory and one port per test.
//!
//! ```text
//! cargo test --test broker                                   short forms, debug build
//! cargo build --release && TIDEGATE_BIN=$PWD/target/release/tidegate \
//!     TIDEGATE_LONG=1 cargo test --test broker               long forms, release build
//! ```
//!
//! `enospc` mounts a small tmpfs and therefore needs root; without it that test fails.
#![allow(unreachable_pub, reason = "a test binary has no users")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::print_stdout, reason = "figures belong to the output of a test")]
#![allow(clippy::float_cmp, reason = "metrics are counts, which are exact")]
#![allow(clippy::disallowed_methods, reason = "tests own their files, threads and clocks")]

#[path = "../harness/mod.rs"]
mod harness;

mod addresses;
mod admin;
mod amplify;
mod bad_input;
mod bombs;
mod bounds;
mod cli_admin;
mod cli_consume;
mod cli_produce;
mod cli_top;
mod cold;
mod compaction;
mod configs;
mod copies;
mod enospc;
mod fetch_sessions;
mod fields;
mod forge;
mod frames;
mod gotchas;
mod hostile;
mod limits;
mod memory;
mod metrics;
mod mutations;
mod names;
mod pipeline;
mod records;
mod requests;
mod restore;
mod slow;
mod start;
mod storm;
mod sync;
mod tables;
mod tier;
mod tier_away;
mod tier_economy;
mod tier_kill;
mod tier_offsets;
mod tier_reads;
mod tiering;
mod tls;
mod versions;
mod weather;
