//! Neighbouring parts of an object, read in one GET.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{GetOptions, GetResult, GetResultPayload, ObjectStore};

use super::error::{ObjectError, Operation};
use super::key::Key;
use super::retry::ATTEMPTS;
use super::store::Store;
use crate::task;

impl Store {
    /// Reads `pieces` of an object, which rise and do not overlap, and what lies between them, in
    /// one GET. `take` gets each as soon as it is whole, in order, in memory of its own: a slice of
    /// a long answer would keep all of it. Where the object ends before a piece does, the piece is
    /// shorter. `take` ends the read early by saying false.
    ///
    /// An attempt after one that failed, or beside one that takes long, asks for no piece that was
    /// taken.
    pub async fn get_pieces(
        &self,
        key: &Key,
        pieces: &[Range<u64>],
        take: impl FnMut(Bytes) -> bool + Send,
    ) -> Result<(), ObjectError> {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(()) };
        let length = last.end.saturating_sub(first.start);
        let taker = Mutex::new(Taker { taken: 0, bytes: 0, take });
        let backend = self.backend();
        let read = self.run(Operation::GetRange, key, length, ATTEMPTS, || {
            let ask = || read(backend, key, pieces, &taker);
            async move { self.hedged(ask).await }
        });
        read.await?;
        let taker = taker.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.moved(Operation::GetRange, taker.bytes);
        Ok(())
    }
}

/// Who takes the pieces.
struct Taker<F> {
    /// How many it has.
    taken: usize,
    bytes: usize,
    take: F,
}

impl<F: FnMut(Bytes) -> bool> Taker<F> {
    /// Gives it the piece `index`, unless it has that from another attempt. Whether it wants more.
    fn give(&mut self, index: usize, piece: Bytes) -> bool {
        if index != self.taken {
            return index < self.taken;
        }
        self.bytes += piece.len();
        let goes_on = (self.take)(piece);
        self.taken = if goes_on { index + 1 } else { usize::MAX };
        goes_on
    }
}

/// One attempt, from the first piece on that was not taken.
async fn read<F: FnMut(Bytes) -> bool>(
    backend: &dyn ObjectStore,
    key: &Key,
    pieces: &[Range<u64>],
    taker: &Mutex<Taker<F>>,
) -> object_store::Result<()> {
    let lock = || taker.lock().unwrap_or_else(PoisonError::into_inner);
    let begun_at = lock().taken;
    let (Some(first), Some(last)) = (pieces.get(begun_at), pieces.last()) else { return Ok(()) };
    let options = GetOptions::new().with_range(Some(first.start..last.end));
    let mut body = Body::new(backend.get_opts(key.path(), options).await?);
    for (index, piece) in pieces.iter().enumerate().skip(begun_at) {
        let bytes = body.read(piece).await?;
        if !lock().give(index, bytes) {
            break;
        }
    }
    Ok(())
}

/// What an answer brings.
struct Body {
    /// Where it ends in the object.
    end: u64,
    source: Source,
}

enum Source {
    File(Arc<File>),
    Stream {
        stream: BoxStream<'static, object_store::Result<Bytes>>,
        /// What has come and was not looked at.
        rest: Bytes,
        /// Where that begins in the object.
        at: u64,
    },
}

impl Body {
    fn new(found: GetResult) -> Self {
        let Range { start: at, end } = found.range;
        let source = match found.payload {
            GetResultPayload::File(file, _) => Source::File(Arc::new(file)),
            GetResultPayload::Stream(stream) => Source::Stream { stream, rest: Bytes::new(), at },
        };
        Self { end, source }
    }

    /// The bytes of the object in `range`, as far as the answer has them.
    async fn read(&mut self, range: &Range<u64>) -> object_store::Result<Bytes> {
        let range = range.start..range.end.min(self.end).max(range.start);
        let wanted = usize::try_from(range.end - range.start).map_err(failed)?;
        match &mut self.source {
            Source::File(file) => {
                let file = Arc::clone(file);
                let read = task::blocking(move || read_file(&file, range)).await.map_err(failed)?;
                let bytes = read.map_err(failed)?;
                if bytes.len() < wanted {
                    return Err(ended(bytes.len(), wanted));
                }
                Ok(bytes.into())
            }
            Source::Stream { stream, rest, at } => {
                let mut bytes = Vec::with_capacity(wanted);
                while bytes.len() < wanted {
                    if rest.is_empty() {
                        *rest = stream.next().await.ok_or_else(|| ended(bytes.len(), wanted))??;
                    }
                    let skipped = usize::try_from(range.start.saturating_sub(*at));
                    let skipped = skipped.unwrap_or(usize::MAX).min(rest.len());
                    let end = (skipped + wanted - bytes.len()).min(rest.len());
                    *at += end as u64;
                    let next = rest.split_to(end);
                    bytes.extend_from_slice(next.get(skipped..).unwrap_or_default());
                }
                Ok(bytes.into())
            }
        }
    }
}

/// Reads what the file has in `range`, into memory that nobody has to fill with zeros before.
fn read_file(mut file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let length = range.end - range.start;
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    file.seek(SeekFrom::Start(range.start))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ended(bytes: usize, expected: usize) -> object_store::Error {
    failed(format!("the body ended after {bytes} of {expected} bytes"))
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "bucket", source: source.into() }
}

#[cfg(test)]
mod tests;
