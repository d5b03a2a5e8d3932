//! `tidegate bucket restore`: fills an empty data directory from the bucket, for a broker whose own
//! is lost (DESIGN §6).
//!
//! ```text
//!   bind the directory ─▶ load ─▶ adopt ─▶ gap, epochs ─▶ groups ─▶ checkpoints ─▶ close
//!   (old one fenced)      last    what the  in a new       raised    local, then    (a start is
//!                         check-  flusher   write-ahead              bucket         possible)
//!                         point   left      log
//! ```
//!
//! What was only local is lost and told. Its offsets are never given out again: each partition goes
//! on behind the greatest that is known plus a gap, which a batch without data covers, so that who
//! stood inside of it goes on with the next new record.
//!
//! **Invariant:** until the last step nothing starts from the directory, and a restore that was cut
//! at any point begins again: it keeps the directory's identity, throws the new write-ahead log
//! away and makes it anew. **Invariant:** nothing in the bucket is deleted here.

mod adopt;
mod groups;
mod load;
mod publish;
mod rebuild;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use self::load::Loaded;
use self::rebuild::Rebuild;
pub use self::report::{PartitionReport, RestoreReport};
use super::bucket_log::{LoadError, PublishError};
use super::garbage::ids::{WritersError, write_writers};
use super::garbage::list::ListError;
use crate::budget::{Budget, Pool};
use crate::clock::{Clock, Random};
use crate::cluster::{
    self, ClusterMetrics, ClusterOptions, IdentityError, Limits, OpenError, OpenRestore, WalState,
    prepare,
};
use crate::config::Config;
use crate::failpoint;
use crate::metrics::Registry;
use crate::object::{DataDir, LocalError, ObjectError, OpenStoreError, Store, Variables, probe};
use crate::partition::{self, CheckpointError, Partitions, Shared};
use crate::task;
use crate::tier::ReadError;
use crate::wal::disk::{Disk, RealDisk};
use crate::wal::local::{self, Env, Options};
use crate::wal::{AdmitError, Poisoned, RoomError, Stream};

/// Where the write-ahead log is in the data directory.
const WAL: &str = "wal";

/// What `--offset-gap` is if it is not given.
pub const OFFSET_GAP: i64 = 1_000_000_000;
/// The most that it may be.
pub const OFFSET_GAP_MAX: i64 = 1 << 40;

/// What is restored, and how.
pub struct RestoreOptions {
    /// The broker's configuration.
    pub config: Config,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// How many offsets are left out behind the greatest that is known, from 1 to
    /// [`OFFSET_GAP_MAX`].
    pub offset_gap: i64,
    /// Whether it goes on without what in the bucket cannot be read.
    pub skip_damaged: bool,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
    /// Told what is done.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoreOptions").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// Why nothing was restored, or not to the end. The same command may be given again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The data directory is locked, or cannot be.
    #[error(
        "data directory \"{}\" cannot be locked: {source}; stop what uses it",
        directory.display()
    )]
    Lock {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] LocalError),
    /// The data directory cannot say what it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The bucket does not keep a promise that the broker rests on.
    #[error(transparent)]
    Probe(#[from] probe::ProbeError),
    /// The directory must not take the broker's place, or the metadata could not be written.
    #[error(transparent)]
    Cluster(#[from] OpenError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Metadata(#[from] cluster::LoadError),
    /// The checkpoints in the bucket cannot be read.
    #[error(transparent)]
    Checkpoints(#[from] LoadError),
    /// A part of the last one cannot be read.
    #[error("read the last checkpoint in the bucket: {0}")]
    Part(#[from] CheckpointError),
    /// Its list of garbage cannot be read.
    #[error("read the last checkpoint in the bucket: {0}")]
    Garbage(#[from] ListError),
    /// The list of runs cannot be written.
    #[error(transparent)]
    Writers(#[from] WritersError),
    /// The bucket cannot be listed.
    #[error(transparent)]
    Bucket(#[from] ObjectError),
    /// An object cannot be read at present.
    #[error(transparent)]
    Object(#[from] ReadError),
    /// Something in the bucket cannot be read, and would be lost.
    #[error(
        "{} in the bucket cannot be read: {}; nothing is lost yet: run this again once it can, or \
         with --skip-damaged to go on without what it holds",
        .0.len(),
        .0.join("; ")
    )]
    Damaged(Vec<String>),
    /// The new write-ahead log cannot be made.
    #[error(transparent)]
    Wal(#[from] local::OpenError),
    /// It cannot take a record.
    #[error("write the new write-ahead log: {0}")]
    Append(String),
    /// The groups cannot be brought into the bucket.
    #[error("bring consumer groups into the bucket: {0}")]
    Groups(String),
    /// No checkpoint of it was written.
    #[error(transparent)]
    Checkpoint(#[from] local::CheckpointError),
    /// No checkpoint was written to the bucket.
    #[error("{0}; if another process of this broker still runs, stop it, and run this again")]
    Publish(#[from] PublishError),
    /// A part of the work panicked.
    #[error("a part of the restore failed: {0}")]
    Panicked(String),
}

impl From<Poisoned> for RestoreError {
    fn from(error: Poisoned) -> Self {
        RestoreError::Append(error.to_string())
    }
}

impl From<AdmitError> for RestoreError {
    fn from(error: AdmitError) -> Self {
        RestoreError::Append(error.to_string())
    }
}

impl From<RoomError> for RestoreError {
    fn from(error: RoomError) -> Self {
        RestoreError::Append(error.to_string())
    }
}

/// Restores a broker into an empty data directory, or goes on with a restore into it that was cut.
/// When this returns `Ok`, the broker can be started from the directory.
pub async fn restore(options: &RestoreOptions) -> Result<RestoreReport, RestoreError> {
    let RestoreOptions { config, data_dir, clock, random, say, .. } = options;
    let _lock = RealDisk::new(data_dir)
        .lock()
        .map_err(|source| RestoreError::Lock { directory: data_dir.clone(), source })?;
    let dir = DataDir::open(data_dir.clone()).await?;
    let registry = Registry::new();
    let object = config.storage.object.within(data_dir);
    let store = Store::connect(&object, &Variables::of_process(), clock, random, &registry)?;
    probe::ensure(&store, &dir, clock, random).await?;
    let wal = wal_state(options).await?;
    let prepared = prepare(&dir, random).await?;
    let cluster = ClusterOptions {
        store: store.clone(),
        dir: dir.clone(),
        prepared: prepared.clone(),
        node_id: config.node.id,
        take_over: false,
        limits: Limits::of_budget(config.process.memory_budget_bytes),
        clock: clock.clone(),
        random: random.clone(),
        metrics: ClusterMetrics::new(&registry),
    };
    let open = OpenRestore::begin(&cluster, wal).await?;
    failpoint::pass("restore: the directory is bound");
    say(&format!(
        "broker {} of cluster {} belongs to data directory \"{}\" from now on; the one before is \
         fenced",
        config.node.id,
        open.image().cluster_id(),
        data_dir.display()
    ));
    let identity = prepared.identity().0;
    let loaded = Loaded::read(&store, &open, config.node.id, identity).await?;
    write_writers(&dir, &loaded.writers).await?;
    dir.remove_dir(WAL).await?;
    failpoint::pass("restore: the log before is removed");
    let budget =
        Budget::new(usize::try_from(config.process.memory_budget_bytes).unwrap_or(usize::MAX));
    let stream = open_log(options, &budget, &registry, identity, &loaded).await?;
    let partitions = no_partitions(&stream, &budget, &registry);
    stream.set_metadata_number(open.image().number());
    let rebuild = Rebuild { options, store: &store, open: &open, loaded: &loaded, identity };
    let mut report = rebuild.partitions(&partitions).await?;
    let cache = super::start::open_cache(&budget, &registry, store.clone());
    let image = open.image();
    let with_groups = groups::restore(options, image, &partitions, &cache, &mut report).await?;
    if !report.damaged.is_empty() && !options.skip_damaged {
        return Err(RestoreError::Damaged(report.damaged));
    }
    stream.sync_now().await?;
    failpoint::pass("restore: the log is written");
    let object = groups::Object {
        store: &store,
        cluster: image.cluster_id().0,
        incarnation: prepared.incarnation().0,
        now_ms: clock.wall_ms(),
    };
    object.bring(&stream, &with_groups).await?;
    failpoint::pass("restore: the groups are in the bucket");
    publish::locally(&stream, &partitions).await?;
    let writer = (cluster, prepared.incarnation().0);
    publish::in_bucket(&stream, &partitions, &loaded, &open, writer).await?;
    failpoint::pass("restore: the checkpoint is in the bucket");
    stream.close().await?;
    open.close().await?;
    failpoint::pass("restore: it is closed");
    Ok(report)
}

/// No partitions yet, in the new log.
fn no_partitions(stream: &Stream, budget: &Budget, registry: &Registry) -> Arc<Partitions> {
    let shared = Shared {
        stream: stream.clone(),
        metrics: Arc::new(partition::Metrics::new(registry)),
        producers: budget.pool(Pool::Producers).clone(),
        objects: Arc::default(),
    };
    Arc::new(Partitions::new(Arc::new(shared)))
}

/// What the directory's log has; one that cannot be read has something.
async fn wal_state(options: &RestoreOptions) -> Result<WalState, RestoreError> {
    let directory = options.data_dir.join(WAL);
    let looking = move || match local::inspect(&*RealDisk::new(directory)) {
        Ok(None) => WalState::default(),
        Ok(Some(found)) => WalState {
            identity: Some(found.identity),
            has_records: found.has_records,
            metadata_number: found.metadata_number,
        },
        Err(_unreadable) => WalState { has_records: true, ..WalState::default() },
    };
    task::blocking(looking).await.map_err(|error| RestoreError::Panicked(error.to_string()))
}

/// Makes the new write-ahead log, whose clock goes on where the last one's is known to have been.
async fn open_log(
    options: &RestoreOptions,
    budget: &Budget,
    registry: &Registry,
    identity: [u8; 16],
    loaded: &Loaded,
) -> Result<Stream, RestoreError> {
    let disk: Arc<dyn Disk> = RealDisk::new(options.data_dir.join(WAL));
    let mut wal = Options::new(identity);
    wal.max_bytes = options
        .config
        .storage
        .wal
        .bytes_max
        .unwrap_or_else(|| super::start::part_of_volume(&options.data_dir));
    wal.log_clock_ms = loaded.log_clock_ms;
    let env = Env {
        clock: options.clock.clone(),
        random: options.random.clone(),
        budget: budget.clone(),
        metrics: crate::wal::Metrics::new(registry),
    };
    let opening = move || local::open(&disk, &wal, &env);
    let opened = task::blocking(opening).await;
    let opened = opened.map_err(|error| RestoreError::Panicked(error.to_string()))?;
    Ok(opened?.stream)
}
