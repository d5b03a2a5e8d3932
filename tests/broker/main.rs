//! The broker over real sockets: one process, one data directory and one port per test.

#[path = "../harness/mod.rs"]
mod harness;

mod start;
