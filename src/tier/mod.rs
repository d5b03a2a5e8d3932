//! Tiered objects: a partition's log in the bucket, for as long as retention says.
//!
//! One format ([`mod@format`]), one [`writer`], one [`reader`]. An object has a section for each of
//! one or more partitions, with their batches byte for byte; its footer says where each begins, so
//! that opening an object costs one GET and finding an offset or a time in it one more. Objects are
//! immutable and their names are never used twice ([`name`]): what was read once may be kept
//! ([`cache`]) for as long as there is room.
//!
//! The broker's flusher and merger write here, partitions read. Which objects there are is not
//! known here: that is the write-ahead log's to say.
//!
//! **Invariant:** what is served has the checksum that its writer gave it.

pub mod cache;
#[cfg(test)]
mod chaos;
pub mod footer;
pub mod format;
mod metrics;
pub mod name;
pub mod reader;
pub mod upload;
pub mod writer;

pub use cache::{Age, Cache, CacheOptions, Found, Held};
pub use footer::{Aborted, Chunk, EpochStart, Footer, Section, Snapshot};
pub use format::{Head, Origin, TierFormatError};
pub use name::ObjectId;
pub use reader::{ObjectRef, ReadError, Reader};
pub use upload::{Upload, UploadError, Uploaded};
pub use writer::{CHUNK_BYTES, Finished, SectionEnd, Sizes, WriteError, Writer};
