//! Room `partition`.
