//! What is made from files, and made again when they change.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::error::TlsError;
use super::material::{Material, Sources};
use crate::clock::{Clock, Instant};
use crate::task;

/// How long what was read is not looked at again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Who is told when the own certificates end.
type Tell = Box<dyn Fn(i64) + Send + Sync>;

type Build<T> = Box<dyn Fn(&Material) -> Result<Arc<T>, TlsError> + Send + Sync>;

/// Something that is made from certificates and keys.
pub(super) struct Live<T> {
    sources: Sources,
    build: Build<T>,
    clock: Clock,
    built: ArcSwap<T>,
    looked: Mutex<Instant>,
    seen: Mutex<Seen>,
    /// Set at most once, by whoever counts.
    tell: OnceLock<Tell>,
}

struct Seen {
    /// What the files held when they could last be read.
    material: Material,
    /// Why nothing could be made of that.
    fault: Option<TlsError>,
    /// What was last complained about, so that it is said once.
    told: Option<TlsError>,
}

/// What became of a look at the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They are as they were.
    Same,
    /// They changed, and what is made from them serves from now on.
    Renewed,
    /// They cannot be used, and what was made before goes on to serve.
    Kept(TlsError),
}

impl<T> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Live<T> {
    /// Reads the files and builds from them. Blocks for as long as the files take.
    pub(super) fn new(sources: Sources, build: Build<T>, clock: Clock) -> Result<Self, TlsError> {
        let material = sources.read()?;
        let built = ArcSwap::new(build(&material)?);
        let seen = Mutex::new(Seen { material, fault: None, told: None });
        let looked = Mutex::new(clock.now());
        Ok(Self { sources, build, clock, built, looked, seen, tell: OnceLock::new() })
    }

    /// Tells when the certificates that serve now end, and again whenever others do.
    pub(super) fn tell_expiry(&self, tell: Tell) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.fault.is_none()
            && let Some(seconds) = seen.material.expiry()
        {
            tell(seconds);
        }
        // Nobody asks twice.
        let _ = self.tell.set(tell);
    }

    /// What serves now. Whoever comes first after [`LOOK_AGAIN`] waits for a look at the files;
    /// the others do not.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<T> {
        if self.is_due() {
            let live = Arc::clone(self);
            // A panic there leaves what was made before.
            let _ = task::blocking(move || live.look()).await;
        }
        self.built.load_full()
    }

    fn is_due(&self) -> bool {
        if !self.sources.has_files() {
            return false;
        }
        let now = self.clock.now();
        let mut looked = self.looked.lock().expect("nothing panics under this lock");
        if now.duration_since(*looked) < LOOK_AGAIN {
            return false;
        }
        *looked = now;
        true
    }

    /// Looks at the files, takes over what changed, and logs what cannot be used. Blocks.
    pub(super) fn look(&self) -> Look {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let material = match self.sources.read() {
            Ok(material) => material,
            Err(error) => return seen.kept(error),
        };
        if material == seen.material {
            if let Some(error) = seen.fault.clone() {
                return seen.kept(error);
            }
            seen.told = None;
            return Look::Same;
        }
        let built = (self.build)(&material);
        seen.material = material;
        match built {
            Ok(built) => {
                self.built.store(built);
                if let Some((tell, seconds)) = self.tell.get().zip(seen.material.expiry()) {
                    tell(seconds);
                }
                (seen.fault, seen.told) = (None, None);
                info!(files = ?self.sources, "certificates were renewed");
                Look::Renewed
            }
            Err(error) => {
                seen.fault = Some(error.clone());
                seen.kept(error)
            }
        }
    }
}

impl Seen {
    fn kept(&mut self, error: TlsError) -> Look {
        if self.told.as_ref() != Some(&error) {
            warn!("certificates changed and the ones before stay in use: {error}");
            self.told = Some(error.clone());
        }
        Look::Kept(error)
    }
}
