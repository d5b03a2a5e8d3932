//! Starting and stopping a broker: data directory, WAL, metadata, replay, in this order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::{info, warn};

use super::Broker;
use super::bucket_checkpoint::BucketCheckpoints;
use super::delays::Delays;
use super::fetch_sessions::FetchSessions;
use super::garbage::ids::{ObjectIds, WritersError};
use super::garbage::list::{self, ListError};
use super::housekeeping::Bucket;
use super::metrics::BrokerMetrics;
use super::offsets::OffsetsTopic;
use super::tiering::{CleanerMetrics, TierMetrics, Tiering};
use crate::budget::{Budget, Pool};
use crate::clock::{Clock, Random};
use crate::cluster::{
    Cluster, ClusterMetrics, ClusterOptions, IdentityError, Limits, OpenError, Prepared, WalState,
    prepare,
};
use crate::config::topic::TopicSettings;
use crate::config::{Config, WalSync};
use crate::group::{GroupConfig, GroupCoordinator, GroupMetrics};
use crate::metrics::Registry;
use crate::object::{DataDir, LocalError, OpenStoreError, Store, Variables, WriterId, probe};
use crate::partition::{self, CheckpointError, Partitions, Replay, ReplayError, Shared};
use crate::protocol::types::TopicId;
use crate::shutdown::Shutdown;
use crate::task;
use crate::tier::{Cache, CacheOptions};
use crate::wal::FileNumber;
use crate::wal::disk::{Disk, LockGuard, RealDisk};
use crate::wal::local::{self, Env, Opened, Options, Recovered, SyncMode};

/// How long a start waits between two attempts at a bucket that is away.
const BUCKET_RETRY: Duration = Duration::from_secs(1);

/// How many loads for readers that catch up are under way at once: some 12 streams fill a line of
/// 10 Gbit/s from S3, and others need the bucket too.
const CATCH_UP_LOADS: usize = 16;

/// Is told why a start waits, and `None` when it goes on.
pub type Waiting = Box<dyn Fn(Option<&str>) + Send + Sync>;

/// What a broker is started in.
pub struct Environment {
    /// The configuration.
    pub config: Arc<Config>,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
    /// The byte budget.
    pub budget: Budget,
    /// Where metrics are registered.
    pub registry: Registry,
    /// The process's shutdown.
    pub shutdown: Shutdown,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Whether a directory that was fenced may take its place back.
    pub take_over: bool,
    /// Told why the start waits, while it waits for the bucket.
    pub waiting: Waiting,
}

/// Why a broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process uses the data directory.
    #[error("data directory \"{}\" is in use by another process; stop it first", .0.display())]
    InUse(PathBuf),
    /// The data directory cannot be locked.
    #[error("lock data directory \"{}\": {source}", directory.display())]
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
    /// The write-ahead log cannot be opened.
    #[error(transparent)]
    Wal(#[from] local::OpenError),
    /// The metadata cannot be opened.
    #[error(transparent)]
    Cluster(#[from] OpenError),
    /// A checkpoint holds a part that cannot be read.
    #[error("read checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint holds a list of garbage that cannot be read.
    #[error("read checkpoint: {0}")]
    Garbage(#[from] ListError),
    /// The data directory cannot say whose objects it may delete.
    #[error(transparent)]
    Writers(#[from] WritersError),
    /// A record of the log cannot be read.
    #[error("read the write-ahead log: {0}")]
    Read(#[from] crate::wal::ReadError),
    /// A record of the log cannot be applied.
    #[error("replay the write-ahead log: {0}")]
    Replay(#[from] ReplayError),
    /// The process was asked to stop before it had started.
    #[error("stopped before the start was complete")]
    Stopped,
    /// A part of the start panicked.
    #[error("a part of the start failed: {0}")]
    Panicked(String),
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker: when this returns, every partition is as it was acknowledged.
    pub async fn start(
        environment: Environment,
    ) -> Result<(Arc<Self>, Box<dyn LockGuard>), StartError> {
        let lock = lock_directory(&environment)?;
        let dir = DataDir::open(environment.data_dir.clone()).await?;
        let prepared = prepare(&dir, &environment.random).await?;
        let object = environment.config.storage.object.within(&environment.data_dir);
        let Environment { clock, random, registry, .. } = &environment;
        let store = Store::connect(&object, &Variables::of_process(), clock, random, registry)?;
        let uploads = store.note_uploads(&dir).await?;
        let bucket = Bucket { store: store.clone(), dir: dir.clone(), random: random.clone() };
        let (opened, wal_state) = open_wal(&environment, &prepared).await?;
        let run = (prepared.identity().0, prepared.incarnation().0);
        let cluster = open_cluster(&environment, dir, prepared, store, wal_state).await?;
        // Not before the bucket is known to be ours.
        task::spawn("uploads", uploads.run(environment.shutdown.clone()));
        let (stream, recovered) = opened.ok_or_else(unopened)?;
        let objects = run_objects(&cluster, &bucket.dir, run).await?;
        let shared = Arc::new(Shared {
            stream: stream.clone(),
            metrics: Arc::new(partition::Metrics::new(registry)),
            producers: environment.budget.pool(Pool::Producers).clone(),
            objects: Arc::default(),
        });
        let partitions = Arc::new(Partitions::new(shared));
        replay(&cluster, &partitions, recovered, stream.oldest_file().0).await?;
        let cache = open_cache(&environment.budget, registry, bucket.store.clone());
        let log = OffsetsTopic {
            cluster: cluster.clone(),
            stream: stream.clone(),
            partitions: Arc::clone(&partitions),
            cache: cache.clone(),
            clock: clock.clone(),
        };
        let tiering = open_tiering(&environment, bucket.store.clone(), &stream);
        let bucket = (bucket, cache, tiering, objects);
        let broker = assemble(environment, cluster, stream, partitions, log, bucket);
        broker.open_all_topics();
        broker.start_loops();
        broker.start_tiering();
        broker.start_cleaner();
        Ok((broker, lock))
    }

    /// Ends what runs beside the requests and makes everything durable. To be called after the
    /// front door has drained.
    pub async fn stop(&self) {
        self.groups.close();
        if let Err(error) = self.checkpoint().await {
            warn!(%error, "last checkpoint not written; the next start replays more");
        }
        self.last_bucket_checkpoint().await;
        self.cluster.close().await;
        if let Err(error) = self.stream.close().await {
            warn!(%error, "write-ahead log not closed");
        }
    }

    /// Opens every partition of the metadata: one without a record is not in the log.
    fn open_all_topics(&self) {
        let image = self.image();
        for topic in image.topics() {
            self.open_topic(&image, topic);
        }
        self.stream.set_metadata_number(image.number());
    }
}

/// [`open_cluster`] refuses before this can happen: no WAL, though one must exist.
fn unopened() -> StartError {
    StartError::Panicked("the write-ahead log was not opened".to_owned())
}

fn lock_directory(environment: &Environment) -> Result<Box<dyn LockGuard>, StartError> {
    let directory = environment.data_dir.clone();
    RealDisk::new(&directory).lock().map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StartError::InUse(directory),
        _ => StartError::Lock { directory, source },
    })
}

type OpenedWal = Option<(crate::wal::Stream, Recovered)>;

/// How much of the volume the log may take where nothing is configured: a quarter of it.
pub(super) fn part_of_volume(data_dir: &Path) -> u64 {
    match RealDisk::new(data_dir).space() {
        Ok(space) => (space.total / 4).max(crate::config::WAL_BYTES_MIN),
        Err(error) => {
            warn!(%error, "size of the volume of data.dir unknown; wal.max.bytes is unlimited");
            u64::MAX
        }
    }
}

/// Opens the WAL, or makes one in a directory that never had any. A directory that must have one
/// and does not is left as it is, for the metadata's rules to refuse.
async fn open_wal(
    environment: &Environment,
    prepared: &Prepared,
) -> Result<(OpenedWal, WalState), StartError> {
    let disk: Arc<dyn Disk> = RealDisk::new(environment.data_dir.join("wal"));
    let identity = prepared.identity().0;
    let must_exist = prepared.wal_must_exist();
    let wal = &environment.config.storage.wal;
    let mut options = Options::new(identity);
    options.sync = match wal.sync {
        WalSync::Always => SyncMode::Always,
        WalSync::Interval(every) => SyncMode::Interval(every),
    };
    options.max_bytes = wal.bytes_max.unwrap_or_else(|| part_of_volume(&environment.data_dir));
    let env = Env {
        clock: environment.clock.clone(),
        random: environment.random.clone(),
        budget: environment.budget.clone(),
        metrics: crate::wal::Metrics::new(&environment.registry),
    };
    let opening = move || {
        if must_exist && local::inspect(&*disk)?.is_none() {
            return Ok((None, WalState::default()));
        }
        let Opened { stream, recovered } = local::open(&disk, &options, &env)?;
        let state = WalState {
            identity: Some(identity),
            has_records: recovered.end > crate::wal::Lsn::ZERO,
            metadata_number: recovered.metadata_number,
        };
        Ok((Some((stream, recovered)), state))
    };
    task::blocking(opening).await.map_err(|error| StartError::Panicked(error.to_string()))?
}

/// Opens the metadata, waiting for a bucket that is away.
async fn open_cluster(
    environment: &Environment,
    dir: DataDir,
    prepared: Prepared,
    store: Store,
    wal: WalState,
) -> Result<Cluster, StartError> {
    let Environment { config, clock, random, .. } = environment;
    let options = ClusterOptions {
        store,
        dir,
        prepared,
        node_id: config.node.id,
        take_over: environment.take_over,
        limits: Limits::of_budget(config.process.memory_budget_bytes),
        clock: clock.clone(),
        random: random.clone(),
        metrics: ClusterMetrics::new(&environment.registry),
    };
    loop {
        let reason = match probe::ensure(&options.store, &options.dir, clock, random).await {
            Err(probe::ProbeError::Object(error)) if error.is_retriable() => error.to_string(),
            Err(error) => return Err(error.into()),
            Ok(()) => match Cluster::open(&options, wal).await {
                Ok(cluster) => {
                    (environment.waiting)(None);
                    return Ok(cluster);
                }
                Err(error) if error.is_retriable() => error.to_string(),
                Err(error) => return Err(error.into()),
            },
        };
        warn!(reason, "waiting for the bucket");
        (environment.waiting)(Some(&reason));
        tokio::select! {
            () = clock.sleep(BUCKET_RETRY) => {}
            () = environment.shutdown.draining() => return Err(StartError::Stopped),
        }
    }
}

/// Puts back the partitions: the checkpoints' parts, then the records after them.
async fn replay(
    cluster: &Cluster,
    partitions: &Arc<Partitions>,
    recovered: Recovered,
    oldest_file: FileNumber,
) -> Result<(), StartError> {
    let image = cluster.image();
    let partitions = Arc::clone(partitions);
    let replaying = move || -> Result<(), StartError> {
        let mut replay = Replay::new(&partitions, |topic| image.topic_by_id(topic).is_some());
        let mut garbage = Vec::new();
        for checkpoint in &recovered.checkpoints {
            for part in checkpoint.parts() {
                let part = part?;
                if list::is_list(&part) {
                    garbage = list::decode(&part)?;
                } else {
                    replay.load_part(&part)?;
                }
            }
        }
        // After all parts: what a later one does not refer to any more may be in an earlier one.
        let objects = &partitions.shared().objects;
        for object in garbage {
            objects.discard(object);
        }
        for entry in recovered.replay {
            replay.apply(entry?.into())?;
        }
        // A checkpoint names files that were given back after it.
        partitions.forget_files(oldest_file);
        let (applied, skipped) = (replay.applied(), replay.skipped());
        info!(applied, skipped, torn = recovered.torn, "write-ahead log replayed");
        Ok(())
    };
    task::blocking(replaying).await.map_err(|error| StartError::Panicked(error.to_string()))?
}

/// The names of this run's objects, and what it writes checkpoints in the bucket as.
type RunObjects = (ObjectIds, BucketCheckpoints);

async fn run_objects(
    cluster: &Cluster,
    dir: &DataDir,
    (identity, incarnation): ([u8; 16], [u8; 16]),
) -> Result<RunObjects, StartError> {
    let object_ids = ObjectIds::open(dir, incarnation).await?;
    let writer = WriterId { cluster: cluster.image().cluster_id().0, incarnation };
    let interval = Delays::of_process().checkpoint;
    Ok((object_ids, BucketCheckpoints::new(writer, identity, interval)))
}

/// The cache for what is read from the bucket.
pub(super) fn open_cache(budget: &Budget, registry: &Registry, store: Store) -> Cache {
    let pool = |pool| budget.pool(pool).clone();
    let options = CacheOptions {
        hot: pool(Pool::Hot),
        catch_up: pool(Pool::CatchUp),
        footers: pool(Pool::Footers),
        readers: pool(Pool::Send),
        catch_up_loads: CATCH_UP_LOADS,
    };
    Cache::new(store, options, registry)
}

fn open_tiering(environment: &Environment, store: Store, stream: &crate::wal::Stream) -> Tiering {
    let config = &environment.config;
    Tiering {
        store,
        metrics: TierMetrics::new(&environment.registry),
        cleaner: CleanerMetrics::new(&environment.registry),
        pool: environment.budget.pool(Pool::Upload).clone(),
        wal_bytes: stream.max_bytes(),
        max_age: Delays::of_process().flush_age.unwrap_or(config.storage.tier_age_max),
    }
}

fn assemble(
    environment: Environment,
    cluster: Cluster,
    stream: crate::wal::Stream,
    partitions: Arc<Partitions>,
    log: OffsetsTopic,
    (bucket, cache, tiering, objects): (Bucket, Cache, Tiering, RunObjects),
) -> Arc<Broker> {
    let (object_ids, bucket_checkpoints) = objects;
    // What was in the log before this run may be in no checkpoint of the bucket.
    let view_lsn = AtomicU64::new(stream.reserved().0);
    let Environment { config, clock, random, budget, registry, shutdown, .. } = environment;
    let metrics = BrokerMetrics::new(&registry);
    let fetch_sessions = FetchSessions::new(
        config.server.fetch_sessions_max as usize,
        &budget,
        clock.clone(),
        random.clone(),
        metrics.clone(),
    );
    let groups = GroupCoordinator::new(
        group_config(&config),
        Arc::new(log),
        Arc::new(cluster.clone()),
        GroupMetrics::new(&registry),
        budget.pool(Pool::Groups).clone(),
        clock.clone(),
        random,
    );
    Arc::new(Broker {
        settings: TopicSettings::from(&config.topics.defaults),
        config,
        clock,
        budget,
        delays: Delays::of_process(),
        shutdown,
        cluster,
        stream,
        partitions,
        cache,
        tiering,
        groups,
        fetch_sessions,
        bucket,
        advertised: OnceLock::new(),
        metrics,
        checkpointing: tokio::sync::Mutex::default(),
        bucket_checkpoints: tokio::sync::Mutex::new(bucket_checkpoints),
        view_lsn,
        checkpointed_in_bucket: AtomicU64::new(0),
        object_ids,
        altering: tokio::sync::Mutex::new(()),
        deletion_paused: AtomicBool::new(false),
    })
}

fn group_config(config: &Config) -> GroupConfig {
    let groups = &config.groups;
    let millis = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    GroupConfig {
        min_session_timeout_ms: millis(groups.session_timeout_min),
        max_session_timeout_ms: millis(groups.session_timeout_max),
        initial_rebalance_delay_ms: millis(groups.initial_rebalance_delay),
        max_size: groups.members_max as usize,
        offset_metadata_max_bytes: groups.offset_metadata_bytes_max as usize,
        offsets_retention_ms: i64::try_from(groups.offsets_retention.as_millis())
            .unwrap_or(i64::MAX),
    }
}

/// A topic's name as a metric label; its id if the metadata does not know it any more.
pub(super) fn topic_name(broker: &Broker, topic: TopicId) -> String {
    let image = broker.image();
    let found = image.topic_by_id(topic).map(|topic| topic.name.to_string());
    found.unwrap_or_else(|| topic.to_string())
}
