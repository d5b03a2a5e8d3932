//! Whether a data directory may go on with a bucket: DESIGN §4's rules, as a function of what is
//! known of both, without any input or output.

use super::ids::{ClusterId, Identity, Incarnation};
use super::image::ClusterImage;

/// What the WAL knows, read by its owner before the cluster is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalState {
    /// The identity that its first file names; `None` if there is no WAL.
    pub identity: Option<[u8; 16]>,
    /// Whether it has any record.
    pub has_records: bool,
    /// The greatest metadata number that any of its records depends on; 0 for none.
    pub metadata_number: u64,
}

/// Everything that the rules look at.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) node_id: i32,
    pub(super) directory: String,
    pub(super) bucket: String,
    pub(super) identity: Identity,
    pub(super) incarnation: Incarnation,
    pub(super) noted: &'a [Incarnation],
    pub(super) fenced: bool,
    pub(super) take_over: bool,
    pub(super) wal: WalState,
    pub(super) image: &'a ClusterImage,
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Puts the first entry, which creates the cluster and binds the directory.
    CreateCluster,
    /// Puts an entry that begins this run.
    BeginRun,
    /// Nothing: an earlier attempt of this run had put the entry.
    Begun,
    /// Puts an entry that binds the directory and opens its restore.
    OpenRestore,
}

/// Why a data directory must not go on with a bucket. Each names both and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The WAL was made for another directory.
    #[error(
        "the WAL in data directory \"{directory}\" belongs to identity {wal} and the directory's \
         file identity says {identity}; start with the directory as it was, or {RESTORE}"
    )]
    WalOfAnotherDirectory {
        /// The directory.
        directory: String,
        /// The directory's identity.
        identity: Identity,
        /// The identity that the WAL names.
        wal: Identity,
    },
    /// There is no WAL although the directory was in use.
    #[error(
        "data directory \"{directory}\" (identity {identity}) has no WAL; start with the \
         directory that has it, or {RESTORE}"
    )]
    WalLost {
        /// The directory.
        directory: String,
        /// The directory's identity.
        identity: Identity,
    },
    /// There is data in the directory but no cluster in the bucket.
    #[error(
        "the bucket at \"{bucket}\" has no cluster but data directory \"{directory}\" (identity \
         {identity}) has data of one; set object.url to the bucket it was used with, or start \
         with an empty data directory"
    )]
    EmptyBucket {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The directory's identity.
        identity: Identity,
    },
    /// The metadata in the bucket ends before what the directory rests on.
    #[error(
        "the metadata in the bucket at \"{bucket}\" ends before entry {needed}, on which data \
         directory \"{directory}\" rests; set object.url to the bucket it was used with: this is \
         another one or an older copy"
    )]
    ShorterBucket {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The number of the entry that is missing.
        needed: u64,
    },
    /// The directory was used with another bucket.
    #[error(
        "data directory \"{directory}\" was used with cluster {expected} and the bucket at \
         \"{bucket}\" holds another history (cluster {found}); set object.url to the bucket it \
         was used with, or start with that bucket's data directory"
    )]
    ForeignBucket {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The cluster that the directory was used with.
        expected: ClusterId,
        /// The cluster in the bucket.
        found: ClusterId,
    },
    /// The cluster has no broker of this id.
    #[error(
        "cluster {cluster_id} in the bucket at \"{bucket}\" has no broker {node_id}, only \
         {known}; set node.id to the one that data directory \"{directory}\" was used with"
    )]
    UnknownBroker {
        /// The cluster.
        cluster_id: ClusterId,
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The configured id.
        node_id: i32,
        /// The ids there are.
        known: String,
    },
    /// The directory is new and the broker's id has another.
    #[error(
        "broker {node_id} in the bucket at \"{bucket}\" has its data in a directory with \
         identity {bound} and data directory \"{directory}\" is empty; start with the right data \
         directory, or {RESTORE}"
    )]
    EmptyDirectory {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
        /// The identity that the id is bound to.
        bound: Identity,
    },
    /// The broker's id is bound to another directory.
    #[error(
        "broker {node_id} in the bucket at \"{bucket}\" has its data in a directory with \
         identity {bound} and data directory \"{directory}\" has identity {identity}; start with \
         the right data directory, or {RESTORE}"
    )]
    AnotherDirectory {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
        /// The identity that the id is bound to.
        bound: Identity,
        /// The directory's identity.
        identity: Identity,
    },
    /// A run of this broker was begun from a copy of the directory.
    #[error(
        "the last run of broker {node_id} in the bucket at \"{bucket}\" (incarnation {last}, \
         metadata entry {entry}) was not begun from data directory \"{directory}\": this is a \
         copy of the right data directory or an older state of it; start with the right one, or \
         {RESTORE}"
    )]
    UnknownIncarnation {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
        /// The last incarnation.
        last: Incarnation,
        /// The entry that began it.
        entry: u64,
    },
    /// A broker that started from a copy took this one's place while it ran.
    #[error(
        "data directory \"{directory}\" was fenced: broker {node_id} in the bucket at \
         \"{bucket}\" was started elsewhere (incarnation {last}, metadata entry {entry}); start \
         with the data directory of that run, or, to give up what that one acknowledged, start \
         this one with --take-over"
    )]
    Fenced {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
        /// The last incarnation.
        last: Incarnation,
        /// The entry that began it.
        entry: u64,
    },
    /// The directory was not filled to the end.
    #[error(
        "the restore of broker {node_id} from the bucket at \"{bucket}\" into data directory \
         \"{directory}\" has not ended; run `tidegate bucket restore` again with this directory, \
         and start with it then"
    )]
    RestoreOpen {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
    },
    /// Nothing is restored into the directory.
    #[error(transparent)]
    Restore(#[from] RestoreRefusal),
}

/// Why nothing is restored into a data directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreRefusal {
    /// There is nothing to restore.
    #[error(
        "the bucket at \"{bucket}\" has no cluster: there is nothing to restore; set object.url to \
         the bucket of the broker that was lost"
    )]
    NoCluster {
        /// The bucket.
        bucket: String,
    },
    /// The directory was in use.
    #[error(
        "data directory \"{directory}\" is not empty: {found}; restore into an empty one (set \
         data.dir), or start the broker that this one belongs to"
    )]
    NotEmpty {
        /// The directory.
        directory: String,
        /// What is there.
        found: &'static str,
    },
    /// The directory is the broker's own.
    #[error(
        "data directory \"{directory}\" is the one of broker {node_id} in the bucket at \
         \"{bucket}\": there is nothing to restore; start it with `tidegate`, or, if what it has \
         is lost, set data.dir to an empty one"
    )]
    Own {
        /// The bucket.
        bucket: String,
        /// The directory.
        directory: String,
        /// The broker's id.
        node_id: i32,
    },
}

const RESTORE: &str = "restore the bucket into an empty directory with `tidegate bucket restore`";

/// Decides what a start does, or refuses it.
pub(super) fn decide(facts: &Facts<'_>) -> Result<Decision, Refusal> {
    let directory = || facts.directory.clone();
    let bucket = || facts.bucket.clone();
    let identity = facts.identity;
    let has_wal = match facts.wal.identity.map(Identity) {
        Some(wal) if wal != identity => {
            return Err(Refusal::WalOfAnotherDirectory { directory: directory(), identity, wal });
        }
        found => found.is_some(),
    };
    let image = facts.image;
    if image.number() == 0 {
        if facts.wal.has_records || facts.wal.metadata_number > 0 || facts.fenced {
            let (bucket, directory) = (bucket(), directory());
            return Err(Refusal::EmptyBucket { bucket, directory, identity });
        }
        if !has_wal {
            return Err(Refusal::WalLost { directory: directory(), identity });
        }
        return Ok(Decision::CreateCluster);
    }
    if image.number() < facts.wal.metadata_number {
        return Err(Refusal::ShorterBucket {
            bucket: bucket(),
            directory: directory(),
            needed: facts.wal.metadata_number,
        });
    }
    decide_bound(facts, has_wal)
}

/// The rules for a bucket that holds a cluster at least as long as the WAL needs.
fn decide_bound(facts: &Facts<'_>, has_wal: bool) -> Result<Decision, Refusal> {
    let (bucket, directory) = (facts.bucket.clone(), facts.directory.clone());
    let (identity, node_id) = (facts.identity, facts.node_id);
    let Some(broker) = facts.image.broker(node_id) else {
        let cluster_id = facts.image.cluster_id();
        let known = known_brokers(facts.image);
        return Err(Refusal::UnknownBroker { cluster_id, bucket, directory, node_id, known });
    };
    let bound = broker.identity;
    if bound != identity {
        let is_new = facts.noted.is_empty() && !facts.wal.has_records;
        return Err(if is_new {
            Refusal::EmptyDirectory { bucket, directory, node_id, bound }
        } else {
            Refusal::AnotherDirectory { bucket, directory, node_id, bound, identity }
        });
    }
    if broker.is_restoring {
        return Err(Refusal::RestoreOpen { bucket, directory, node_id });
    }
    if !has_wal {
        return Err(Refusal::WalLost { directory, identity });
    }
    let (last, entry) = (broker.incarnation, broker.incarnation_entry);
    if last == facts.incarnation {
        return Ok(Decision::Begun);
    }
    // A fenced directory that knows the last incarnation took over and was killed before it could
    // remove the file.
    if facts.noted.contains(&last) || (facts.fenced && facts.take_over) {
        return Ok(Decision::BeginRun);
    }
    if facts.fenced {
        return Err(Refusal::Fenced { bucket, directory, node_id, last, entry });
    }
    Err(Refusal::UnknownIncarnation { bucket, directory, node_id, last, entry })
}

/// Decides what a restore into the directory does, or refuses it. One that was cut is gone on with;
/// an empty directory takes the place of whatever the broker's id is bound to.
pub(super) fn decide_restore(facts: &Facts<'_>) -> Result<Decision, Refusal> {
    let (bucket, directory) = (facts.bucket.clone(), facts.directory.clone());
    let (identity, node_id) = (facts.identity, facts.node_id);
    if facts.image.number() == 0 {
        return Err(RestoreRefusal::NoCluster { bucket }.into());
    }
    let Some(broker) = facts.image.broker(node_id) else {
        let cluster_id = facts.image.cluster_id();
        let known = known_brokers(facts.image);
        return Err(Refusal::UnknownBroker { cluster_id, bucket, directory, node_id, known });
    };
    if broker.identity == identity && broker.is_restoring {
        let (last, entry) = (broker.incarnation, broker.incarnation_entry);
        return match last {
            last if last == facts.incarnation => Ok(Decision::Begun),
            last if facts.noted.contains(&last) => Ok(Decision::BeginRun),
            last => Err(Refusal::UnknownIncarnation { bucket, directory, node_id, last, entry }),
        };
    }
    if broker.identity == identity {
        return Err(RestoreRefusal::Own { bucket, directory, node_id }.into());
    }
    let found = if facts.fenced {
        "it has the file fenced"
    } else if facts.wal.has_records {
        "it has a write-ahead log with records"
    } else {
        return Ok(Decision::OpenRestore);
    };
    Err(RestoreRefusal::NotEmpty { directory, found }.into())
}

fn known_brokers(image: &ClusterImage) -> String {
    let known: Vec<_> = image.brokers().map(|(id, _)| id.to_string()).collect();
    known.join(", ")
}

#[cfg(test)]
mod tests;
