//! What is in the bucket, a page at a time.
//!
//! For finding garbage, for looking around and for what only a human can decide. A listing may
//! leave out what was written a moment ago and show what is gone, so **nothing that must be right
//! may rest on one**: that an object is not listed does not say that it is not there, and one that
//! is listed may be gone when it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::error::{ObjectError, Operation};
use super::key::Key;
use super::retry::ATTEMPTS;
use super::store::Store;

/// The most objects of a page: what S3 gives in one answer.
const PAGE_OBJECTS: usize = 1_000;

/// The answer that a page of a service is given time for.
const PAGE_BYTES: u64 = 4 << 20;

/// The same for a directory, of which every page is a walk over all of it: five minutes.
const WALK_BYTES: u64 = 290 << 20;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in milliseconds since the epoch by the bucket's clock.
    pub modified_ms: i64,
}

/// A bucket that gives its own pages, and the prefix of the store in it.
pub(super) struct Pages {
    pub(super) backend: Arc<dyn PaginatedListStore>,
    pub(super) prefix: Path,
}

/// A walk over the objects below a prefix, which holds a page of them at most.
#[derive(Debug)]
pub struct Listing {
    store: Store,
    prefix: Key,
    at: Place,
}

/// Where the next page begins.
#[derive(Debug, Clone)]
enum Place {
    Start,
    /// Behind the page that came with this token.
    Token(String),
    /// Behind this name.
    After(Path),
    End,
}

impl Store {
    /// Lists the objects whose names begin with `prefix` and a `/`; all of them for an empty one.
    /// Nothing is asked for yet.
    pub fn list(&self, prefix: &str) -> Listing {
        Listing { store: self.clone(), prefix: Key::new(prefix), at: Place::Start }
    }
}

impl Listing {
    /// The next page, of 1,000 objects at most in the order of their names; `None` at the end.
    /// After an error the same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Listed>>, ObjectError> {
        // A service may answer with a page that is empty and not the last.
        while !matches!(self.at, Place::End) {
            let (mut found, next) = match self.store.pages() {
                Some(pages) => self.ask(pages).await?,
                None => self.walk().await?,
            };
            self.at = next;
            if !found.is_empty() {
                found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// A page as the service makes it.
    async fn ask(&self, pages: &Pages) -> Result<(Vec<Listed>, Place), ObjectError> {
        let parts = [pages.prefix.as_ref(), self.prefix.path().as_ref()];
        let below =
            parts.map(|part| if part.is_empty() { String::new() } else { format!("{part}/") });
        let below = below.concat();
        let page_token = match &self.at {
            Place::Token(token) => Some(token.clone()),
            _ => None,
        };
        let options = PaginatedListOptions {
            page_token,
            max_keys: Some(PAGE_OBJECTS),
            ..PaginatedListOptions::default()
        };
        let ask = || pages.backend.list_paginated(Some(&below), options.clone());
        let page = self.store.run(Operation::List, &self.prefix, PAGE_BYTES, ATTEMPTS, ask).await?;
        let own = |object: ObjectMeta| {
            let name: Path = object.location.prefix_match(&pages.prefix)?.collect();
            Some(listed(Key::of(&name), &object))
        };
        let found = page.result.objects.into_iter().filter_map(own).collect();
        Ok((found, page.page_token.map_or(Place::End, Place::Token)))
    }

    /// A page of a store that knows no pages: the least names behind the last page's.
    async fn walk(&self) -> Result<(Vec<Listed>, Place), ObjectError> {
        let after = match &self.at {
            Place::After(after) => after.clone(),
            _ => Path::default(),
        };
        let backend = self.store.backend();
        let (prefix, after) = (self.prefix.path(), &after);
        let walk = || async move { least(backend, prefix, after).await };
        let found =
            self.store.run(Operation::List, &self.prefix, WALK_BYTES, ATTEMPTS, walk).await?;
        let next = match found.last_key_value() {
            Some((last, _)) if found.len() == PAGE_OBJECTS => Place::After(last.clone()),
            _ => Place::End,
        };
        let found = found.iter().map(|(path, object)| listed(Key::of(path), object));
        Ok((found.collect(), next))
    }
}

async fn least(
    backend: &dyn ObjectStore,
    prefix: &Path,
    after: &Path,
) -> object_store::Result<BTreeMap<Path, ObjectMeta>> {
    let mut least = BTreeMap::new();
    let mut objects = backend.list_with_offset(Some(prefix), after);
    while let Some(object) = objects.try_next().await? {
        least.insert(object.location.clone(), object);
        if least.len() > PAGE_OBJECTS {
            least.pop_last();
        }
    }
    Ok(least)
}

fn listed(key: Key, object: &ObjectMeta) -> Listed {
    Listed { key, bytes: object.size, modified_ms: object.last_modified.timestamp_millis() }
}

#[cfg(test)]
mod tests;
