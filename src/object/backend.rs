//! The fourth layer of the store: opens the backend that `object.url` names.
//!
//! Retries are the third layer's, so each backend makes one attempt per call and has no deadline of
//! its own but for connecting. Credentials come from the standard places of each cloud and are
//! fetched again before they expire.

mod files;
mod http;
mod profile;
mod s3;
mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::prefix::PrefixStore;

use super::error::reason;
use super::list::Pages;
use super::local::{LocalError, create_dir};
use super::metrics::Throttles;
use crate::clock::Clock;
use crate::config::{ObjectConfig, ObjectUrl, Service};

/// The bucket cannot be opened as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Not a URL of any store.
    #[error("object.url \"{url}\" {}", ObjectUrl::FORM)]
    Malformed {
        /// The URL.
        url: String,
    },
    /// The directory of a `file://` URL cannot be made.
    #[error("object.url \"{url}\": {source}")]
    Directory {
        /// The URL.
        url: String,
        /// What failed.
        #[source]
        source: LocalError,
    },
    /// The store of this URL cannot be used.
    #[error("object.url \"{url}\": {reason}")]
    Unusable {
        /// The URL.
        url: String,
        /// Why, and the way out.
        reason: String,
    },
    /// A file that a setting names does not hold what it should.
    #[error("{setting} \"{}\": {reason}", path.display())]
    File {
        /// The key or the environment variable.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// An AWS profile does not lead to credentials.
    #[error("AWS profile \"{profile}\": {reason}")]
    Profile {
        /// Its name.
        profile: String,
        /// Why, and the way out.
        reason: String,
    },
}

/// The process's environment variables, from which clouds take credentials.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Those of this process that are UTF-8.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// The variable `name`; an empty one counts as not set, as in the clouds' own tools.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All that begin with `prefix`, in the order of their names.
    fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

impl std::fmt::Debug for Variables {
    /// Without the values: some are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// An opened backend.
pub(super) struct Backend {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The same where parts of an object have numbers, which those of a file have not.
    pub(super) multipart: Option<Arc<dyn MultipartStore>>,
    /// The same where a listing comes in pages.
    pub(super) pages: Option<Pages>,
    /// Where the objects are files, so that a name can be synced again; `None` elsewhere.
    pub(super) directory: Option<PathBuf>,
    /// The URL, and the endpoint if there is one: what tells this bucket from every other.
    pub(super) place: String,
    /// Whether it is reached over a network, whose slowest answers are worth asking for twice.
    pub(super) is_remote: bool,
}

/// What all backends of services are opened with.
struct Opening<'a> {
    config: &'a ObjectConfig,
    bucket: &'a str,
    prefix: &'a str,
    variables: &'a Variables,
    clock: &'a Clock,
    throttles: &'a Throttles,
}

/// A service's bucket below the prefix: for whole objects, for objects in parts, for listings.
struct Bucket {
    store: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    pages: Pages,
}

impl Opening<'_> {
    fn bucket<S>(&self, store: S) -> Bucket
    where
        S: ObjectStore + MultipartStore + PaginatedListStore + Clone,
    {
        let prefix = self.prefix.into();
        let pages = Pages { backend: Arc::new(store.clone()), prefix };
        if self.prefix.is_empty() {
            return Bucket { store: Arc::new(store.clone()), multipart: Arc::new(store), pages };
        }
        let below = Arc::new(PrefixStore::new(store, self.prefix));
        Bucket { store: Arc::clone(&below) as _, multipart: below, pages }
    }

    fn unusable(&self, reason: impl Into<String>) -> OpenStoreError {
        OpenStoreError::Unusable { url: self.config.url.to_string(), reason: reason.into() }
    }

    /// A builder's answer as ours.
    fn built<S>(&self, built: object_store::Result<S>) -> Result<S, OpenStoreError> {
        built.map_err(|error| self.unusable(reason(&error)))
    }
}

/// Opens the bucket of `config`. A network is not used yet.
pub(super) fn open(
    config: &ObjectConfig,
    variables: &Variables,
    clock: &Clock,
    throttles: &Throttles,
) -> Result<Backend, OpenStoreError> {
    let url = config.url.to_string();
    let (service, bucket, prefix) = match &config.url {
        ObjectUrl::Memory => {
            let store = Arc::new(InMemory::new());
            let multipart = Some(Arc::clone(&store) as _);
            return Ok(Backend {
                store,
                multipart,
                pages: None,
                directory: None,
                place: url,
                is_remote: false,
            });
        }
        ObjectUrl::File(directory) => {
            let store = Arc::new(open_directory(&url, directory)?);
            let directory = Some(directory.clone());
            return Ok(Backend {
                store,
                multipart: None,
                pages: None,
                directory,
                place: url,
                is_remote: false,
            });
        }
        ObjectUrl::Service { service, bucket, prefix } => (*service, bucket, prefix),
    };
    let opening = Opening { config, bucket, prefix, variables, clock, throttles };
    let (Bucket { store, multipart, pages }, endpoint) = match service {
        Service::S3 => s3::open(&opening)?,
        Service::Gcs => services::gcs(&opening)?,
        Service::Azure => services::azure(&opening)?,
    };
    let place = match endpoint {
        Some(endpoint) => format!("{url} at {endpoint}"),
        None => url,
    };
    let (multipart, pages) = (Some(multipart), Some(pages));
    Ok(Backend { store, multipart, pages, directory: None, place, is_remote: true })
}

fn open_directory(url: &str, directory: &Path) -> Result<LocalFileSystem, OpenStoreError> {
    if !directory.is_absolute() {
        return Err(OpenStoreError::Malformed { url: url.to_owned() });
    }
    create_dir(directory)
        .map_err(|source| OpenStoreError::Directory { url: url.to_owned(), source })?;
    let backend = LocalFileSystem::new_with_prefix(directory).map_err(|error| {
        OpenStoreError::Unusable { url: url.to_owned(), reason: reason(&error) }
    })?;
    Ok(backend.with_fsync(true))
}

#[cfg(test)]
mod tests;
