//! Tidegate.

pub mod budget;
pub mod clock;
pub mod metrics;
pub mod shutdown;
pub mod task;

pub mod config;
pub mod protocol;

pub mod object;

pub mod server;
pub mod wal;

pub mod cluster;

pub mod partition;

pub mod group;

pub mod broker;

pub mod api;

pub mod admin;
pub mod cli;
