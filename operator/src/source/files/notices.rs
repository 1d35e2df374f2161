//! Which folders and links the system is asked to tell about, and what its events mean.
//!
//! Each folder is watched by itself, before it is listed, so that nothing falls between looking and watching. The folder
//! above a root is watched too: a root may be replaced as a whole, by a rename or by a symbolic link that is swapped, as
//! a mounted ConfigMap does with `..data`.

use std::{
    collections::HashMap,
    fs,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use super::{
    listing::{Observer, is_hidden},
    pending::{Haste, Pending},
};

/// How often everything is looked at where the system does not tell.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// Symbolic links followed on the way to a root (Linux follows 40 too).
const MAX_LINKS: usize = 40;

/// Watches of the system, and what they stand for.
pub(super) struct Notices {
    watcher: Option<RecommendedWatcher>,
    names: Arc<Mutex<Names>>,
    deaf: bool,
    /// Whether that was logged.
    complained: bool,
}

/// The system speaks of absolute paths; files are known by the name that the user gave.
#[derive(Debug, Default)]
struct Names {
    watched: HashMap<PathBuf, PathBuf>,
    /// What makes the way to a root: when one of these changes, the root is another one.
    guards: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Notices {
    /// Starts a watcher whose events go to `pending`.
    pub(super) fn new(pending: Arc<Pending>) -> Self {
        let names = Arc::new(Mutex::new(Names::default()));
        let heard = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            hear(&lock(&heard), &pending, event, Instant::now());
        });
        match watcher {
            Ok(watcher) => Self { watcher: Some(watcher), names, deaf: false, complained: false },
            Err(error) => {
                complain(&error);
                Self::none()
            }
        }
    }

    /// Nobody tells of anything.
    pub(super) fn none() -> Self {
        Self { watcher: None, names: Arc::default(), deaf: true, complained: true }
    }

    /// Whether changes may happen that the system does not tell.
    pub(super) fn deaf(&self) -> bool {
        self.deaf
    }

    /// Before everything is walked again, and so every watch set again.
    pub(super) fn renew(&mut self) {
        self.complained &= self.deaf;
        self.deaf = self.watcher.is_none();
    }

    /// Watches the way to a root.
    pub(super) fn guard(&mut self, root: &Path) {
        let Ok(absolute) = std::path::absolute(root) else { return };
        let mut ways = vec![absolute];
        for _ in 0..MAX_LINKS {
            let Some(way) = ways.pop() else { return };
            let mut here = PathBuf::new();
            let mut steps = way.components();
            while let Some(step) = steps.next() {
                let above = here.clone();
                here.push(step);
                if matches!(step, Component::RootDir) {
                    continue;
                }
                let own = fs::symlink_metadata(&here);
                let link = own.as_ref().is_ok_and(fs::Metadata::is_symlink);
                if link || own.is_err() || steps.as_path().as_os_str().is_empty() {
                    lock(&self.names).guard(&here, root);
                    self.listen(&above);
                }
                if link && let Ok(target) = fs::read_link(&here) {
                    ways.push(above.join(target).join(steps.as_path()));
                }
                if link || own.is_err() {
                    break;
                }
            }
        }
    }

    fn listen(&mut self, absolute: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        match watcher.watch(absolute, RecursiveMode::NonRecursive) {
            Ok(()) => {}
            // Gone in the meantime: the folder above tells.
            Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
            Err(error) => {
                if !self.complained {
                    complain(&error);
                }
                self.complained = true;
                self.deaf = true;
            }
        }
    }
}

impl Observer for Notices {
    fn passes(&mut self, path: &Path) {
        if let Ok(absolute) = std::path::absolute(path) {
            lock(&self.names).watched.insert(absolute.clone(), path.to_owned());
            self.listen(&absolute);
        }
    }
}

impl Names {
    fn guard(&mut self, way: &Path, root: &Path) {
        let roots = self.guards.entry(way.to_owned()).or_default();
        if !roots.iter().any(|other| other == root) {
            roots.push(root.to_owned());
        }
    }

    /// What is to be looked at for an event on a path.
    fn meant_by(&self, absolute: &Path) -> Vec<PathBuf> {
        let mut meant: Vec<PathBuf> = self.guards.get(absolute).cloned().unwrap_or_default();
        if let Some(own) = self.watched.get(absolute) {
            meant.push(own.clone());
        } else if let (Some(above), Some(name)) =
            (absolute.parent().and_then(|above| self.watched.get(above)), absolute.file_name())
        {
            if !is_hidden(absolute) {
                meant.push(above.join(name));
            } else if name.as_encoded_bytes().starts_with(b"..") {
                // `..data` of a mounted ConfigMap: the links beside it lead elsewhere now.
                meant.push(above.clone());
            }
        }
        meant
    }
}

fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn complain(error: &notify::Error) {
    tracing::warn!(
        %error,
        "the system does not tell of changes to files; looking every second instead \
         (on Linux, raise fs.inotify.max_user_watches or fs.inotify.max_user_instances)"
    );
}

fn hear(names: &Names, pending: &Pending, event: notify::Result<Event>, now: Instant) {
    let Ok(event) = event else { return pending.note_everything(Duration::ZERO, now) };
    if event.need_rescan() {
        return pending.note_everything(Duration::ZERO, now);
    }
    let Some(haste) = haste(event.kind) else { return };
    for path in event.paths.iter().flat_map(|path| names.meant_by(path)) {
        pending.note(path, haste, now);
    }
}

fn haste(kind: EventKind) -> Option<Haste> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::Folder)
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Haste::Now),
        EventKind::Modify(ModifyKind::Data(_)) => Some(Haste::WhenClosed),
        // Says again what From and To have said.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        // Deletions, the old name of a renaming; a new file, which is written next or is a link; rights.
        _ => Some(Haste::Soon),
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, RemoveKind};

    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.watched.insert("/w/conf".into(), "conf".into());
        names.watched.insert("/w/conf/link.yaml".into(), "conf/link.yaml".into());
        names.guard(Path::new("/w/conf"), Path::new("conf"));
        names
    }

    /// What is to be looked at, and whether at once.
    fn heard(event: notify::Result<Event>) -> (Vec<PathBuf>, bool) {
        let (pending, now) = (Pending::default(), Instant::now());
        hear(&names(), &pending, event, now);
        match pending.take(now) {
            Ok(work) => (work.paths.unwrap_or_default(), true),
            Err(None) => (Vec::new(), false),
            Err(Some(_)) => {
                let work = pending.take(now + Duration::from_mins(1)).expect("something waits");
                (work.paths.unwrap_or_default(), false)
            }
        }
    }

    #[test]
    fn events_are_about_files_as_the_user_names_them() {
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let removed = EventKind::Remove(RemoveKind::File);
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        for (kind, path, expected, at_once) in [
            (closed, "/w/conf/a.yaml", &["conf/a.yaml"][..], true),
            (written, "/w/conf/a.yaml", &["conf/a.yaml"], false),
            (removed, "/w/conf/a.yaml", &["conf/a.yaml"], false),
            (renamed, "/w/conf/sub", &["conf/sub"], true),
            (closed, "/w/conf/link.yaml", &["conf/link.yaml"], true),
            (renamed, "/w/conf", &["conf"], true),
            (renamed, "/w/conf/..data", &["conf"], true),
            (opened, "/w/conf/a.yaml", &[], false),
            (closed, "/w/conf/.a.yaml.swp", &[], false),
            (closed, "/w/other/a.yaml", &[], false),
        ] {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(
                heard(Ok(Event::new(kind).add_path(path.into()))),
                (expected, at_once),
                "{kind:?} {path}"
            );
        }
    }

    #[test]
    fn lost_events_and_errors_lead_to_a_look_at_everything() {
        let everything = (Vec::new(), true);
        assert_eq!(heard(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))), everything);
        assert_eq!(heard(Err(notify::Error::generic("lost"))), everything);
    }
}
