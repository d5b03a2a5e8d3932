//! The bucket: where everything lives that must outlast a machine.
//!
//! [`Store`] is the handle to it, in four layers of one concern each: metering, limits on what is
//! under way at once, deadlines and retries, and the backend that `object.url` names: a directory,
//! memory, S3, Google Cloud Storage or Azure. Above it stand two things that make
//! a bucket safe to share. [`Store::put_new`] creates an object under a name that nothing has and
//! can tell its own success from another's, also when the answer was lost. [`NumberedLog`] strings
//! such objects together into a log in which every number has one owner for good; the cluster's
//! metadata is one, and nothing else creates numbered objects.
//!
//! `cluster/` and the tiered objects use this room. It also holds [`DataDir`], the small files of
//! the data directory that are replaced as a whole, [`UploadSweep`], which gives up what uploads
//! have left behind, [`probe`], which asks a bucket whether it keeps its promises before anything
//! is entrusted to it, and [`measure`], which times it.
//!
//! **Invariant:** an outcome that is unknown is reported as unknown, never as a failure.
//! **Invariant:** correctness never rests on listing the bucket; [`Store::list`] is for finding
//! garbage and for looking around.

mod backend;
#[cfg(any(test, debug_assertions))]
pub(crate) mod chaos;
mod cursor;
mod envelope;
mod error;
mod format;
mod hedge;
mod key;
mod limits;
mod list;
mod local;
mod log;
pub mod measure;
mod metrics;
mod pieces;
#[cfg(test)]
pub(crate) mod power;
pub mod probe;
mod put_new;
mod retry;
mod staged;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod upload;
mod uploads;

pub use backend::{OpenStoreError, Variables};
pub use cursor::{Cursor, Truncated};
pub use envelope::{ENVELOPE_BYTES, Head, Sealed, Writer, WriterId};
pub use error::{ObjectError, Operation};
pub use format::{Format, FormatError, HEADER_BYTES};
pub use key::Key;
pub use list::{Listed, Listing};
pub(crate) use local::create_dir;
pub use local::{DataDir, LocalError};
pub use log::{CreateError, Entry, NumberedLog, ReadLogError, TrimError};
pub use put_new::PutNewError;
pub use store::Store;
pub use upload::Upload;
pub use uploads::{NotedUpload, UploadSweep};
