//! The part of a restore that the metadata has: the entry that binds an empty data directory to the
//! broker's id and opens the restore, and the one that closes it (DESIGN §6).
//!
//! From the first on the directory before is fenced for good, and until the last no run starts:
//! [`Refusal::RestoreOpen`](super::Refusal). Cut anywhere in between, a restore is begun again from
//! the same directory.

use super::ids::Incarnation;
use super::image::ClusterImage;
use super::load::{self, LoadError};
use super::open::{ClusterOptions, OpenError, begin_run, put_entry, settle};
use super::record::{Record, decode_entry};
use super::rules::{Refusal, RestoreRefusal, WalState, decide_restore};
use super::snapshot::Snapshot;
use crate::object::{NumberedLog, ReadLogError};

/// How often the last entry is put under the next number when others were faster.
const CLOSE_ATTEMPTS: u32 = 8;

/// How many entries are asked for at once.
const READ_AHEAD: usize = 32;

/// A restore that is open; it was begun by this process.
#[derive(Debug)]
pub struct OpenRestore {
    options: ClusterOptions,
    log: NumberedLog,
    snapshot: Snapshot,
}

impl OpenRestore {
    /// Binds the data directory of `options` to the broker's id, or goes on with a restore into it
    /// that was cut. `wal` is what the directory's log has. After an error that is retriable it may
    /// be called again with the same options.
    pub async fn begin(options: &ClusterOptions, wal: WalState) -> Result<Self, OpenError> {
        let log = load::metadata_log(&options.store);
        let loaded = begin_run(options, &log, wal, decide_restore).await?;
        Ok(Self { options: options.clone(), log, snapshot: loaded.snapshot })
    }

    /// The metadata, up to the entry that began this process's part.
    pub fn image(&self) -> &ClusterImage {
        &self.snapshot.image
    }

    /// The runs of the broker that entries after `number` began, oldest first, each with whether it
    /// was an attempt of this restore; this process is the last. `is_bound` says whether the
    /// directory was bound at `number` already.
    pub async fn runs_since(
        &self,
        number: u64,
        mut is_bound: bool,
    ) -> Result<Vec<(Incarnation, bool)>, LoadError> {
        let mut runs = Vec::new();
        let mut next = number.saturating_add(1);
        loop {
            let entries = self.log.read_on(next, READ_AHEAD).await?;
            for entry in &entries {
                let key = || self.log.key(entry.head.number);
                let (_, records) = decode_entry(&entry.payload)
                    .map_err(|source| LoadError::Record { key: key(), source })?;
                for record in &records {
                    self.note_run(record, &mut is_bound, &mut runs);
                }
                next = entry.head.number.saturating_add(1);
            }
            if entries.len() < READ_AHEAD {
                return Ok(runs);
            }
        }
    }

    fn note_run(&self, record: &Record, is_bound: &mut bool, runs: &mut Vec<(Incarnation, bool)>) {
        let ours = self.options.node_id;
        match record {
            Record::BrokerBound { node_id, identity } if *node_id == ours => {
                *is_bound = *identity == self.options.prepared.identity();
            }
            Record::BrokerIncarnation { node_id, incarnation } if *node_id == ours => {
                runs.push((*incarnation, *is_bound));
            }
            _ => {}
        }
    }

    /// Puts the last entry: the directory is the broker's from now on. To be called when all of it
    /// is synced.
    pub async fn close(mut self) -> Result<(), OpenError> {
        let node_id = self.options.node_id;
        for _ in 0..CLOSE_ATTEMPTS {
            self.check_is_ours()?;
            let cluster_id = self.snapshot.image.cluster_id();
            let records = [Record::RestoreClosed { node_id }];
            let (options, snapshot) = (&self.options, &mut self.snapshot);
            if put_entry(options, &self.log, snapshot, cluster_id, &records).await? {
                return settle(&self.options, &self.snapshot).await;
            }
            self.read_on().await?;
        }
        Err(OpenError::Contended { node_id })
    }

    /// Another restore may have taken this one's place.
    fn check_is_ours(&self) -> Result<(), OpenError> {
        let (prepared, node_id) = (&self.options.prepared, self.options.node_id);
        let broker = self.snapshot.image.broker(node_id);
        let is_ours = broker.is_some_and(|broker| {
            broker.identity == prepared.identity() && broker.incarnation == prepared.incarnation()
        });
        if is_ours {
            return Ok(());
        }
        let directory = self.options.dir.root().display().to_string();
        let found = "another restore took its place meanwhile";
        let refusal = Refusal::Restore(RestoreRefusal::NotEmpty { directory, found });
        Err(OpenError::Refused(Box::new(refusal)))
    }

    async fn read_on(&mut self) -> Result<(), OpenError> {
        let next = self.snapshot.image.number().saturating_add(1);
        let entries = self.log.read_on(next, READ_AHEAD).await;
        for entry in entries.map_err(|error: ReadLogError| LoadError::from(error))? {
            load::apply(&self.log, &mut self.snapshot, &entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
