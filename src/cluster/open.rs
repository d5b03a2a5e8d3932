//! Opens the cluster: reads the metadata, applies the identity rules, and begins this run with an
//! entry of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::handle::{Cluster, Shared};
use super::identity::{self, IdentityError, Prepared};
use super::ids::ClusterId;
use super::image::{ApplyError, FEATURE_LEVEL};
use super::limits::Limits;
use super::load::{self, LoadError, Loaded};
use super::metrics::ClusterMetrics;
use super::record::{Record, encode_entry};
use super::rules::{Decision, Facts, Refusal, WalState, decide};
use super::snapshot::Snapshot;
use super::writer::{Cadence, MetadataWriter, QUEUE};
use crate::clock::{Clock, Random};
use crate::object::{
    CreateError, DataDir, LocalError, NumberedLog, PutNewError, Store, Writer, WriterId,
};

/// How often an entry is put under the next number when others were faster.
const OPEN_ATTEMPTS: u32 = 8;

/// What a cluster is opened with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The bucket.
    pub store: Store,
    /// The data directory, locked by the caller.
    pub dir: DataDir,
    /// What [`identity::prepare`] gave for this directory in this run.
    pub prepared: Prepared,
    /// The broker's id (`node.id`).
    pub node_id: i32,
    /// Whether a directory that was fenced may take its place back (`--take-over`).
    pub take_over: bool,
    /// How large the cluster may become.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub random: Random,
    /// Metric handles.
    pub metrics: ClusterMetrics,
}

/// The cluster cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory must not go on with this bucket. Trying again changes nothing.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The data directory cannot say what it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file of the data directory cannot be written.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The metadata cannot be read.
    #[error(transparent)]
    Load(LoadError),
    /// The entry that begins the run could not be put, or it is unknown whether it was.
    #[error("begin a run of broker {node_id}: {source}")]
    Put {
        /// The broker's id.
        node_id: i32,
        /// What failed.
        #[source]
        source: CreateError,
    },
    /// No further entry is possible.
    #[error(transparent)]
    Exhausted(ApplyError),
    /// Others wrote to the log all the time.
    #[error(
        "begin a run of broker {node_id}: others wrote to the metadata log {OPEN_ATTEMPTS} times \
         meanwhile; stop the other brokers of this id"
    )]
    Contended {
        /// The broker's id.
        node_id: i32,
    },
}

impl OpenError {
    /// Whether the bucket was away or unclear, so that opening with the same options may succeed
    /// later. Everything else needs a human.
    pub fn is_retriable(&self) -> bool {
        match self {
            OpenError::Load(error) => error.is_retriable(),
            OpenError::Put { source: CreateError::Put(error), .. } => {
                matches!(error, PutNewError::Unknown { .. })
            }
            _ => false,
        }
    }
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(refusal) => OpenError::Refused(refusal),
            other => OpenError::Load(other),
        }
    }
}

impl Cluster {
    /// Opens the cluster in the bucket, or creates it if there is none and the data directory is
    /// new. To be called with the data directory locked and its WAL open, which must name
    /// `options.prepared`'s identity. May be called again with the same options after an error
    /// that is retriable.
    pub async fn open(options: &ClusterOptions, wal: WalState) -> Result<Self, OpenError> {
        Self::open_with(options, wal, Cadence::DEFAULT).await
    }

    pub(super) async fn open_with(
        options: &ClusterOptions,
        wal: WalState,
        cadence: Cadence,
    ) -> Result<Self, OpenError> {
        let log = load::metadata_log(&options.store);
        let loaded = begin_run(options, &log, wal, decide).await?;
        settle(options, &loaded.snapshot).await?;
        let image = Arc::new(loaded.snapshot.image.clone());
        let number = image.number();
        info!(
            cluster_id = %image.cluster_id(),
            node_id = options.node_id,
            number,
            topics = image.topic_count(),
            "cluster opened"
        );
        options.limits.warn_if_exceeded(&image);
        options.metrics.published(&image);
        let id = WriterId {
            cluster: image.cluster_id().0,
            incarnation: options.prepared.incarnation().0,
        };
        let shared = Arc::new(Shared {
            image: ArcSwap::from(image.clone()),
            published: watch::Sender::new(image),
            fence: watch::Sender::new(None),
            checked: AtomicU64::new(number),
            store: options.store.clone(),
            log,
            writer: writer(options, id),
            dir: options.dir.clone(),
            node_id: options.node_id,
            incarnation: options.prepared.incarnation(),
            limits: options.limits,
            clock: options.clock.clone(),
            random: options.random.clone(),
            metrics: options.metrics.clone(),
        });
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = MetadataWriter {
            shared: shared.clone(),
            queue: requests,
            closing: CancellationToken::new(),
            cadence,
            last: loaded.snapshot,
            copied: number,
            snapshotted: loaded.snapshotted,
        };
        Ok(Cluster::start(shared, queue, writer))
    }
}

/// A writer of this run. Several may be made in one run: the first sequence is drawn, so that no
/// two bodies of theirs are taken for one.
pub(super) fn writer(options: &ClusterOptions, id: WriterId) -> Writer {
    Writer::new(id, options.random.u64() >> 1)
}

/// Reads the metadata until it ends with or after the entry that begins this run. `decide` has the
/// rules: those of a start or of a restore.
pub(super) async fn begin_run(
    options: &ClusterOptions,
    log: &NumberedLog,
    wal: WalState,
    decide: impl Fn(&Facts<'_>) -> Result<Decision, Refusal>,
) -> Result<Loaded, OpenError> {
    let (dir, prepared) = (&options.dir, &options.prepared);
    for _ in 0..OPEN_ATTEMPTS {
        let mut loaded = load::load(&options.store, log, dir).await?;
        let mut noted = identity::noted(dir).await?;
        let facts = Facts {
            node_id: options.node_id,
            directory: dir.root().display().to_string(),
            bucket: options.store.url().to_owned(),
            identity: prepared.identity(),
            incarnation: prepared.incarnation(),
            noted: &noted,
            fenced: identity::is_fenced(dir).await?,
            take_over: options.take_over,
            wal,
            image: &loaded.snapshot.image,
        };
        let decision = decide(&facts).map_err(|refusal| OpenError::Refused(Box::new(refusal)))?;
        if decision == Decision::Begun {
            return Ok(loaded);
        }
        if !noted.contains(&prepared.incarnation()) {
            noted.push(prepared.incarnation());
            identity::write_noted(dir, &noted).await?;
        }
        if put_first_entry(options, log, &mut loaded.snapshot, decision).await? {
            return Ok(loaded);
        }
        // The number was taken: by another broker, or by a request of an earlier run, or an
        // earlier attempt of this one, that came late. What it wrote decides.
    }
    Err(OpenError::Contended { node_id: options.node_id })
}

/// Puts the entry that begins this run and applies it; `false` if its number is taken.
async fn put_first_entry(
    options: &ClusterOptions,
    log: &NumberedLog,
    snapshot: &mut Snapshot,
    decision: Decision,
) -> Result<bool, OpenError> {
    let (node_id, prepared) = (options.node_id, &options.prepared);
    let incarnation = prepared.incarnation();
    let begin = Record::BrokerIncarnation { node_id, incarnation };
    let bind = Record::BrokerBound { node_id, identity: prepared.identity() };
    let mut cluster_id = snapshot.image.cluster_id();
    let records = match decision {
        Decision::CreateCluster => {
            cluster_id = ClusterId::new(&options.random);
            let level = Record::FeatureLevel { level: FEATURE_LEVEL };
            vec![Record::ClusterCreated { cluster_id }, level, bind, begin]
        }
        Decision::OpenRestore => vec![bind, begin, Record::RestoreOpened { node_id }],
        Decision::BeginRun | Decision::Begun => vec![begin],
    };
    put_entry(options, log, snapshot, cluster_id, &records).await
}

/// Puts the next entry and applies it; `false` if its number is taken.
pub(super) async fn put_entry(
    options: &ClusterOptions,
    log: &NumberedLog,
    snapshot: &mut Snapshot,
    cluster_id: ClusterId,
    records: &[Record],
) -> Result<bool, OpenError> {
    let (node_id, incarnation) = (options.node_id, options.prepared.incarnation());
    let number = snapshot.image.number().saturating_add(1);
    let mut image = snapshot.image.clone();
    image.apply_entry(number, records).map_err(OpenError::Exhausted)?;
    let id = WriterId { cluster: cluster_id.0, incarnation: incarnation.0 };
    let payload = encode_entry(options.clock.wall_ms(), records);
    let body = log.seal(&writer(options, id), number, &payload);
    match log.create(&body).await {
        Ok(()) => {
            *snapshot = Snapshot { image, entry: load::first_bytes(&body.first_bytes()) };
            Ok(true)
        }
        Err(CreateError::Put(PutNewError::Fenced { .. })) => Ok(false),
        Err(source) => Err(OpenError::Put { node_id, source }),
    }
}

/// Brings the data directory up to the run that has begun. Each step may be cut and is made again
/// by the next start.
pub(super) async fn settle(options: &ClusterOptions, snapshot: &Snapshot) -> Result<(), OpenError> {
    let dir = &options.dir;
    // Earlier incarnations can no more reach a free number: they ended before this run began, and
    // every number they put an entry under is taken.
    identity::write_noted(dir, &[options.prepared.incarnation()]).await?;
    identity::clear_fenced(dir).await?;
    load::write_copy(dir, snapshot).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
