//! What can go wrong with one operation on the bucket.

use super::key::Key;

/// An operation on the bucket, as errors and metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read a whole object.
    Get,
    /// Read a part of an object.
    GetRange,
    /// Write an object, replacing what was there.
    Put,
    /// Write an object if none of that name exists.
    Create,
    /// Remove an object.
    Delete,
    /// Begin to write an object in parts.
    BeginUpload,
    /// Write a part of an object.
    PutPart,
    /// Make an object of its parts.
    CompleteUpload,
    /// Give up an object's parts.
    AbortUpload,
    /// See which objects there are.
    List,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 10] = [
        Operation::Get,
        Operation::GetRange,
        Operation::Put,
        Operation::Create,
        Operation::Delete,
        Operation::BeginUpload,
        Operation::PutPart,
        Operation::CompleteUpload,
        Operation::AbortUpload,
        Operation::List,
    ];

    /// Whether it looks for an object or an upload, which may be what a 404 is for.
    pub(super) fn may_miss(self) -> bool {
        match self {
            Operation::Put | Operation::Create | Operation::BeginUpload | Operation::List => false,
            Operation::Get
            | Operation::GetRange
            | Operation::Delete
            | Operation::PutPart
            | Operation::CompleteUpload
            | Operation::AbortUpload => true,
        }
    }

    /// The operation's name as a metric label and in errors.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::Put => "put",
            Operation::Create => "create",
            Operation::Delete => "delete",
            Operation::BeginUpload => "begin_upload",
            Operation::PutPart => "put_part",
            Operation::CompleteUpload => "complete_upload",
            Operation::AbortUpload => "abort_upload",
            Operation::List => "list",
        }
    }

    /// The places before and after it where a test ends the process.
    pub(super) fn places(self) -> [&'static str; 2] {
        match self {
            Operation::Put => ["bucket: before put", "bucket: after put"],
            Operation::Create => ["bucket: before create", "bucket: after create"],
            Operation::Delete => ["bucket: before delete", "bucket: after delete"],
            Operation::BeginUpload => ["bucket: before begin", "bucket: after begin"],
            Operation::PutPart => ["bucket: before part", "bucket: after part"],
            Operation::CompleteUpload => ["bucket: before complete", "bucket: after complete"],
            Operation::AbortUpload => ["bucket: before abort", "bucket: after abort"],
            _ => ["bucket: before read", "bucket: after read"],
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an operation on the bucket gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// There is no such object.
    #[error("object \"{key}\" not found in the bucket")]
    NotFound {
        /// The object.
        key: Key,
    },
    /// There is such an object already.
    #[error("object \"{key}\" already exists in the bucket")]
    AlreadyExists {
        /// The object.
        key: Key,
    },
    /// The bucket answered, and trying again would not change the answer.
    #[error(
        "the bucket refused to {operation} object \"{key}\": {reason}; check object.url and the \
         credentials"
    )]
    Denied {
        /// What was asked.
        operation: Operation,
        /// The object.
        key: Key,
        /// The bucket's words.
        reason: String,
    },
    /// The bucket did not answer, or that it cannot now; the outcome of a write is unknown.
    #[error("the bucket could not {operation} object \"{key}\" in {attempts} attempts: {reason}")]
    Unavailable {
        /// What was asked.
        operation: Operation,
        /// The object.
        key: Key,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt met.
        reason: String,
    },
    /// The object is larger than anything of its kind may be.
    #[error("object \"{key}\" has {size} bytes and at most {limit} are expected")]
    TooLarge {
        /// The object.
        key: Key,
        /// Its size.
        size: u64,
        /// What its reader accepts.
        limit: u64,
    },
}

impl ObjectError {
    /// Whether the same operation may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self, ObjectError::Unavailable { .. })
    }
}

/// What an answer of the backend means for the one who asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Class {
    NotFound,
    Exists,
    Denied,
    Transient,
}

/// Sorts the backend's errors. What it does not name counts as passing, because a write whose
/// outcome is unknown must never be taken for one that was refused.
pub(super) fn classify(error: &object_store::Error) -> Class {
    use object_store::Error as E;
    match error {
        E::NotFound { source, .. } if names_no_bucket(&source.to_string()) => Class::Denied,
        E::NotFound { .. } => Class::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Class::Exists,
        E::InvalidPath { .. }
        | E::NotSupported { .. }
        | E::NotImplemented { .. }
        | E::PermissionDenied { .. }
        | E::Unauthenticated { .. }
        | E::UnknownConfigurationKey { .. } => Class::Denied,
        _ => Class::Transient,
    }
}

/// Whether the answer is that this bucket may not be listed or is not there. The crate gives the
/// status of other operations with their errors, and that of a listing in words only.
pub(super) fn refuses_listing(error: &object_store::Error) -> bool {
    let object_store::Error::Generic { source, .. } = error else { return false };
    let words = source.to_string();
    words.starts_with("Error performing list request: ")
        && ["401", "403", "404"].iter().any(|code| words.contains(&format!("status code: {code}")))
}

/// Whether a 404 is for the bucket and not for the object: taking a bucket that is gone for an
/// empty one would be taking every object for lost. S3's, Azure's and Google's words.
fn names_no_bucket(answer: &str) -> bool {
    let words = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];
    words.iter().any(|word| answer.contains(word))
}

/// The backend's error in its own words, without the crate's prefix.
pub(super) fn reason(error: &object_store::Error) -> String {
    match error {
        object_store::Error::Generic { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
