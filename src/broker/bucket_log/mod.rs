//! Checkpoints in the bucket: the numbered log `c/<broker>/<n>`, from which a broker is restored
//! whose data directory is lost (DESIGN §6).
//!
//! A checkpoint is a base, which says everything, or a delta, which says what changed since the
//! checkpoint before it. What they say are items ([`Item`]): a part under a key, which replaces
//! what stood there, or a removal. This module knows neither keys nor parts. A checkpoint takes one
//! entry or, where it is larger, several in a row; it counts from its last entry on.
//!
//! The checkpoint loop publishes through [`BucketLog`]; `tidegate bucket check` and `restore` read
//! through [`CheckpointReader`]. When one is due is [`Rhythm`]'s to say.
//!
//! **Invariant:** the floor is never above the first entry of the last whole base.
//! **Invariant:** a number whose creation has an unknown outcome is created again with the same
//! bytes before anything else is tried.
//! **Invariant:** after anything but success the next checkpoint is a base, so that a delta never
//! rests on what nobody knows to be there.

mod format;
mod load;
mod rhythm;
mod scan;

use crate::object::{
    CreateError, Key, NumberedLog, PutNewError, ReadLogError, Sealed, Store, TrimError, Writer,
};

pub use format::{EntryError, Item, KIND, PART_BYTES_MAX, Summary, read_alone};
pub use load::{CheckpointReader, Found, FoundItems, LoadError};
pub use rhythm::{CHECKPOINT_INTERVAL, Rhythm};
pub use scan::Astray;

use format::{End, HEAD_BYTES, Head, Place, item_head};

/// A checkpoint is cut into entries of this many bytes.
const ENTRY_BYTES: usize = 2 << 20;

/// The most bytes of an entry that are read: later releases may write larger ones.
const ENTRY_BYTES_MAX: u64 = 16 << 20;

/// A base has at most so many deltas, so that the end of a log is found and read quickly.
const DELTAS_MAX: u32 = 64;

/// Where the checkpoints of a broker are.
fn prefix(node_id: i32) -> String {
    format!("c/{node_id}")
}

/// What a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything; what came before it is deleted.
    Base,
    /// What changed since the checkpoint before.
    Delta,
}

/// No checkpoint was published, as far as is known. The next one is a base.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Another writer has the entry's number, or had it. If the metadata says that this run is
    /// still the broker's, an earlier run's request came late and [`BucketLog::step_over`] goes on;
    /// else stop acknowledging and end.
    #[error("checkpoint entry \"{key}\" has another writer: {source}")]
    Taken {
        /// The entry.
        key: Key,
        /// Whose it is.
        #[source]
        source: CreateError,
    },
    /// The bucket did not take the entry, or did not say so.
    #[error("checkpoint entry \"{key}\" was not written: {source}")]
    Bucket {
        /// The entry.
        key: Key,
        /// What it met.
        #[source]
        source: CreateError,
    },
    /// An item is larger than it may be.
    #[error("an item of a checkpoint has {bytes} bytes and may have {PART_BYTES_MAX}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
}

/// The checkpoints that a delta would follow.
#[derive(Debug, Clone, Copy)]
struct Chain {
    base: u64,
    last: u64,
    base_bytes: u64,
    delta_bytes: u64,
    deltas: u32,
}

/// The checkpoint log of a running broker, for writing. There is one per run.
#[derive(Debug)]
pub struct BucketLog {
    log: NumberedLog,
    writer: Writer,
    entry_bytes: usize,
    /// The number of the next entry.
    next: u64,
    /// Whether this run has created an entry.
    has_written: bool,
    /// An entry of which it is unknown whether it was created.
    unsettled: Option<Sealed>,
    chain: Option<Chain>,
    trimmed: u64,
}

impl BucketLog {
    /// Finds the end of broker `node_id`'s log, and what its last checkpoint says of itself.
    pub async fn open(
        store: Store,
        node_id: i32,
        writer: Writer,
    ) -> Result<(Self, Option<Summary>), LoadError> {
        let reader = CheckpointReader::new(store.clone(), node_id, writer.id().cluster);
        let found = reader.find().await?;
        Ok((Self::at(store, node_id, writer, found.end), found.summary()))
    }

    /// As [`BucketLog::open`] for a log that is damaged ([`LoadError::is_damage`]): what is there
    /// counts for nothing, and goes when the next base is whole.
    pub async fn open_anew(store: Store, node_id: i32, writer: Writer) -> Result<Self, LoadError> {
        let reader = CheckpointReader::new(store.clone(), node_id, writer.id().cluster);
        let next = reader.end_of_all().await?;
        Ok(Self::at(store, node_id, writer, next))
    }

    fn at(store: Store, node_id: i32, writer: Writer, next: u64) -> Self {
        Self {
            log: NumberedLog::with_floor(store, &prefix(node_id), KIND, ENTRY_BYTES_MAX),
            writer,
            entry_bytes: ENTRY_BYTES,
            next,
            has_written: false,
            unsettled: None,
            chain: None,
            trimmed: 0,
        }
    }

    /// Which kind of checkpoint is due: a base if this run has none, or none that is known to be
    /// whole, or if the deltas exceed half of it.
    pub fn next_kind(&self) -> Kind {
        match &self.chain {
            Some(chain)
                if chain.deltas < DELTAS_MAX && chain.delta_bytes <= chain.base_bytes / 2 =>
            {
                Kind::Delta
            }
            _ => Kind::Base,
        }
    }

    /// Begins a checkpoint of [`BucketLog::next_kind`]. Whatever keeps it from its end, dropping it
    /// included, leaves what was published before as it is.
    pub async fn begin(&mut self) -> Result<Publication<'_>, PublishError> {
        let kind = self.next_kind();
        // Put back when the checkpoint is whole.
        let chain = self.chain.take().filter(|_| kind == Kind::Delta);
        self.settle().await?;
        let first = self.next;
        let place = match chain {
            Some(chain) => Place { first, base: chain.base, previous: chain.last },
            None => Place { first, base: first, previous: 0 },
        };
        Ok(Publication { log: self, place, chain, buffer: Vec::new(), items: 0, bytes: 0 })
    }

    /// Goes on behind an entry that an earlier run of this broker wrote late; to be called after
    /// [`PublishError::Taken`] when the metadata says that this run is still the broker's. Returns
    /// false if that cannot be, because this run has written entries already: then somebody else
    /// writes here, and the run must end.
    pub async fn step_over(&mut self) -> Result<bool, ReadLogError> {
        if self.has_written || self.log.floor().await? > self.next {
            return Ok(false);
        }
        while self.log.read(self.next).await?.is_some() {
            self.next += 1;
        }
        Ok(true)
    }

    /// Raises the floor to the last base and deletes what lies below. To be called after each
    /// checkpoint; a failure is repaired by the next call.
    pub async fn trim(&mut self) -> Result<(), TrimError> {
        let Some(Chain { base, .. }) = self.chain else { return Ok(()) };
        if self.trimmed < base {
            self.log.trim(&self.writer, base).await?;
            self.trimmed = base;
        }
        Ok(())
    }

    /// Finds out what became of an entry whose creation had no answer.
    async fn settle(&mut self) -> Result<(), PublishError> {
        match self.unsettled.take() {
            Some(body) => self.create(body).await,
            None => Ok(()),
        }
    }

    async fn create(&mut self, body: Sealed) -> Result<(), PublishError> {
        // Noted first: this future may be dropped at the await.
        let number = body.number();
        let created = self.log.create(self.unsettled.insert(body)).await;
        let key = self.log.key(number);
        match created {
            Ok(()) => {
                self.unsettled = None;
                self.has_written = true;
                self.next = number + 1;
                Ok(())
            }
            Err(
                source @ (CreateError::Put(PutNewError::Fenced { .. })
                | CreateError::BelowFloor { .. }),
            ) => {
                self.unsettled = None;
                Err(PublishError::Taken { key, source })
            }
            Err(source) => Err(PublishError::Bucket { key, source }),
        }
    }
}

/// A checkpoint on its way. Holds up to one entry.
#[derive(Debug)]
pub struct Publication<'a> {
    log: &'a mut BucketLog,
    place: Place,
    /// What a delta follows.
    chain: Option<Chain>,
    buffer: Vec<u8>,
    items: u64,
    bytes: u64,
}

impl Publication<'_> {
    /// Whether it must say everything or only what changed.
    pub fn kind(&self) -> Kind {
        if self.place.is_base() { Kind::Base } else { Kind::Delta }
    }

    /// Takes an item. What it rests on must be synced by now: it may leave for the bucket.
    pub async fn push(&mut self, item: &Item) -> Result<(), PublishError> {
        let (key, part) = match item {
            Item::Part { key, part } => (key, &part[..]),
            Item::Removal { key } => (key, &[][..]),
        };
        if part.len() > PART_BYTES_MAX || key.len() > usize::from(u16::MAX) {
            return Err(PublishError::TooLarge { bytes: key.len() + part.len() });
        }
        self.items += 1;
        self.append(&item_head(item)).await?;
        self.append(part).await
    }

    /// Publishes it. When this returns it is in the bucket, and counts.
    pub async fn finish(mut self, summary: Summary) -> Result<(), PublishError> {
        let end = End { summary, items: self.items };
        self.put(Some(end)).await?;
        let first = self.place.first;
        self.log.chain = Some(match self.chain {
            None => Chain {
                base: first,
                last: first,
                base_bytes: self.bytes,
                delta_bytes: 0,
                deltas: 0,
            },
            Some(chain) => Chain {
                last: first,
                delta_bytes: chain.delta_bytes + self.bytes,
                deltas: chain.deltas + 1,
                ..chain
            },
        });
        Ok(())
    }

    async fn append(&mut self, mut bytes: &[u8]) -> Result<(), PublishError> {
        while !bytes.is_empty() {
            let room = self.log.entry_bytes.saturating_sub(HEAD_BYTES + self.buffer.len()).max(1);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if !bytes.is_empty() {
                self.put(None).await?;
            }
        }
        Ok(())
    }

    async fn put(&mut self, end: Option<End>) -> Result<(), PublishError> {
        let payload = Head { place: self.place, end }.encode(&self.buffer);
        self.buffer.clear();
        self.bytes += payload.len() as u64;
        let log = &mut *self.log;
        let body = log.log.seal(&log.writer, log.next, &payload);
        log.create(body).await
    }
}

#[cfg(test)]
mod tests;
