//! Connections that this process opens to other Kafka servers.
//!
//! The proxy connects to its upstreams by a [`Connector`], and `doctor` does. [`Client`] asks
//! requests of our own over such a connection, one at a time; what the proxy passes on for its
//! clients never goes through it. The command line works on whole clusters: a [`Cluster`] asks any
//! node, and [`Leaders`] knows which one has a partition. A [`Consumer`] reads partitions, and a
//! [`GroupConsumer`] topics as a member of a group.
//!
//! **Invariants:** every wait has a deadline by the injected clock; what a server claims about the
//! size of its answer allocates nothing; an answer is decoded only behind the guard; every error
//! says in words what is likely wrong, since whoever reads it often runs neither side.

mod call;
mod cluster;
mod connect;
mod consumer;
mod group;
mod leaders;
mod partitioner;
mod producer;
mod record;

pub use call::{CALL_TIMEOUT, Client, ClientError};
pub use cluster::{Cluster, ClusterError, Node, Server, Target};
pub use connect::{CONNECT_TIMEOUT, ConnectError, Connector, Stage};
pub use consumer::{Consumer, ConsumerError, ConsumerOptions, Reset, Skipped, Trouble};
pub use group::{GroupConsumer, GroupError, GroupOptions};
pub use leaders::{EARLIEST, LATEST, Leader, Leaders, ListedOffset, Listing, Place};
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{Acks, Delivered, ProduceError, Producer, ProducerOptions, Report};
pub use record::{NewRecord, Record};

#[cfg(test)]
mod tests;
