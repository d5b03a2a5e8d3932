//! Real clients over real sockets. Run by `tests/run`, which installs them under `target/clients`;
//! `cargo test` alone leaves this suite out (`test = false` in Cargo.toml).

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod judge;
mod main_job;
mod smoke;
