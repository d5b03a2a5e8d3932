//! Reads tiered objects from the bucket.
//!
//! **Invariant:** bytes that a checksum does not vouch for are given to nobody.

use std::ops::Range;

use bytes::Bytes;

use crate::object::{Key, ObjectError, Store};
use crate::protocol::batch::BatchHeader;

use super::footer::{Footer, Section};
use super::format::{
    FOOTER_BYTES_MAX, HEAD_BYTES, Head, TRAILER_BYTES, TierFormatError, Trailer, layout,
};
use super::name::ObjectId;

/// How many of an object's last bytes are read where nobody knows how long its footer is: enough
/// for a segment of 1.5 GiB.
pub const FOOTER_GUESS: u32 = 64 << 10;

/// An object, as whoever refers to it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Which object.
    pub id: ObjectId,
    /// Its size.
    pub bytes: u64,
    /// The length of its footer and trailer; a guess costs a second GET if it was too low.
    pub end_bytes: u32,
}

/// A tiered object could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such object: the view that named it is old.
    #[error("tiered object \"{key}\" is not in the bucket")]
    Missing {
        /// The object.
        key: Key,
    },
    /// The object is not what was written.
    #[error("tiered object \"{key}\": {source}")]
    Corrupt {
        /// The object.
        key: Key,
        /// What is wrong with it.
        #[source]
        source: TierFormatError,
    },
    /// The bucket gave no answer, or none that helps.
    #[error(transparent)]
    Bucket(ObjectError),
}

/// What one GET of an object's end gave.
#[derive(Debug)]
pub enum End {
    /// The footer.
    Footer(Box<Footer>),
    /// The footer is longer than what was read: so many bytes must be.
    Longer(u32),
}

/// Reads one object.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    store: &'a Store,
    object: ObjectRef,
    key: Key,
}

impl<'a> Reader<'a> {
    /// A reader of `object`, of which nothing has been read.
    pub fn new(store: &'a Store, object: ObjectRef) -> Self {
        Self { store, object, key: object.id.key() }
    }

    /// Reads the footer: in one GET, or in two if [`ObjectRef::end_bytes`] is too low.
    pub async fn footer(&self) -> Result<Footer, ReadError> {
        match self.end(self.object.end_bytes).await? {
            End::Footer(footer) => Ok(*footer),
            End::Longer(needed) => self.whole(self.end(needed).await?),
        }
    }

    /// The footer out of an answer that was long enough for it.
    pub(super) fn whole(&self, end: End) -> Result<Footer, ReadError> {
        match end {
            End::Footer(footer) => Ok(*footer),
            // Another object's end than before.
            End::Longer(_) => Err(self.corrupt(layout("it changed while it was read"))),
        }
    }

    /// Reads the object's last `bytes`.
    ///
    /// The range is counted from the start, because not every store knows ranges from the end
    /// (Azure), and who refers to an object knows its size.
    pub async fn end(&self, bytes: u32) -> Result<End, ReadError> {
        let size = self.object.bytes;
        let most = (FOOTER_BYTES_MAX + TRAILER_BYTES) as u64;
        let wanted = u64::from(bytes).clamp(TRAILER_BYTES as u64, most).min(size);
        let end = self.range(size - wanted..size).await?;
        let corrupt = |source| self.corrupt(source);
        let trailer = Trailer::decode(&end, size).map_err(corrupt)?;
        let needed = trailer.footer_bytes as usize + TRAILER_BYTES;
        let Some(start) = end.len().checked_sub(needed) else {
            return Ok(End::Longer(needed as u32));
        };
        let footer = end.get(start..end.len() - TRAILER_BYTES).unwrap_or_default();
        let footer = Footer::decode(footer, trailer.footer_position).map_err(corrupt)?;
        let found = footer.head().id;
        if found != self.object.id {
            return Err(corrupt(TierFormatError::OtherObject { found }));
        }
        Ok(End::Footer(Box::new(footer)))
    }

    /// Reads the head and holds it against what the footer says.
    pub async fn head(&self, footer: &Footer) -> Result<Head, ReadError> {
        let bytes = self.range(0..HEAD_BYTES as u64).await?;
        let head = Head::decode(&bytes).map_err(|source| self.corrupt(source))?;
        if head == *footer.head() {
            return Ok(head);
        }
        Err(self.corrupt(layout("its head says something else than its footer")))
    }

    /// Reads chunks that lie one behind the other in one GET. A number that the footer does not
    /// have ends the run.
    pub async fn chunks(
        &self,
        footer: &Footer,
        numbers: Range<u32>,
    ) -> Result<Vec<Bytes>, ReadError> {
        let mut chunks = Vec::new();
        self.each_chunk(footer, numbers, |_, chunk| chunks.push(chunk)).await?;
        Ok(chunks)
    }

    /// As [`Reader::chunks`], and `take` gets each with its number when it has come, whatever
    /// becomes of the next.
    pub async fn each_chunk(
        &self,
        footer: &Footer,
        numbers: Range<u32>,
        mut take: impl FnMut(u32, Bytes) + Send,
    ) -> Result<(), ReadError> {
        let chunks: Vec<_> = numbers.clone().map_while(|number| footer.chunk(number)).collect();
        // Between two sections lies a producer snapshot.
        let pieces: Vec<_> = chunks.iter().map(|chunk| chunk.range()).collect();
        let mut awaited = numbers.zip(chunks);
        let mut damage = None;
        let take = |bytes: Bytes| {
            let Some((number, chunk)) = awaited.next() else { return false };
            damage = chunk.verify(&bytes).err();
            if damage.is_none() {
                take(number, bytes);
            }
            damage.is_none()
        };
        let read = self.store.get_pieces(&self.key, &pieces, take).await;
        read.map_err(answered)?;
        damage.map_or(Ok(()), |source| Err(self.corrupt(source)))
    }

    /// Reads a section's producer snapshot; no bytes if it has none.
    pub async fn producers(&self, section: &Section) -> Result<Bytes, ReadError> {
        let snapshot = &section.snapshot;
        if snapshot.bytes == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.range(snapshot.range()).await?;
        snapshot.verify(&bytes).map_err(|source| self.corrupt(source))?;
        Ok(bytes)
    }

    async fn range(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.store.get_range(&self.key, range).await.map_err(answered)
    }

    fn corrupt(&self, source: TierFormatError) -> ReadError {
        ReadError::Corrupt { key: self.key.clone(), source }
    }
}

/// What it means for a tiered object that the bucket answered so.
fn answered(error: ObjectError) -> ReadError {
    match error {
        ObjectError::NotFound { key } => ReadError::Missing { key },
        other => ReadError::Bucket(other),
    }
}

/// The batches of a chunk from the one on that holds `offset`, or the first behind it.
pub fn since_offset(chunk: &Bytes, offset: i64) -> Bytes {
    let mut rest = chunk.clone();
    while let Ok(header) = BatchHeader::parse(&rest) {
        if header.last_offset() >= offset {
            return rest;
        }
        drop(rest.split_to(header.size().min(rest.len())));
    }
    Bytes::new()
}

#[cfg(test)]
mod tests;
