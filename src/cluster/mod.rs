//! The cluster's metadata: which topics, partitions, brokers and producer ids there are, and who
//! may say so.
//!
//! The truth is a log of numbered objects in the bucket, `meta/<n>` from 1 on, each written once
//! and never deleted. [`ClusterImage`] is all that it says up to one entry; every request works on
//! one image from its beginning to its end. [`Cluster`] is the handle of a running broker: it hands
//! out the present image and commits changes, which one task folds into the next entry. A start
//! does not read the whole log: the data directory keeps a copy of the image, the bucket keeps
//! snapshots.
//!
//! The room also decides whether a data directory may go on with a bucket at all. One directory
//! belongs to one broker id, and each run of it begins with an entry of its own, which fences the
//! run before. In order of a start:
//!
//! 1. [`prepare`] reads or makes the directory's identity;
//! 2. the caller opens the WAL, or makes it with that identity in its first file;
//! 3. [`Cluster::open`] reads the metadata, applies the rules to both and to the WAL's state, and
//!    binds or begins the run.
//!
//! `broker/` opens and closes the cluster, calls [`Cluster::check_fenced`] every 10 s, and hands
//! images on; `partition/` and `group/` read them.
//!
//! **Invariant:** the number of the entry that gave a partition its present ownership is its
//! leader epoch (plus the topic's base), so a restart raises all epochs with one entry.
//! **Invariant:** nothing is written while nothing changes.
//!
//! A data directory that is lost is replaced by an empty one through [`OpenRestore`].
//!
//! Deliberately absent: elections and heartbeats; there is one broker.

mod change;
mod handle;
mod identity;
mod ids;
mod image;
mod limits;
mod load;
mod metrics;
mod open;
mod producer_ids;
mod record;
mod restore;
mod rules;
mod shards;
mod snapshot;
#[cfg(test)]
mod testing;
mod topic;
mod writer;

pub use change::{Change, ChangeError, NewTopic, Outcome, TopicRef};
pub use handle::{COMMIT_TIMEOUT, CheckError, Cluster, CommitError, Committed, Fence};
pub use identity::{IdentityError, Prepared, prepare};
pub use ids::{ClusterId, Identity, Incarnation};
pub use image::{ApplyError, Broker, ClusterImage, FEATURE_LEVEL, FIRST_PRODUCER_ID};
pub use limits::Limits;
pub use load::{LoadError, read_image};
pub use metrics::ClusterMetrics;
pub use open::{ClusterOptions, OpenError};
pub use record::{ALL_BROKERS, Record, RecordError};
pub use restore::OpenRestore;
pub use rules::{Refusal, RestoreRefusal, WalState};
pub use snapshot::SnapshotError;
pub use topic::{MAX_NAME_CHARS, NameError, Span, Topic, validate_name};
