//! Room `server`: the front door.

pub mod service;
