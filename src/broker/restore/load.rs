//! What the bucket knows of the broker: its last checkpoint, and its runs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::RestoreError;
use crate::broker::PartKey;
use crate::broker::bucket_log::{CheckpointReader, Item, Summary};
use crate::broker::garbage::list;
use crate::cluster::OpenRestore;
use crate::object::Store;
use crate::partition::part_log_clock;
use crate::protocol::types::TopicPartition;
use crate::tier::ObjectRef;

/// The last checkpoint in the bucket, put together.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// What it says of itself; `None` if there is no checkpoint.
    pub(super) summary: Option<Summary>,
    pub(super) parts: BTreeMap<TopicPartition, Bytes>,
    pub(super) garbage: Vec<ObjectRef>,
    /// The runs whose objects may be swept some day; oldest first, this one last.
    pub(super) writers: Vec<[u8; 16]>,
    /// Those of them that are attempts of this restore: what they brought is theirs alone.
    pub(super) attempts: Vec<[u8; 16]>,
    /// What the log clock showed when the youngest part was taken.
    pub(super) log_clock_ms: Option<i64>,
}

impl Loaded {
    pub(super) async fn read(
        store: &Store,
        open: &OpenRestore,
        node_id: i32,
        identity: [u8; 16],
    ) -> Result<Self, RestoreError> {
        let image = open.image();
        let reader = CheckpointReader::new(store.clone(), node_id, image.cluster_id().0);
        let found = reader.find().await?;
        let mut loaded = Self { summary: found.summary(), ..Self::default() };
        let mut items = reader.items(&found);
        while let Some(item) = items.next().await? {
            loaded.take(item)?;
        }
        let clocks = loaded.parts.values().map(|part| part_log_clock(part));
        for clock in clocks.collect::<Vec<_>>() {
            loaded.log_clock_ms = loaded.log_clock_ms.max(Some(clock?));
        }
        let known = loaded.summary.map_or(0, |summary| summary.metadata_number);
        let is_bound = loaded.summary.is_some_and(|summary| summary.identity == identity);
        for (run, is_attempt) in open.runs_since(known, is_bound).await? {
            loaded.writers.retain(|writer| *writer != run.0);
            loaded.writers.push(run.0);
            loaded.attempts.extend(is_attempt.then_some(run.0));
        }
        Ok(loaded)
    }

    fn take(&mut self, item: Item) -> Result<(), RestoreError> {
        let (key, part) = match item {
            Item::Part { key, part } => (key, Some(part)),
            Item::Removal { key } => (key, None),
        };
        match (PartKey::decode(&key), part) {
            (Some(PartKey::Partition(of)), Some(part)) => drop(self.parts.insert(of, part)),
            (Some(PartKey::Partition(of)), None) => drop(self.parts.remove(&of)),
            (Some(PartKey::Garbage), Some(part)) => self.garbage = list::decode(&part)?,
            (Some(PartKey::Writers), Some(part)) => {
                self.writers = part.as_chunks::<16>().0.to_vec();
            }
            (Some(PartKey::Garbage | PartKey::Writers) | None, _) => {}
        }
        Ok(())
    }
}
