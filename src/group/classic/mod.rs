//! The classic protocol: what each of its four requests, and the passing of time, does to a
//! [`super::group::ClassicGroup`].

mod heartbeat;
mod join;
mod leave;
mod rebalance;
mod sync;
