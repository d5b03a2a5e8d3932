//! Reads a checkpoint log: what it says, and whether it is whole.
//!
//! Memory is one entry and one item, however long the log is.

use std::collections::VecDeque;

use super::format::{End, EntryError, Head, Item, Items, KIND, Summary};
use super::scan::{Astray, Scan};
use super::{ENTRY_BYTES_MAX, prefix};
use crate::object::{Entry, FormatError, Key, NumberedLog, ReadLogError, Store, WriterId};

/// How many numbers are looked at behind the end, so that a hole is not taken for it.
const LOOK_AHEAD: usize = 16;

/// A checkpoint log cannot be read. Each names the object.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An entry cannot be read, or is missing.
    #[error(transparent)]
    Log(#[from] ReadLogError),
    /// An entry is not one of this format.
    #[error("object \"{key}\" is no checkpoint of this release: {source}")]
    Entry {
        /// The object.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
    /// Another cluster wrote an entry.
    #[error("object \"{key}\" was written by {writer}; this bucket is another cluster's")]
    Foreign {
        /// The object.
        key: Key,
        /// Who wrote it.
        writer: WriterId,
    },
    /// An entry does not follow from those before it.
    #[error("object \"{key}\" does not fit into its log: {source}")]
    Astray {
        /// The object.
        key: Key,
        /// Why.
        #[source]
        source: Astray,
    },
    /// What the floor promises is not there.
    #[error("object \"{key}\" is missing: the log was trimmed up to it, so a base begins there")]
    NoBase {
        /// Where the base should begin.
        key: Key,
    },
}

impl LoadError {
    /// Whether the same may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, LoadError::Log(ReadLogError::Object(error)) if error.is_retriable())
    }

    /// Whether entries are damaged or lost: [`super::BucketLog::open_anew`] goes on then. What
    /// another cluster or a newer release wrote is neither.
    pub fn is_damage(&self) -> bool {
        match self {
            LoadError::Log(ReadLogError::Format { source, .. }) => {
                !matches!(source, FormatError::Newer { .. } | FormatError::RequiredFlags { .. })
            }
            LoadError::Entry { source, .. } => {
                !matches!(source, EntryError::Newer { .. } | EntryError::RequiredFlags { .. })
            }
            LoadError::Log(ReadLogError::Misplaced { .. } | ReadLogError::Gap { .. })
            | LoadError::Astray { .. }
            | LoadError::NoBase { .. } => true,
            LoadError::Log(ReadLogError::Object(_) | ReadLogError::Floor { .. })
            | LoadError::Foreign { .. } => false,
        }
    }
}

/// The checkpoint log of a broker, for reading.
#[derive(Debug)]
pub struct CheckpointReader {
    log: NumberedLog,
    cluster: [u8; 16],
}

/// What a log has.
#[derive(Debug)]
pub struct Found {
    scan: Scan,
    /// The number of the first entry that counts or might.
    pub first: u64,
    /// The number behind the last entry.
    pub end: u64,
}

impl Found {
    /// What the last checkpoint says of itself; `None` if there is no whole one.
    pub fn summary(&self) -> Option<Summary> {
        self.scan.summary()
    }

    /// How many checkpoints there are from the last base on.
    pub fn checkpoints(&self) -> usize {
        self.scan.whole.len()
    }
}

impl CheckpointReader {
    /// The log of broker `node_id` in a bucket that should be `cluster`'s.
    pub fn new(store: Store, node_id: i32, cluster: [u8; 16]) -> Self {
        let log = NumberedLog::with_floor(store, &prefix(node_id), KIND, ENTRY_BYTES_MAX);
        Self { log, cluster }
    }

    /// Reads all entries from the floor on and finds the checkpoints that count.
    pub async fn find(&self) -> Result<Found, LoadError> {
        let floor = self.log.floor().await?;
        let first = floor.max(1);
        let mut scan = Scan::default();
        let mut number = first;
        while let Some(entry) = self.next(number).await? {
            let (head, _) = self.open(&entry)?;
            scan.push(number, entry.head.writer, &head)
                .map_err(|source| LoadError::Astray { key: self.log.key(number), source })?;
            number += 1;
        }
        if floor > 0 && scan.whole.is_empty() {
            return Err(LoadError::NoBase { key: self.log.key(floor) });
        }
        Ok(Found { scan, first, end: number })
    }

    /// The number behind all entries, damaged ones and those behind a hole among them.
    pub(super) async fn end_of_all(&self) -> Result<u64, LoadError> {
        let mut number = self.log.floor().await?.max(1);
        let mut end = number;
        while number < end.saturating_add(LOOK_AHEAD as u64) {
            let is_there = match self.log.read(number).await {
                Ok(Some(entry)) => self.open(&entry).map(|_| true),
                Ok(None) => Ok(false),
                Err(error) => Err(error.into()),
            };
            number += 1;
            match is_there {
                Ok(false) => {}
                Err(error) if !error.is_damage() => return Err(error),
                Ok(true) | Err(_) => end = number,
            }
        }
        Ok(end)
    }

    /// Gives the items of the checkpoints that count, oldest first: a later one replaces an earlier
    /// one of the same key.
    pub fn items(&self, found: &Found) -> FoundItems<'_> {
        FoundItems {
            reader: self,
            numbers: found.scan.whole.iter().flat_map(|whole| whole.first..=whole.last).collect(),
            items: Items::default(),
            fed: 0,
            ends: None,
        }
    }

    async fn next(&self, number: u64) -> Result<Option<Entry>, LoadError> {
        if let Some(entry) = self.log.read(number).await? {
            return Ok(Some(entry));
        }
        // Nothing, an error about the hole, or what was created since.
        Ok(self.log.read_on(number, LOOK_AHEAD).await?.into_iter().next())
    }

    fn open(&self, entry: &Entry) -> Result<(Head, bytes::Bytes), LoadError> {
        let key = || self.log.key(entry.head.number);
        let writer = entry.head.writer;
        if writer.cluster != self.cluster {
            return Err(LoadError::Foreign { key: key(), writer });
        }
        Head::decode(&entry.payload).map_err(|source| LoadError::Entry { key: key(), source })
    }
}

/// The items of a log.
#[derive(Debug)]
pub struct FoundItems<'a> {
    reader: &'a CheckpointReader,
    numbers: VecDeque<u64>,
    items: Items,
    /// The entry that was fed last, and what it ends.
    fed: u64,
    ends: Option<End>,
}

impl FoundItems<'_> {
    /// The next item; `None` at the end. After an error there is nothing more to be had.
    pub async fn next(&mut self) -> Result<Option<Item>, LoadError> {
        let log = &self.reader.log;
        loop {
            let about = |number| move |source| LoadError::Entry { key: log.key(number), source };
            if let Some(item) = self.items.next().map_err(about(self.fed))? {
                return Ok(Some(item));
            }
            if let Some(end) = self.ends.take() {
                self.items.end(end.items).map_err(about(self.fed))?;
            }
            let Some(number) = self.numbers.pop_front() else { return Ok(None) };
            let entry = log.read(number).await?;
            let entry = entry.ok_or_else(|| ReadLogError::Gap { key: log.key(number) })?;
            let (head, bytes) = self.reader.open(&entry)?;
            self.items.feed(&bytes);
            (self.fed, self.ends) = (number, head.end);
        }
    }
}
