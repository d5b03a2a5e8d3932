//! Brings a tiered object into the bucket.
//!
//! What fits one part is put in one request; what is larger goes in parts while it is written, so
//! that its memory is bounded. Its name is new, so any of this may be cut or fail at any point and
//! be done again under another name; what is left behind is an orphan, or an upload never
//! completed, for the sweep.
//!
//! **Invariant:** an object that is reported as uploaded was asked back: its last bytes, which hold
//! its size and the checksums of all the others, stand in the bucket as they were written.

use bytes::Bytes;
use tracing::warn;

use crate::clock::Clock;
use crate::log_limit::LogLimit;
use crate::object::{self, Key, ObjectError, Store};
use crate::protocol::types::TopicPartition;

use super::footer::Footer;
use super::format::Head;
use super::reader::ObjectRef;
use super::writer::{SectionEnd, Sizes, WriteError, Writer};

/// An object could not be made or brought into the bucket.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// What it should hold is no tiered object.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The bucket did not take it, as far as is known.
    #[error(transparent)]
    Bucket(#[from] ObjectError),
    /// The bucket took it and has something else.
    #[error(
        "the bucket took object \"{key}\" and does not have it as it was written; nothing is \
         deleted on its account, and it is written again under another name"
    )]
    NotKept {
        /// The object.
        key: Key,
    },
}

/// An object that is in the bucket.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// What to find it by.
    pub object: ObjectRef,
    /// What is in it.
    pub footer: Footer,
}

/// An object on its way to the bucket. It holds up to two parts, a batch and the footer.
#[derive(Debug)]
pub struct Upload<'a> {
    store: &'a Store,
    key: Key,
    writer: Writer,
    parts: Option<object::Upload>,
}

impl<'a> Upload<'a> {
    /// Begins an object that says `head` of itself; nothing is sent yet.
    pub fn new(store: &'a Store, head: Head, sizes: Sizes) -> Self {
        Self { store, key: head.id.key(), writer: Writer::new(head, sizes), parts: None }
    }

    /// How long the object is so far, without its footer.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// How long its footer is so far.
    pub fn footer_bytes(&self) -> usize {
        self.writer.footer_bytes()
    }

    /// Begins a section: [`Writer::begin`].
    pub fn begin(&mut self, of: TopicPartition, start_offset: i64) -> Result<(), WriteError> {
        self.writer.begin(of, start_offset)
    }

    /// Takes the next batch ([`Writer::push`]) and sends the parts that are full. After an error
    /// the object can only be given up.
    pub async fn push(&mut self, batch: &[u8]) -> Result<(), UploadError> {
        self.writer.push(batch)?;
        while let Some(part) = self.writer.next_part() {
            self.send(part).await?;
        }
        Ok(())
    }

    /// Ends a section: [`Writer::end`].
    pub fn end(&mut self, end: &SectionEnd<'_>) -> Result<(), WriteError> {
        self.writer.end(end)
    }

    /// Ends the object, brings what is left of it into the bucket, and looks whether it is there.
    /// After an error nothing refers to it.
    pub async fn finish(self) -> Result<Uploaded, UploadError> {
        let Self { store, key, writer, parts } = self;
        let finished = match writer.finish() {
            Ok(finished) => finished,
            Err(error) => {
                give_up(&key, parts).await;
                return Err(error.into());
            }
        };
        let sent = send_rest(store, &key, parts, finished.parts).await;
        // An error may be the loss of an answer only, and then the object is there.
        match (is_there(store, &key, finished.bytes, &finished.end).await, sent) {
            (Ok(true), _) => {}
            (_, Err(error)) | (Err(error), Ok(())) => return Err(error.into()),
            (Ok(false), Ok(())) => return Err(UploadError::NotKept { key }),
        }
        let id = finished.footer.head().id;
        let object = ObjectRef { id, bytes: finished.bytes, end_bytes: finished.end.len() as u32 };
        Ok(Uploaded { object, footer: finished.footer })
    }

    /// Gives the object up. Parts that the bucket does not remove now are left for the sweep.
    pub async fn give_up(self) {
        give_up(&self.key, self.parts).await;
    }

    async fn send(&mut self, part: Bytes) -> Result<(), ObjectError> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(self.store.upload(&self.key).await?),
        };
        parts.part(part).await
    }
}

async fn give_up(key: &Key, parts: Option<object::Upload>) {
    if let Some(parts) = parts
        && let Err(error) = parts.abort().await
    {
        static LIMIT: LogLimit = LogLimit::new();
        if let Some(more) = LIMIT.allow(&Clock::system()) {
            warn!(object = %key, %error, more, "the parts of an upload are left in the bucket");
        }
    }
}

/// Sends the last parts: in one request, if they are the only one.
async fn send_rest(
    store: &Store,
    key: &Key,
    begun: Option<object::Upload>,
    mut parts: Vec<Bytes>,
) -> Result<(), ObjectError> {
    let mut upload = match begun {
        Some(begun) => begun,
        None if parts.len() == 1 => return store.put(key, parts.remove(0)).await,
        None => store.upload(key).await?,
    };
    for part in parts {
        if let Err(error) = upload.part(part).await {
            give_up(key, Some(upload)).await;
            return Err(error);
        }
    }
    upload.complete().await
}

/// Whether the object ends in the bucket as it was written.
async fn is_there(store: &Store, key: &Key, size: u64, end: &Bytes) -> Result<bool, ObjectError> {
    let start = size.saturating_sub(end.len() as u64);
    match store.get_range(key, start..size).await {
        Ok(found) => Ok(found == end),
        Err(ObjectError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
