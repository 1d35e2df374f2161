//! One process per folder: an advisory lock (flock) that ends with its process, and says whose it is.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::files::{FileError, read_json};
use super::process::ProcessId;

/// A lock that is held until dropped. The file stays, so that two processes never lock two different files.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("already running{} (lock {})", holder.map(|pid| format!(" as pid {pid}")).unwrap_or_default(), path.display())]
    Held {
        /// The lock's file.
        path: PathBuf,
        /// The process that wrote its id there, where it can be read.
        holder: Option<u32>,
    },
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Lock {
    /// Takes the lock and writes this process' id into the file; never waits.
    ///
    /// # Errors
    /// Where another process holds it, or the file cannot be written.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(FileError::on("open", path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = read_json::<ProcessId>(path).ok().flatten().map(|id| id.pid);
                return Err(LockError::Held { path: path.to_owned(), holder });
            }
            Err(error) => return Err(FileError::on("lock", path)(error.into()).into()),
        }
        let written = (|| {
            let text = serde_json::to_vec(&ProcessId::current()?)?;
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&text)
        })();
        written.map_err(FileError::on("write", path))?;
        Ok(Self { _file: file })
    }

    /// The running process that last took the lock, if any.
    pub fn holder(path: &Path) -> Option<ProcessId> {
        read_json::<ProcessId>(path).ok().flatten().filter(ProcessId::is_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("already running as pid {}", std::process::id())), "{error}");
        assert_eq!(Lock::holder(&path).unwrap().pid, std::process::id());
        drop(first);
        Lock::take(&path).unwrap();
    }
}
