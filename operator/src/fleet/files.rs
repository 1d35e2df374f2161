//! Files that other processes read while we write them, and that nobody else may read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried: a verb, such as `write`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// A closure for `map_err`.
    pub(super) fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Replaces a file in one step, readable by its owner alone.
///
/// # Errors
/// Names the file and what the system said; the old content is then still in place.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("tmp.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".");
    temporary.push(unique);
    let temporary = PathBuf::from(temporary);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        // Best effort: the error that counts is already in hand.
        fs::remove_file(&temporary).ok();
        FileError { action: "write", path: path.to_owned(), source }
    })
}

/// [`write_private`] of a value as JSON.
///
/// # Errors
/// As there.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(io::Error::other).map_err(FileError::on("write", path))?;
    text.push(b'\n');
    write_private(path, &text)
}

/// A value from a JSON file; nothing where there is no such file.
///
/// # Errors
/// Where the file cannot be read, or holds something else.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::other)
            .map_err(FileError::on("read", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::on("read", path)(error)),
    }
}

/// Makes a folder (parents too) that only we can enter, or checks that the one that exists is such.
///
/// # Errors
/// Where it cannot be made, is no folder (a symbolic link counts as none), belongs to another user, or others may write there.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::on("make", path))?;
    let metadata = fs::symlink_metadata(path).map_err(FileError::on("use", path))?;
    let refuse = |reason: &str| Err(FileError::on("use", path)(io::Error::other(reason.to_owned())));
    if !metadata.is_dir() {
        return refuse("it is not a folder");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("other users may write there; make it private with chmod 700");
    }
    Ok(())
}

/// Listens on a Unix socket that only we may use, in a private folder: nobody slips in before its permissions are set.
///
/// # Errors
/// Where it cannot be made.
pub fn listen_private(path: &Path) -> Result<tokio::net::UnixListener, FileError> {
    remove(path)?;
    let listener = tokio::net::UnixListener::bind(path).map_err(FileError::on("listen on", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(FileError::on("protect", path))?;
    Ok(listener)
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// Any other failure.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::on("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &[1, 2]).unwrap();
        write_json(&path, &[3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_json(&folder.path().join("none/a.json"), &0).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.contains("none/a.json"), "{error}");
    }

    #[test]
    fn open_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        private_folder(&path).unwrap();
        private_folder(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_folder(&path).unwrap_err().to_string().contains("chmod 700"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("a"), &link).unwrap();
        assert!(private_folder(&link).is_err());
    }
}
