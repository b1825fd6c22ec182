//! What SQLite's errors mean for a read model.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::read_model::ReadModelError;

/// What was being done, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doing {
    Create,
    Open,
    Read,
    Write,
    Commit,
    Sync,
    Drop,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Commit => "commit to",
            Self::Sync => "sync",
            Self::Drop => "drop",
        }
    }
}

/// Sorts an error of SQLite by what the operator has to know.
pub(super) fn fault(path: &Path, doing: Doing, error: rusqlite::Error) -> ReadModelError {
    let model = path.into();
    let message = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ReadModelError::Full { model, message },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            ReadModelError::NotWritable { model, message }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ReadModelError::Locked { model }
        }
        Some(ErrorCode::DatabaseCorrupt) => ReadModelError::Malformed { model, message },
        Some(ErrorCode::NotADatabase) => ReadModelError::NotADatabase { model },
        _ => ReadModelError::Storage {
            model,
            doing: doing.verb(),
            source: error.into(),
        },
    }
}

/// An error of the file system around the read model.
pub(super) fn io_fault(path: &Path, doing: Doing, error: std::io::Error) -> ReadModelError {
    use std::io::ErrorKind;
    let model = path.into();
    let message = error.to_string();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ReadModelError::Full { model, message }
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory => {
            ReadModelError::NotWritable { model, message }
        }
        _ => ReadModelError::Storage {
            model,
            doing: doing.verb(),
            source: error.into(),
        },
    }
}
