//! Traps of the protocol, each named by its number in the list that `tests/gotchas.md` keeps. What
//! other suites show already is named there too.

mod epochs;
mod fetch;
mod offsets;
mod produce;
mod topics;
