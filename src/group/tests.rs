//! The coordinator against a log in memory, under tokio's paused clock.

mod harness;

mod join;
mod leave;
mod memory;
mod offsets;
mod random;
mod restart;
mod static_members;
mod sync;
mod tasks;
