//! Which files are manifests, and whether one has changed, at the price of a stat.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Folders nest this deep at most; a circle of symbolic links ends here at the latest.
const MAX_DEPTH: usize = 32;

/// A file whose content may have changed has another stamp, unless it was written again within the clock's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that is there.
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file was written; for ever when its time makes no sense.
    pub(super) fn age(&self) -> Duration {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.modified.0), u32::try_from(self.modified.1))
        else {
            return Duration::MAX;
        };
        let written = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(written).unwrap_or(Duration::MAX)
    }
}

/// What was found below some paths.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Manifests.
    pub(super) files: BTreeMap<Arc<Path>, Stamp>,
    /// Files and folders that could not be looked at, and why. What is below them is unknown, not gone.
    pub(super) unknown: Vec<(PathBuf, String)>,
}

/// What a walk passes on its way: whoever watches for change starts before the content is looked at.
pub(super) trait Observer {
    /// A folder, or a symbolic link to a file.
    fn passes(&mut self, path: &Path);
}

impl Observer for () {
    fn passes(&mut self, _: &Path) {}
}

impl Listing {
    /// Looks at a path: a file, or a folder with everything below. `named` paths count whatever they are called, and must exist.
    pub(super) fn add(&mut self, path: &Path, named: bool, observer: &mut dyn Observer) {
        self.walk(path, named, &mut Vec::new(), observer);
    }

    fn walk(&mut self, path: &Path, named: bool, above: &mut Vec<(u64, u64)>, observer: &mut dyn Observer) {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing inside a folder is nobody's manifest yet; a name on the command line is a promise.
                if named {
                    self.unknown.push((path.to_owned(), "does not exist".into()));
                }
                return;
            }
            Err(error) if named || is_manifest(path) => {
                return self.unknown.push((path.to_owned(), format!("cannot be looked at: {error}")));
            }
            Err(_) => return,
        };
        if metadata.is_file() {
            if named || is_manifest(path) {
                if fs::symlink_metadata(path).is_ok_and(|own| own.is_symlink()) {
                    observer.passes(path);
                }
                self.files.insert(path.into(), Stamp::of(&metadata));
            }
            return;
        }
        if !metadata.is_dir() {
            if named || is_manifest(path) {
                self.unknown.push((path.to_owned(), "is neither a file nor a folder".into()));
            }
            return;
        }
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) || above.len() >= MAX_DEPTH {
            let message = format!("is not followed: links go round, or more than {MAX_DEPTH} folders deep");
            return self.unknown.push((path.to_owned(), message));
        }
        observer.passes(path);
        let entries = match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => return,
            Err(error) => return self.unknown.push((path.to_owned(), format!("cannot be listed: {error}"))),
        };
        above.push(identity);
        for entry in entries {
            let child = entry.path();
            // What is neither a manifest by name nor a folder costs no stat; the type comes with the entry.
            let file = entry.file_type().is_ok_and(|type_| type_.is_file());
            if is_hidden(&child) || (file && !is_manifest(&child)) {
                continue;
            }
            self.walk(&child, false, above, observer);
        }
        above.pop();
    }
}

/// Whether a name inside a folder is passed over: hidden files, editors' locks, `..data` of a mounted ConfigMap.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a name inside a folder is that of a manifest.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
}
