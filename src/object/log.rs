//! Numbered logs: objects `<prefix>/<number>` created one after the other, each number once and
//! for good. Whoever creates a number first owns it; everybody else learns whose it is.
//!
//! A log whose entries are never deleted needs nothing more. One whose entries are deleted has a
//! **floor**, because a deleted number could otherwise be created a second time by a writer that
//! has slept: the floor is raised durably before anything is deleted, and every creation reads it
//! afterwards; a floor above the number means that somebody else had that number.
//!
//! The floor is itself a numbered log, `<prefix>/floor/<k>`, of which nothing is ever deleted:
//! were it one object that is overwritten, an old writer's delayed request could lower it. An
//! entry of it is two numbers, u64 each: the floor, and the number below which everything had been
//! deleted when it was written.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex;

use super::cursor::{Cursor, Truncated};
use super::envelope::{self, Head, Sealed, Writer};
use super::error::ObjectError;
use super::format::FormatError;
use super::key::Key;
use super::put_new::PutNewError;
use super::store::Store;

/// How many reads or deletions of one log are under way at once.
const CONCURRENT: usize = 16;

/// How often a raised floor is put under the next number before giving up.
const FLOOR_ATTEMPTS: u32 = 16;

/// The most bytes of a floor's entry.
const FLOOR_BYTES: u64 = 4096;

/// How often an entry is read before it counts as corrupt.
const READS: u32 = 3;

const FLOOR_KIND: [u8; 4] = *b"FLOR";

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// The bucket did not give the object.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The object is not one of ours, or of a newer release, or corrupt.
    #[error("object \"{key}\": {source}")]
    Format {
        /// The object.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// The object is intact but was written under another name.
    #[error("object \"{key}\" holds entry {number} of kind {kind:?}; it was copied or renamed")]
    Misplaced {
        /// The object.
        key: Key,
        /// The number inside.
        number: u64,
        /// The kind inside.
        kind: String,
    },
    /// An entry is missing before one that exists.
    #[error("object \"{key}\" is missing although later entries exist; restore it from a backup")]
    Gap {
        /// The missing object.
        key: Key,
    },
    /// An entry of the floor is too short.
    #[error("object \"{key}\" is not a floor: {source}")]
    Floor {
        /// The object.
        key: Key,
        /// What is missing.
        #[source]
        source: Truncated,
    },
}

/// A log's entries cannot be trimmed.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The floor cannot be read.
    #[error(transparent)]
    Read(#[from] ReadLogError),
    /// The floor cannot be raised.
    #[error(transparent)]
    Raise(#[from] PutNewError),
    /// An entry below the floor cannot be deleted; the next trim tries again.
    #[error(transparent)]
    Delete(#[from] ObjectError),
}

/// Why [`NumberedLog::create`] failed.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The entry was not created, or it is unknown whether it was.
    #[error(transparent)]
    Put(#[from] PutNewError),
    /// The entry was created but it is unknown whether the number had been used before.
    #[error("entry {number} was created but the floor could not be read: {source}")]
    FloorUnread {
        /// The entry.
        number: u64,
        /// What failed.
        #[source]
        source: ReadLogError,
    },
    /// Another writer had this number and has deleted it since.
    #[error(
        "entry {number} of \"{prefix}\" lies below the floor {floor}, which another writer raised"
    )]
    BelowFloor {
        /// The log.
        prefix: String,
        /// The entry.
        number: u64,
        /// The floor.
        floor: u64,
    },
}

/// An entry of a log.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who wrote it, and where it stands.
    pub head: Head,
    /// The first bytes of the object, which no other object has.
    pub first_bytes: Bytes,
    /// What it says.
    pub payload: Bytes,
}

/// A log of numbered objects.
#[derive(Debug)]
pub struct NumberedLog {
    store: Store,
    prefix: String,
    kind: [u8; 4],
    entry_limit: u64,
    /// `None` for a log whose entries are never deleted.
    floor: Option<Mutex<Floor>>,
}

/// What is known of the floor.
#[derive(Debug, Default, Clone, Copy)]
struct Floor {
    /// The number of the next entry of the floor's log; 0 before the first look.
    next: u64,
    /// Numbers below were used and may be gone.
    raised_to: u64,
    /// Everything below is deleted.
    deleted: u64,
}

impl NumberedLog {
    /// The log at `prefix` with entries of `kind` and at most `entry_limit` payload bytes, never
    /// deleted.
    pub fn new(store: Store, prefix: &str, kind: [u8; 4], entry_limit: u64) -> Self {
        Self { store, prefix: prefix.to_owned(), kind, entry_limit, floor: None }
    }

    /// The same for a log whose entries are deleted by [`NumberedLog::trim`].
    pub fn with_floor(store: Store, prefix: &str, kind: [u8; 4], entry_limit: u64) -> Self {
        let floor = Some(Mutex::new(Floor::default()));
        Self { floor, ..Self::new(store, prefix, kind, entry_limit) }
    }

    /// The name of an entry.
    pub fn key(&self, number: u64) -> Key {
        Key::numbered(&self.prefix, number)
    }

    /// Makes the body of entry `number`, to be given to [`NumberedLog::create`].
    pub fn seal(&self, writer: &Writer, number: u64, payload: &[u8]) -> Sealed {
        writer.seal(self.kind, number, payload)
    }

    /// Creates the entry that `body` was sealed for. After an unknown outcome the same body is to
    /// be created again. Until this has returned `Ok`, nothing may rest on the entry.
    pub async fn create(&self, body: &Sealed) -> Result<(), CreateError> {
        let number = body.number();
        self.store.put_new(&self.key(number), body).await?;
        let Some(floor) = &self.floor else {
            return Ok(());
        };
        let mut known = floor.lock().await;
        self.refresh(&mut known)
            .await
            .map_err(|source| CreateError::FloorUnread { number, source })?;
        if known.raised_to > number {
            let prefix = self.prefix.clone();
            return Err(CreateError::BelowFloor { prefix, number, floor: known.raised_to });
        }
        Ok(())
    }

    /// Reads entry `number`; `None` if there is none.
    pub async fn read(&self, number: u64) -> Result<Option<Entry>, ReadLogError> {
        read_entry(&self.store, self.key(number), self.kind, number, self.entry_limit).await
    }

    /// Reads up to `count` entries from `from` on. Fewer mean that the log ended there.
    pub async fn read_on(&self, from: u64, count: usize) -> Result<Vec<Entry>, ReadLogError> {
        let numbers = from..from.saturating_add(count as u64);
        let mut reads = stream::iter(numbers).map(|number| self.read(number)).buffered(CONCURRENT);
        let mut entries = Vec::new();
        while let Some(Some(entry)) = reads.try_next().await? {
            entries.push(entry);
        }
        let later_exists = reads.any(async |read| matches!(read, Ok(Some(_)))).await;
        if !later_exists {
            return Ok(entries);
        }
        // The missing one may have been created after it was looked for and before the later one
        // was: the second look decides, and what follows is read in order.
        while entries.len() < count {
            let next = from.saturating_add(entries.len() as u64);
            match self.read(next).await? {
                Some(entry) => entries.push(entry),
                None if self.read(next.saturating_add(1)).await?.is_some() => {
                    return Err(ReadLogError::Gap { key: self.key(next) });
                }
                None => break,
            }
        }
        Ok(entries)
    }

    /// The number below which entries may be gone; 0 for a log without a floor.
    pub async fn floor(&self) -> Result<u64, ReadLogError> {
        let Some(floor) = &self.floor else {
            return Ok(0);
        };
        let mut known = floor.lock().await;
        self.refresh(&mut known).await?;
        Ok(known.raised_to)
    }

    /// Raises the floor to `to`, then deletes the entries below it. May be repeated from any step.
    /// Does nothing for a log without a floor.
    pub async fn trim(&self, writer: &Writer, to: u64) -> Result<(), TrimError> {
        let Some(floor) = &self.floor else {
            return Ok(());
        };
        let mut known = floor.lock().await;
        self.refresh(&mut known).await?;
        let mut attempt = 1;
        while known.raised_to < to {
            let payload = [to.to_be_bytes(), known.deleted.to_be_bytes()].concat();
            let body = writer.seal(FLOOR_KIND, known.next, &payload);
            match self.store.put_new(&self.floor_key(known.next), &body).await {
                Ok(()) => {}
                Err(PutNewError::Fenced { .. }) if attempt < FLOOR_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
            self.refresh(&mut known).await?;
        }
        stream::iter(known.deleted..known.raised_to)
            .map(|number| async move { self.store.delete(&self.key(number)).await })
            .buffer_unordered(CONCURRENT)
            .try_collect::<()>()
            .await?;
        known.deleted = known.raised_to;
        Ok(())
    }

    fn floor_key(&self, k: u64) -> Key {
        Key::numbered(&format!("{}/floor", self.prefix), k)
    }

    /// Reads the floor's log to its end.
    async fn refresh(&self, known: &mut Floor) -> Result<(), ReadLogError> {
        if known.next == 0 {
            known.next = self.last_floor_entry().await?.max(1);
        }
        loop {
            let key = self.floor_key(known.next);
            let entry =
                read_entry(&self.store, key.clone(), FLOOR_KIND, known.next, FLOOR_BYTES).await?;
            let Some(entry) = entry else {
                return Ok(());
            };
            let mut cursor = Cursor::new(&entry.payload);
            let failed = |source| ReadLogError::Floor { key: key.clone(), source };
            known.raised_to = known.raised_to.max(cursor.u64().map_err(failed)?);
            known.deleted = known.deleted.max(cursor.u64().map_err(failed)?);
            known.next += 1;
        }
    }

    /// The number of an entry at or near the end of the floor's log, found in as many reads as its
    /// length has bits; 0 if it is empty.
    async fn last_floor_entry(&self) -> Result<u64, ReadLogError> {
        let exists = async |k| match self.store.get_range(&self.floor_key(k), 0..1).await {
            Ok(_) => Ok(true),
            Err(ObjectError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        };
        let mut present = 0;
        let mut absent = 1;
        while exists(absent).await? {
            present = absent;
            absent *= 2;
        }
        while absent - present > 1 {
            let middle = present + (absent - present) / 2;
            if exists(middle).await? {
                present = middle;
            } else {
                absent = middle;
            }
        }
        Ok(present)
    }
}

async fn read_entry(
    store: &Store,
    key: Key,
    kind: [u8; 4],
    number: u64,
    limit: u64,
) -> Result<Option<Entry>, ReadLogError> {
    let limit = limit.saturating_add(envelope::ENVELOPE_BYTES as u64);
    let mut reads = 0;
    let (bytes, head, payload) = loop {
        let bytes = match store.get(&key, limit).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        reads += 1;
        match envelope::open(&bytes) {
            Ok((head, payload)) => break (bytes, head, payload),
            // What was damaged on its way is whole the next time.
            Err(_) if reads < READS => {}
            Err(source) => return Err(ReadLogError::Format { key, source }),
        }
    };
    if head.number != number || head.kind != kind {
        let kind = String::from_utf8_lossy(&head.kind).into_owned();
        return Err(ReadLogError::Misplaced { key, number: head.number, kind });
    }
    let first_bytes = bytes.slice(..envelope::ENVELOPE_BYTES);
    Ok(Some(Entry { head, first_bytes, payload }))
}

#[cfg(test)]
mod tests;
