//! Files as a source: folders of manifests, read once or watched.
//!
//! Promises: one changed file among ten thousand costs that file; what is broken keeps its last good version; the outcome
//! depends on what the files say, not on the order in which they were written.

mod ledger;
mod listing;
mod notices;
mod pending;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io::{self, Read as _},
    ops::Bound,
    os::unix::fs::OpenOptionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::xxh3_128;

pub use watch::watch;

use self::{
    ledger::Ledger,
    listing::{Listing, Observer, Stamp, is_hidden, is_manifest},
};
use super::{
    Batch, Problem,
    manifest::{self, Manifest},
};
use crate::model::ObjectKey;

/// A larger file is refused: it is no manifest that a person wrote or a tool should.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file written this recently may be half-written, or written once more within one step of the clock.
const RECENT: Duration = Duration::from_millis(50);

/// Files and folders of manifests, with what they said when last looked at.
#[derive(Debug)]
pub struct Files {
    roots: Vec<PathBuf>,
    known: BTreeMap<Arc<Path>, Known>,
    ledger: Ledger,
    /// Only files and folders that have problems are in here.
    problems: BTreeMap<Arc<Path>, Vec<Problem>>,
}

/// A file as it was when last read.
#[derive(Debug)]
struct Known {
    /// `None` when the file was so young that the clock may hide a further change.
    stamp: Option<Stamp>,
    hash: u128,
}

impl Known {
    /// Whatever is read next is another content.
    const UNREAD: Self = Self { stamp: None, hash: 0 };
}

/// What reading a file gave.
struct Look {
    stamp: Option<Stamp>,
    content: Content,
}

enum Content {
    Same,
    Gone,
    Unreadable(String),
    Read { hash: u128, manifest: Manifest },
}

/// How to take a file that looks half-written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// It is judged as it is.
    None,
    /// If it is young it is left as it was, and looked at again.
    Young,
}

/// What an update did.
#[derive(Debug)]
struct Outcome {
    batch: Batch,
    /// Whether the list of problems is another one.
    news: bool,
    /// Files to look at again soon.
    again: Vec<PathBuf>,
}

impl Files {
    /// Manifests at these paths: files, and folders with everything below. Nothing is read yet.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        // `./conf/` and `conf` are one folder; what a path says otherwise is kept, because problems show it.
        let paths = paths.into_iter().map(|path| path.into().components().collect::<PathBuf>());
        let mut roots: Vec<PathBuf> = paths.collect();
        roots.sort();
        roots.dedup();
        Self { roots, known: BTreeMap::new(), ledger: Ledger::default(), problems: BTreeMap::new() }
    }

    /// Looks at everything. A file that has not changed since it was read costs a stat.
    pub fn scan(&mut self) -> Batch {
        let roots = self.roots.clone();
        self.update(&roots, Patience::None, &mut ()).batch
    }

    /// Looks at these paths again, and at nothing else. A path that is gone takes with it what was below.
    pub fn refresh(&mut self, paths: &[PathBuf]) -> Batch {
        self.update(paths, Patience::None, &mut ()).batch
    }

    /// Where the definition of an object that is in force stands: file and line.
    pub fn place(&self, key: &ObjectKey) -> Option<(&Path, usize)> {
        self.ledger.place(key)
    }

    fn update(&mut self, paths: &[PathBuf], patience: Patience, observer: &mut dyn Observer) -> Outcome {
        let seen = Instant::now();
        let (mut listing, mut scopes) = (Listing::default(), BTreeSet::new());
        for path in paths.iter().filter_map(|path| self.relevant(path)) {
            listing.add(&path, self.roots.contains(&path), observer);
            scopes.insert(path);
        }
        let mut news = false;
        for scope in &scopes {
            // Problems of folders are found by walking; those of files stay until the file is read again.
            let stale = below(&self.problems, scope).filter(|path| !self.known.contains_key(*path));
            let stale: Vec<_> = stale.cloned().collect();
            for path in stale {
                news |= self.problems.remove(&path).is_some();
            }
            let unknown = |path: &Path| listing.unknown.iter().any(|(unknown, _)| path.starts_with(unknown));
            let gone =
                below(&self.known, scope).filter(|path| !listing.files.contains_key(*path) && !unknown(path));
            for path in gone.cloned().collect::<Vec<_>>() {
                self.forget(&path);
                news |= self.problems.remove(&path).is_some();
            }
        }
        for (path, message) in &listing.unknown {
            let path: Arc<Path> = path.as_path().into();
            if let Some(known) = self.known.get_mut(&path) {
                *known = Known::UNREAD;
            }
            news |= self.set_problems(&path, vec![Problem::of_file(&path, message.as_str())]);
        }
        // A path that was named by an event is read whatever its stamp says.
        let due: Vec<(Arc<Path>, Option<u128>)> = listing
            .files
            .iter()
            .filter(|(path, stamp)| {
                let known = self.known.get(*path).and_then(|known| known.stamp);
                known != Some(**stamp) || scopes.contains(&***path)
            })
            .map(|(path, _)| (path.clone(), self.known.get(path).map(|known| known.hash)))
            .collect();
        let mut again = Vec::new();
        for (path, look) in look_at_all(&due) {
            news |= self.take(&path, look, patience, &mut again);
        }
        let (changes, other_duplicates) = self.ledger.settle();
        news |= other_duplicates;
        let problems = self.all_problems();
        Outcome { batch: Batch { changes, problems, seen }, news, again }
    }

    /// The path to look at for an event on `path`; `None` when it is none of ours.
    fn relevant(&self, path: &Path) -> Option<PathBuf> {
        let path: PathBuf = path.components().collect();
        if self.roots.contains(&path) || self.known.contains_key(&*path) {
            return Some(path);
        }
        let root = self.roots.iter().find(|root| path.starts_with(root))?;
        let hidden = path.ancestors().take_while(|above| above != root).any(is_hidden);
        // A folder has any name; a file that is no manifest is passed over without reading it.
        (!hidden && (is_manifest(&path) || !path.is_file())).then_some(path)
    }

    fn take(&mut self, path: &Arc<Path>, look: Look, patience: Patience, again: &mut Vec<PathBuf>) -> bool {
        let young = look.stamp.is_some_and(|stamp| stamp.age() < RECENT);
        let stamp = look.stamp.filter(|_| !young);
        match look.content {
            Content::Same => {
                if let Some(known) = self.known.get_mut(path) {
                    known.stamp = stamp;
                }
                false
            }
            Content::Gone => {
                let named = self.roots.iter().any(|root| **root == **path);
                if named {
                    return self.set_problems(path, vec![Problem::of_file(path, "does not exist")]);
                }
                self.forget(path);
                self.problems.remove(path).is_some()
            }
            Content::Unreadable(message) => {
                self.known.insert(path.clone(), Known::UNREAD);
                self.set_problems(path, vec![Problem::of_file(path, message)])
            }
            Content::Read { hash, manifest } => {
                let broken = manifest.problems.iter().any(Problem::is_error);
                let shorter = manifest.definitions.len() < self.ledger.defined_by(path);
                if patience == Patience::Young && young && (broken || shorter) {
                    again.push(path.to_path_buf());
                    return false;
                }
                self.known.insert(path.clone(), Known { stamp, hash });
                self.ledger.replace(path, manifest.definitions, manifest.unidentified);
                self.set_problems(path, manifest.problems)
            }
        }
    }

    fn forget(&mut self, path: &Path) {
        self.known.remove(path);
        self.ledger.remove(path);
    }

    /// Whether the problems of this file are others than before.
    fn set_problems(&mut self, path: &Arc<Path>, problems: Vec<Problem>) -> bool {
        if problems.is_empty() {
            return self.problems.remove(path).is_some();
        }
        let same = self.problems.get(path) == Some(&problems);
        self.problems.insert(path.clone(), problems);
        !same
    }

    fn all_problems(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> =
            self.problems.values().flatten().chain(self.ledger.problems()).cloned().collect();
        all.sort();
        all
    }
}

/// The paths at and below a path.
fn below<'a, V>(map: &'a BTreeMap<Arc<Path>, V>, scope: &'a Path) -> impl Iterator<Item = &'a Arc<Path>> {
    let from = map.range::<Path, _>((Bound::Included(scope), Bound::Unbounded));
    from.map(|(path, _)| path).take_while(move |path| path.starts_with(scope))
}

/// Reads files, on all processors when there are many.
fn look_at_all(due: &[(Arc<Path>, Option<u128>)]) -> Vec<(Arc<Path>, Look)> {
    /// Fewer files than this are read sooner than a thread starts.
    const WORTH_A_THREAD: usize = 64;
    let one = |(path, hash): &(Arc<Path>, Option<u128>)| (path.clone(), look_at(path, *hash));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(due.len() / WORTH_A_THREAD);
    if threads <= 1 {
        return due.iter().map(one).collect();
    }
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(due.len())));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(chunk) = due.chunks(WORTH_A_THREAD).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut looks: Vec<_> = chunk.iter().map(one).collect();
                    found.lock().unwrap_or_else(PoisonError::into_inner).append(&mut looks);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn look_at(path: &Arc<Path>, known: Option<u128>) -> Look {
    let (stamp, bytes) = match read(path) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Look { stamp: None, content: Content::Gone };
        }
        Err(error) => {
            return Look { stamp: None, content: Content::Unreadable(format!("cannot be read: {error}")) };
        }
    };
    let stamp = Some(stamp);
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("is larger than {} MiB; split it", MAX_FILE_BYTES >> 20);
        return Look { stamp, content: Content::Unreadable(message) };
    }
    let hash = xxh3_128(&bytes);
    if known == Some(hash) {
        return Look { stamp, content: Content::Same };
    }
    // A defect of ours must not take down what works: it is a problem of this file like any other.
    let content = match catch_unwind(AssertUnwindSafe(|| manifest::read(path, &bytes))) {
        Ok(manifest) => Content::Read { hash, manifest },
        Err(_) => {
            Content::Unreadable("made Portolan fail: this is a defect; please report it with the file".into())
        }
    };
    Look { stamp, content }
}

/// Reads a file, with its stamp from before: what is written while we read has another one.
fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    // A pipe in the place of the file must not hold us up.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or(0));
    (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((Stamp::of(&metadata), bytes))
}
