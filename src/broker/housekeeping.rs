//! What goes on beside the requests: checkpoints, trims, retention, expiry, the look for a fence.
//!
//! One task per rhythm. Each ends with the drain; the last checkpoint is [`Broker::stop`]'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::checkpoint::CHECKPOINT_BYTES;
use super::start::topic_name;
use super::{Broker, OFFSETS_TOPIC};
use crate::clock::{Instant, Random};
use crate::cluster::CheckError;
use crate::log_limit::LogLimit;
use crate::object::probe::{self, ProbeError};
use crate::object::{DataDir, Store};
use crate::partition::{LogStartError, Partition, RetentionLimits, record};
use crate::task;
use crate::wal::{Admission, Class, Lsn};

/// How often the WAL's growth is looked at.
const GROWTH_CHECK: Duration = Duration::from_secs(1);
/// How often a running broker looks whether another run took its place (DESIGN §4).
const FENCE_CHECK: Duration = Duration::from_secs(10);
/// How often producer states that are too old are forgotten.
const PRODUCER_CHECK: Duration = Duration::from_mins(10);
/// How often the room for producer states is looked at.
const PRODUCER_ROOM_CHECK: Duration = Duration::from_secs(1);
/// Wall and monotonic clock may drift apart by this much between two looks (DESIGN D8).
const CLOCK_DRIFT_MAX_MS: i64 = 5 * 60 * 1_000;
/// How long time-based deletion pauses after a clock jump.
const DELETION_PAUSE: Duration = Duration::from_hours(1);

/// How often the bucket is asked again whether it keeps its promises (DESIGN §4).
const PROBE_CHECK: Duration = Duration::from_hours(24);

/// What the loops beside the requests know of the bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) store: Store,
    pub(super) dir: DataDir,
    pub(super) random: Random,
}

/// Both clocks at one moment, to see whether the wall clock jumps.
struct ClockWatch {
    wall_ms: i64,
    monotonic: Instant,
    paused_until: Option<Instant>,
}

impl Broker {
    /// Starts the loops; they end with the drain.
    pub(super) fn start_loops(self: &Arc<Self>) {
        self.note_partitions();
        self.note_garbage();
        let broker = Arc::clone(self);
        task::spawn("checkpoints", async move { broker.watch_growth().await });
        let broker = Arc::clone(self);
        task::spawn("fence", async move { broker.watch_fence().await });
        let broker = Arc::clone(self);
        task::spawn("retention", async move { broker.watch_retention().await });
        let broker = Arc::clone(self);
        task::spawn("producers", async move { broker.watch_producers().await });
        let broker = Arc::clone(self);
        task::spawn("offsets", async move { broker.watch_offsets().await });
        let broker = Arc::clone(self);
        task::spawn("bucket-checkpoints", async move { broker.watch_bucket_checkpoints().await });
        let broker = Arc::clone(self);
        task::spawn("garbage", async move { broker.watch_garbage().await });
        let broker = Arc::clone(self);
        task::spawn("orphans", async move { broker.watch_orphans().await });
        let broker = Arc::clone(self);
        task::spawn("probe", async move { broker.watch_bucket().await });
    }

    /// Waits for `period`; false when the broker drains.
    pub(super) async fn tick(&self, period: Duration) -> bool {
        tokio::select! {
            () = self.clock.sleep(period) => true,
            () = self.shutdown.draining() => false,
        }
    }

    /// Takes a checkpoint for every 64 MiB of log, and trims after it.
    async fn watch_growth(&self) {
        while self.tick(GROWTH_CHECK).await {
            self.note_partitions();
            self.reconcile_if_counts_differ();
            if self.stream.bytes_since_checkpoint() < self.checkpoint_bytes() {
                continue;
            }
            if let Err(error) = self.checkpoint().await {
                error!(%error, "checkpoint not written; it is tried again");
                continue;
            }
            self.trim().await;
        }
    }

    /// The log grows by so much between two checkpoints: of a small one a part.
    fn checkpoint_bytes(&self) -> u64 {
        CHECKPOINT_BYTES.min(self.stream.max_bytes() / 8)
    }

    /// Gives back files that retention or a deleted topic made free, also while nothing is written,
    /// and those that only the bucket needs, when the log is half full.
    pub(super) async fn reclaim(&self) {
        let (oldest, _) = self.stream.oldest_file();
        let floor = self.trim_floor();
        if self.stream.file_at(floor).0 <= oldest || self.partitions.is_empty() {
            return;
        }
        if self.stream.bytes_since_checkpoint() > 0
            && let Err(error) = self.checkpoint().await
        {
            error!(%error, "checkpoint not written; files are given back later");
            return;
        }
        self.trim().await;
    }

    /// Gives back the WAL's files that nobody needs and that local retention does not want.
    async fn trim(&self) {
        // Where a file begins: the trim's own record may begin one at the LSN that nobody needs
        // anything below, and the file before it, which readers look into, would go.
        let (file, floor) = self.stream.file_at(self.trim_floor());
        // Readers that find nothing of these files here go to the bucket.
        self.partitions.forget_files(file);
        if let Err(error) = self.stream.trim(floor).await {
            warn!(%error, "write-ahead log not trimmed");
        }
    }

    /// Nobody needs a record below the returned one: the bucket has all of them, and neither local
    /// retention wants them nor is there room for what it wants.
    pub(super) fn trim_floor(&self) -> Lsn {
        // Partitions are looked at one after another: what is appended meanwhile is above this.
        let bound = self.stream.reserved().next();
        let oldest = self.partitions.oldest_needed();
        self.metrics.oldest_file_pin.reset();
        let needed = match oldest {
            Some(oldest) => {
                let topic = topic_name(self, oldest.of.topic);
                let labels = [topic, oldest.of.partition.to_string()];
                self.metrics.oldest_file_pin.with_label_values(&labels).set(1);
                oldest.lsn.min(bound)
            }
            None => bound,
        };
        let (first, _) = self.stream.oldest_file();
        let file = oldest.map_or(first.0, |oldest| oldest.file.0);
        self.metrics.pinned_files.set(i64::try_from(file.saturating_sub(first.0)).unwrap_or(0));
        let room = self.stream.max_bytes() / 2;
        if self.stream.disk_bytes() > room {
            return needed.min(self.stream.tail_of(room));
        }
        self.locally_wanted().map_or(needed, |wanted| needed.min(wanted))
    }

    /// The first record that `local.retention.ms` and `local.retention.bytes` want on this machine.
    fn locally_wanted(&self) -> Option<Lsn> {
        let (image, now_ms) = (self.image(), self.clock.wall_ms());
        let mut wanted: Option<Lsn> = None;
        for topic in image.topics() {
            let settings = self.topic_settings(&image, topic);
            let limits = RetentionLimits {
                retention_ms: settings.local_retention_ms,
                retention_bytes: settings.local_retention_bytes,
            };
            for partition in self.partitions.of_topic(topic.id) {
                let first = partition.local_wanted(now_ms, limits).map(|(_, lsn)| lsn);
                wanted = [wanted, first].into_iter().flatten().min();
            }
        }
        wanted
    }

    fn note_partitions(&self) {
        self.metrics.partitions.set(i64::try_from(self.partitions.len()).unwrap_or(i64::MAX));
    }

    /// Looks whether another run of this broker took its place, also while it drains. `run` ends
    /// the process when the cluster says so.
    async fn watch_fence(&self) {
        loop {
            self.clock.sleep(FENCE_CHECK).await;
            match self.cluster.check_fenced().await {
                Ok(()) => {}
                Err(CheckError::Fenced(_)) => return,
                Err(error) => warn!(%error, "metadata not read; fences are looked for later"),
            }
        }
    }

    /// Runs the conformance probe once a day. The note of a bucket that broke a promise is gone, so
    /// the next start refuses it; this run goes on, because stopping would help nobody.
    async fn watch_bucket(&self) {
        let Bucket { store, dir, random } = &self.bucket;
        while self.tick(PROBE_CHECK).await {
            match probe::renew(store, dir, &self.clock, random).await {
                Ok(()) => {}
                Err(error @ ProbeError::Broken { .. }) => error!(%error, "bucket must be replaced"),
                Err(error) => warn!(%error, "bucket not probed; it is tried again tomorrow"),
            }
        }
    }

    async fn watch_producers(&self) {
        let mut checked = self.clock.now();
        while self.tick(PRODUCER_ROOM_CHECK).await {
            self.make_room_for_producers().await;
            if self.clock.now().saturating_duration_since(checked) < PRODUCER_CHECK {
                continue;
            }
            checked = self.clock.now();
            let expiration = i64::try_from(self.producer_id_expiration().as_millis());
            for partition in self.partitions.all() {
                partition.expire_producers(expiration.unwrap_or(i64::MAX));
            }
        }
    }

    async fn make_room_for_producers(&self) {
        if self.partitions.has_room_for_producers() {
            return;
        }
        let partitions = Arc::clone(&self.partitions);
        match task::blocking(move || partitions.forget_silent_producers()).await {
            Ok(forgotten) => warn!(
                forgotten,
                "memory for idempotent producers full; those that were silent longest are \
                 forgotten; raise memory.budget.bytes"
            ),
            Err(panicked) => error!(%panicked, "producers not looked through"),
        }
    }

    async fn watch_offsets(&self) {
        while self.tick(self.config.groups.offsets_retention_check_interval).await {
            if self.deletion_paused.load(Ordering::Relaxed) {
                continue;
            }
            let expired = self.groups.expire_offsets().await;
            if expired > 0 {
                info!(expired, "committed offsets expired");
            }
        }
    }

    async fn watch_retention(&self) {
        let mut watch = ClockWatch {
            wall_ms: self.clock.wall_ms(),
            monotonic: self.clock.now(),
            paused_until: None,
        };
        while self.tick(self.config.topics.retention_check_interval).await {
            let paused = watch.is_paused(self.clock.wall_ms(), self.clock.now());
            self.metrics.deletion_paused.set(i64::from(paused));
            self.deletion_paused.store(paused, Ordering::Relaxed);
            self.reconcile();
            self.retain(paused).await;
            self.reclaim().await;
        }
    }

    /// Moves log starts by time (unless that pauses) and size.
    async fn retain(&self, time_paused: bool) {
        let image = self.image();
        let now_ms = self.clock.wall_ms();
        for topic in image.topics().filter(|topic| &*topic.name != OFFSETS_TOPIC) {
            let settings = self.topic_settings(&image, topic);
            if !settings.delete {
                continue;
            }
            let age = settings.retention.filter(|_| !time_paused);
            let limits = RetentionLimits {
                retention_ms: age.and_then(|age| i64::try_from(age.as_millis()).ok()),
                retention_bytes: settings.retention_bytes,
            };
            for partition in self.partitions.of_topic(topic.id) {
                if let Some(offset) = partition.retention_candidate(now_ms, limits) {
                    self.retain_from(&partition, &topic.name, offset).await;
                }
            }
        }
    }

    async fn retain_from(&self, partition: &Arc<Partition>, topic: &str, offset: i64) {
        let mut admission = Admission::uncharged();
        let mut moved = partition.retain_from(&mut admission, offset);
        if matches!(moved, Err(LogStartError::NoRoom))
            && self.stream.wait_for_room(Class::Housekeeping, record::LOG_START_LEN).await.is_ok()
        {
            moved = partition.retain_from(&mut admission, offset);
        }
        let index = partition.id().partition;
        match moved {
            Ok((_, lsn)) => {
                self.view_changed(lsn);
                self.metrics.retained.inc();
                debug!(
                    topic,
                    partition = index,
                    log_start = offset,
                    "retention moved the log start"
                );
            }
            Err(error) => {
                static LIMIT: LogLimit = LogLimit::new();
                if let Some(more) = LIMIT.allow(&self.clock) {
                    warn!(topic, partition = index, %error, more, "retention not applied");
                }
            }
        }
    }
}

impl ClockWatch {
    /// Whether time-based deletion pauses: the wall clock went another way than the monotonic one.
    fn is_paused(&mut self, wall_ms: i64, monotonic: Instant) -> bool {
        let passed = monotonic.saturating_duration_since(self.monotonic);
        let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let drift_ms = wall_ms.saturating_sub(self.wall_ms).saturating_sub(passed_ms);
        (self.wall_ms, self.monotonic) = (wall_ms, monotonic);
        if drift_ms.abs() > CLOCK_DRIFT_MAX_MS {
            warn!(drift_ms, "the wall clock jumped; time-based deletion pauses for an hour");
            self.paused_until = Some(monotonic + DELETION_PAUSE);
        }
        self.paused_until.is_some_and(|until| monotonic < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn a_clock_jump_pauses_time_based_deletion_for_an_hour() {
        let clock = Clock::manual(1_000_000_000);
        let mut watch =
            ClockWatch { wall_ms: clock.wall_ms(), monotonic: clock.now(), paused_until: None };
        clock.sleep(Duration::from_mins(5)).await;
        assert!(!watch.is_paused(clock.wall_ms(), clock.now()));
        clock.shift_wall(6 * 60 * 1_000);
        assert!(watch.is_paused(clock.wall_ms(), clock.now()));
        clock.sleep(Duration::from_mins(59)).await;
        assert!(watch.is_paused(clock.wall_ms(), clock.now()));
        clock.sleep(Duration::from_mins(1)).await;
        assert!(!watch.is_paused(clock.wall_ms(), clock.now()));
    }
}
