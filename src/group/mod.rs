//! Room `group`.
