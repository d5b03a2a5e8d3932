//! What a loss of power leaves of the files that this room writes, for the tests of this room and
//! those above: every operation is recorded, and a crash after any of them keeps as much or as
//! little of what was not synced as it likes. `wal/tests/sim.rs` does the same for the one flat
//! directory of the log's own trait; here there are several directories, links and replacements.
//!
//! Paths begin with [`DATA`] or [`BUCKET`], which are always there. Objects are recorded as the
//! steps that `object_store` 0.14 takes for a file store with fsync: a staged file written and
//! synced, linked or renamed, the directory synced; one that was missing is made and synced first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::clock::Random;

/// The data directory.
pub(crate) const DATA: &str = "data";
/// The directory of the bucket.
pub(crate) const BUCKET: &str = "bucket";

const SECTOR: usize = 512;

/// The files of a machine by path.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A recorded operation.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    MakeDir(PathBuf),
    /// A file is made, or one that is there is emptied, and written.
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

/// What a loss of power does with operations that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crash {
    /// They are gone.
    Lost,
    /// They are there.
    Kept,
    /// By chance: of each directory a beginning of its changes, of each file all, nothing or some
    /// of its sectors.
    Torn(u64),
}

/// Records what one or several lives of a machine write.
#[derive(Debug)]
pub(crate) struct Journal {
    base: Files,
    state: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    ops: Vec<Op>,
    /// Directories of the bucket.
    dirs: BTreeSet<PathBuf>,
    /// Directories of the bucket that this life has put something into.
    used: BTreeSet<PathBuf>,
}

impl Journal {
    /// A machine that is found with these files.
    pub(crate) fn over(base: Files) -> Arc<Self> {
        let parents = base.keys().filter_map(|path| path.parent()).map(Path::to_owned);
        let state = Recorded { dirs: parents.collect(), ..Recorded::default() };
        Arc::new(Self { base, state: Mutex::new(state) })
    }

    /// The machine after its process was killed after the first `count` operations. The system has
    /// all of them, and may yet lose those that were not synced.
    pub(crate) fn killed(&self, count: usize) -> Arc<Self> {
        let after = Self::over(self.base.clone());
        let mut state = after.state.lock().unwrap();
        for op in &self.state.lock().unwrap().ops[..count] {
            if let Op::MakeDir(dir) = op {
                state.dirs.insert(dir.clone());
            }
            state.ops.push(op.clone());
        }
        drop(state);
        after
    }

    /// How many operations there were.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().unwrap().ops.len()
    }

    pub(crate) fn note(&self, op: Op) {
        self.state.lock().unwrap().ops.push(op);
    }

    /// An object is put.
    pub(crate) fn put(&self, name: &str, body: &[u8], create: bool) {
        let mut state = self.state.lock().unwrap();
        let Recorded { ops, dirs, used } = &mut *state;
        let path = Path::new(BUCKET).join(name);
        let dir = path.parent().unwrap().to_owned();
        let above: Vec<_> = dir.ancestors().skip(1).map(Path::to_owned).collect();
        let above = &above[..above.len() - 1];
        let mut made: Vec<_> = dir.ancestors().filter(|dir| *dir != Path::new("")).collect();
        made.retain(|dir| *dir != Path::new(BUCKET) && dirs.insert((*dir).to_owned()));
        ops.extend(made.iter().rev().map(|dir| Op::MakeDir((*dir).to_owned())));
        if !made.is_empty() {
            ops.push(Op::SyncDir(dir.clone()));
            ops.extend(made.iter().map(|dir| Op::SyncDir(dir.parent().unwrap().to_owned())));
        }
        let staged = PathBuf::from(format!("{}#1", path.display()));
        ops.push(Op::Write(staged.clone(), body.to_vec()));
        ops.push(Op::Sync(staged.clone()));
        if create {
            ops.push(Op::Link(staged.clone(), path));
            ops.push(Op::SyncDir(dir.clone()));
            ops.push(Op::Remove(staged));
        } else {
            ops.push(Op::Rename(staged, path));
            ops.push(Op::SyncDir(dir.clone()));
        }
        // What the store adds to that: see `Store::sync_above`.
        if used.insert(dir) {
            ops.extend(above.iter().cloned().map(Op::SyncDir));
        }
    }

    /// The machine before the first operation; apply operations to it, and crash it.
    pub(crate) fn before(&self) -> Image {
        let mut image = Image::default();
        for (id, (path, content)) in self.base.iter().enumerate() {
            image.contents.push(Content { synced: content.clone(), latest: content.clone() });
            image.live.insert(path.clone(), Entry::File(id));
            for dir in path.ancestors().skip(1) {
                image.live.insert(dir.to_owned(), Entry::Dir);
            }
        }
        image.durable.clone_from(&image.live);
        image
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.state.lock().unwrap().ops.clone()
    }

    /// The files as the system shows them now.
    pub(crate) fn files(&self) -> Files {
        let mut image = self.before();
        self.ops().iter().for_each(|op| image.apply(op));
        image.crashed(Crash::Kept)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    synced: Vec<u8>,
    latest: Vec<u8>,
}

/// Names that change together.
type Change = Vec<(PathBuf, Option<Entry>)>;

/// A machine's files as their durable part and what is pending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    live: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    pending: BTreeMap<PathBuf, Vec<Change>>,
    contents: Vec<Content>,
}

impl Image {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDir(path) => self.change(path, vec![(path.clone(), Some(Entry::Dir))]),
            Op::Write(path, bytes) => {
                let id = if let Some(Entry::File(id)) = self.live.get(path) {
                    *id
                } else {
                    self.contents.push(Content::default());
                    let id = self.contents.len() - 1;
                    self.change(path, vec![(path.clone(), Some(Entry::File(id)))]);
                    id
                };
                self.contents[id].latest.clone_from(bytes);
            }
            Op::Sync(path) => {
                let Entry::File(id) = self.live[path] else { panic!("{path:?}") };
                let content = &mut self.contents[id];
                content.synced.clone_from(&content.latest);
            }
            Op::Link(from, to) => self.change(to, vec![(to.clone(), Some(self.live[from]))]),
            Op::Rename(from, to) => {
                let moved = vec![(to.clone(), Some(self.live[from])), (from.clone(), None)];
                self.change(to, moved);
            }
            Op::Remove(path) => self.change(path, vec![(path.clone(), None)]),
            Op::SyncDir(dir) => {
                for change in self.pending.remove(dir).unwrap_or_default() {
                    change_names(&mut self.durable, &change);
                }
            }
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        change_names(&mut self.live, &change);
        self.pending.entry(path.parent().unwrap().to_owned()).or_default().push(change);
    }

    /// The files that are found after a loss of power that comes now.
    pub(crate) fn crashed(&self, crash: Crash) -> Files {
        let random = Random::seeded(if let Crash::Torn(seed) = crash { seed } else { 0 });
        let mut names = self.durable.clone();
        for changes in self.pending.values() {
            let kept = match crash {
                Crash::Lost => 0,
                Crash::Kept => changes.len(),
                Crash::Torn(_) => random.below(changes.len() as u64 + 1) as usize,
            };
            changes[..kept].iter().for_each(|change| change_names(&mut names, change));
        }
        let contents: Vec<_> = self.contents.iter().map(|it| it.crashed(crash, &random)).collect();
        let is_there = |path: &Path| {
            let mut above = path.ancestors().skip(1).filter(|dir| dir.parent().is_some());
            above.all(|dir| is_root(dir) || names.get(dir) == Some(&Entry::Dir))
        };
        let file = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::File(id) if is_there(path) => Some((path.clone(), contents[*id].clone())),
            _ => None,
        };
        names.iter().filter_map(file).collect()
    }
}

impl Content {
    fn crashed(&self, crash: Crash, random: &Random) -> Vec<u8> {
        let choice = match crash {
            Crash::Lost => 0,
            Crash::Kept => 1,
            Crash::Torn(_) => random.below(3),
        };
        if choice == 0 || self.latest == self.synced {
            return self.synced.clone();
        }
        let mut found = self.latest.clone();
        for sector in found.chunks_mut(SECTOR).filter(|_| choice == 2 && random.below(2) == 0) {
            sector.fill(0);
        }
        found
    }
}

fn is_root(dir: &Path) -> bool {
    dir == Path::new(DATA) || dir == Path::new(BUCKET)
}

fn change_names(names: &mut BTreeMap<PathBuf, Entry>, change: &Change) {
    for (path, entry) in change {
        match entry {
            Some(entry) => names.insert(path.clone(), *entry),
            None => names.remove(path),
        };
    }
}
