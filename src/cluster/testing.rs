//! A machine with a data directory and a stand-in for the WAL, for the tests of this room.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempfile::TempDir;

use super::change::{Change, ChangeError, NewTopic, Outcome, TopicRef};
use super::handle::{Cluster, CommitError, Committed};
use super::identity;
use super::image::ClusterImage;
use super::limits::Limits;
use super::metrics::ClusterMetrics;
use super::open::{ClusterOptions, OpenError};
use super::rules::{Refusal, WalState};
use super::writer::Cadence;
use crate::clock::{Clock, Random};
use crate::metrics::Registry;
use crate::object::testing::{FaultStore, Faults};
use crate::object::{DataDir, Store};

/// Stored images are renewed this often in tests, so that every test meets it.
pub(super) const OFTEN: Cadence = Cadence { copy: 2, snapshot: 3 };

/// A data directory and the WAL in it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) temp: TempDir,
    pub(super) wal: WalState,
    pub(super) node_id: i32,
    pub(super) take_over: bool,
    pub(super) limits: Limits,
    random: Random,
}

impl Machine {
    /// A new machine with an empty data directory.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
            wal: WalState::default(),
            node_id: 1,
            take_over: false,
            limits: Limits { partitions: 1_000, image_bytes: 64 << 20 },
            random: Random::seeded(seed),
        }
    }

    /// A machine whose disk is a copy of this one's.
    pub(super) fn copy(&self, seed: u64) -> Self {
        let copy = Self { wal: self.wal, ..Self::new(seed) };
        for file in std::fs::read_dir(self.temp.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.temp.path().join(file.file_name())).unwrap();
        }
        copy
    }

    pub(super) fn has_file(&self, name: &str) -> bool {
        self.temp.path().join(name).exists()
    }

    /// The data directory, as somebody sees it who meddles with it.
    pub(super) async fn dir(&self) -> DataDir {
        DataDir::open(self.temp.path()).await.unwrap()
    }

    pub(super) async fn remove_file(&self, name: &str) {
        self.dir().await.remove(name).await.unwrap();
    }

    /// Changes a byte of a file.
    pub(super) async fn change_file(&self, name: &str, at: usize, change: fn(u8) -> u8) {
        let mut content = self.dir().await.read(name, 1 << 20).await.unwrap().unwrap().to_vec();
        content[at] = change(content[at]);
        self.dir().await.write(name, content).await.unwrap();
    }

    /// What a process that starts here opens the cluster with, its WAL made first.
    pub(super) async fn prepare(
        &mut self,
        store: &Store,
        faults: &Arc<Faults>,
    ) -> Result<ClusterOptions, OpenError> {
        let dir = DataDir::open_with(self.temp.path(), faults.clone()).await?;
        let prepared = identity::prepare(&dir, &self.random).await?;
        if self.wal.identity.is_none() && !prepared.wal_must_exist() && faults.step().is_ok() {
            self.wal.identity = Some(prepared.identity().0);
        }
        Ok(ClusterOptions {
            store: store.clone(),
            dir,
            prepared,
            node_id: self.node_id,
            take_over: self.take_over,
            limits: self.limits,
            clock: Clock::system(),
            random: self.random.clone(),
            metrics: ClusterMetrics::new(&Registry::new()),
        })
    }

    /// Starts a process that may be killed.
    pub(super) async fn start(
        &mut self,
        store: &Store,
        faults: &Arc<Faults>,
    ) -> Result<Cluster, OpenError> {
        let options = self.prepare(store, faults).await?;
        Cluster::open_with(&options, self.wal, OFTEN).await
    }

    /// Starts a process that lives.
    pub(super) async fn open(&mut self, bucket: &FaultStore) -> Result<Cluster, OpenError> {
        self.start(&bucket.store(), &Faults::none()).await
    }

    /// Starts a process that is refused.
    pub(super) async fn refusal(&mut self, bucket: &FaultStore) -> Refusal {
        match self.open(bucket).await {
            Err(OpenError::Refused(refusal)) => *refusal,
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

pub(super) fn create(name: &str) -> Change {
    Change::CreateTopic(NewTopic {
        name: name.to_owned(),
        partitions: 3,
        replication_factor: 3,
        configs: BTreeMap::new(),
    })
}

pub(super) fn delete(name: &str) -> Change {
    Change::DeleteTopic(TopicRef::Name(name.to_owned()))
}

/// Commits one change that takes effect or is refused.
pub(super) async fn commit(cluster: &Cluster, change: Change) -> Result<Outcome, ChangeError> {
    let Committed { mut outcomes, .. } = cluster.commit(vec![change]).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

/// Commits one change whose outcome may be unknown; whether it took effect for certain.
pub(super) async fn attempt(cluster: &Cluster, change: Change) -> Result<(), CommitError> {
    let Committed { outcomes, .. } = cluster.commit(vec![change]).await?;
    for outcome in outcomes {
        outcome.unwrap();
    }
    Ok(())
}

/// The names of all topics, sorted.
pub(super) fn names(image: &ClusterImage) -> Vec<String> {
    let mut names: Vec<_> = image.topics().map(|topic| topic.name.to_string()).collect();
    names.sort();
    names
}
