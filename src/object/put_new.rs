//! Create-if-absent that knows its own success.
//!
//! A conditional write alone cannot tell: when an answer is lost, the next attempt meets the
//! object that the first one made, and the backend reports that it already exists. So after every
//! answer that is not a success the first bytes of the object are read back: they are ours, or
//! another's, or there is nothing yet.

use super::envelope::{ENVELOPE_BYTES, Head, Sealed, WriterId};
use super::error::{ObjectError, Operation};
use super::key::Key;
use super::local;
use super::store::Store;

/// How often a body is put before its outcome is reported as unknown.
const PUT_ATTEMPTS: u32 = 4;

/// How often the first bytes are read back per attempt to put.
const READ_ATTEMPTS: u32 = 2;

/// Why [`Store::put_new`] did not create the object, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum PutNewError {
    /// Another object has that name, and always will.
    #[error("object \"{key}\" was written by {}", writer_name(*writer))]
    Fenced {
        /// The object.
        key: Key,
        /// Who wrote it; `None` if it is no object of ours at all.
        writer: Option<WriterId>,
    },
    /// The bucket refused, and nothing was written.
    #[error(transparent)]
    Refused(ObjectError),
    /// The object may or may not be written, now or later. To find out, put the same body again.
    #[error("it is unknown whether object \"{key}\" was written: {source}")]
    Unknown {
        /// The object.
        key: Key,
        /// What the last attempt met.
        #[source]
        source: ObjectError,
    },
    /// The object is there but its name could not be synced, so it may be lost with the power.
    #[error("object \"{key}\" was written but its name could not be synced: {source}")]
    Unsynced {
        /// The object.
        key: Key,
        /// What failed.
        #[source]
        source: local::LocalError,
    },
}

fn writer_name(writer: Option<WriterId>) -> String {
    writer.map_or_else(|| "something else than Tidegate".to_owned(), |id| id.to_string())
}

/// What stands under a name.
enum Found {
    Nothing,
    Ours,
    Other(Option<WriterId>),
}

impl Store {
    /// Creates an object under a name that nothing has. Success means that the object there is
    /// `body`'s, written by this call or an earlier one, and durable. Ends within about two
    /// minutes.
    pub async fn put_new(&self, key: &Key, body: &Sealed) -> Result<(), PutNewError> {
        let mut maybe_written = false;
        let mut attempt = 1;
        loop {
            let failed = match self.create(key, body.bytes.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ ObjectError::Denied { .. }) if !maybe_written => {
                    return Err(PutNewError::Refused(error));
                }
                Err(error) => error,
            };
            maybe_written = true;
            let last = match self.found(key, body).await {
                Ok(Found::Ours) => return self.sync_name(key).await,
                Ok(Found::Other(writer)) => {
                    return Err(PutNewError::Fenced { key: key.clone(), writer });
                }
                Ok(Found::Nothing) => failed,
                Err(error) => error,
            };
            if attempt >= PUT_ATTEMPTS {
                return Err(PutNewError::Unknown { key: key.clone(), source: last });
            }
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    async fn found(&self, key: &Key, body: &Sealed) -> Result<Found, ObjectError> {
        let read = || self.read_range(key, 0..ENVELOPE_BYTES as u64, READ_ATTEMPTS);
        let mut seen = None;
        loop {
            match (read().await, seen) {
                (Ok(first), _) if first == body.first_bytes() => return Ok(Found::Ours),
                (Ok(first), Some(same)) if first == same => {
                    return Ok(Found::Other(Head::parse(&first).ok().map(|head| head.writer)));
                }
                // Bytes that were damaged on their way would make our own object another's, which
                // ends the process that asked: only what is read twice alike is what is there.
                (Ok(first), None) => seen = Some(first),
                (Ok(_), Some(_)) => {
                    let (operation, key) = (Operation::GetRange, key.clone());
                    let reason = "it reads differently each time".to_owned();
                    return Err(ObjectError::Unavailable { operation, key, attempts: 2, reason });
                }
                (Err(ObjectError::NotFound { .. }), _) => return Ok(Found::Nothing),
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// In a store of files the lost answer may have been that the directory was not synced.
    async fn sync_name(&self, key: &Key) -> Result<(), PutNewError> {
        let Some(directory) = self.directory_of(key) else {
            return Ok(());
        };
        let unsynced = |source| PutNewError::Unsynced { key: key.clone(), source };
        local::blocking(move || local::sync_dir(&directory)).await.map_err(unsynced)?;
        self.sync_above(key).await.map_err(unsynced)
    }
}

#[cfg(test)]
mod tests;
