//! The lease: the right to work on a projection, all its versions, promote and rollback included.
//! On SQLite it is a lock of the operating system on a file beside the log. It needs no heartbeat,
//! and ends with the process that holds it, however that process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The lease of one projection, held until dropped.
#[derive(Debug)]
pub struct Lease {
    projection: String,
    /// The lock is the open file's.
    _file: File,
}

/// A lease that could not even be asked for.
#[derive(Debug, thiserror::Error)]
#[error("the lease file {path} can't be locked")]
pub struct LeaseError {
    path: PathBuf,
    source: std::io::Error,
}

impl Lease {
    /// Takes the lease, or returns none while another process (or another part of this one) holds it.
    pub fn try_take(folder: &Path, projection: &str) -> Result<Option<Self>, LeaseError> {
        let folder = folder.join(projection);
        let path = folder.join("lease.lock");
        let failed = |source| LeaseError {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self {
                projection: projection.to_owned(),
                _file: file,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub fn projection(&self) -> &str {
        &self.projection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Lease::try_take(folder.path(), "articles").expect("lockable");
        assert!(first.is_some());
        assert!(
            Lease::try_take(folder.path(), "articles")
                .expect("lockable")
                .is_none()
        );
        assert!(
            Lease::try_take(folder.path(), "authors")
                .expect("lockable")
                .is_some()
        );
        drop(first);
        assert!(
            Lease::try_take(folder.path(), "articles")
                .expect("lockable")
                .is_some()
        );
    }
}
