//! SQLite's result codes, turned into what a person can act on.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::LogError;

/// What a failed step means for the log at `path`.
pub(super) fn explain(path: &Path, doing: &'static str, error: rusqlite::Error) -> LogError {
    let log = path.into();
    // SQLite reports a quota or a limit on file sizes as a failed write.
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    if matches!(
        extended,
        ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_TRUNCATE | ffi::SQLITE_IOERR_SHMSIZE
    ) {
        return LogError::Full {
            log,
            source: error.into(),
        };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LogError::Full {
            log,
            source: error.into(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            LogError::ReadOnly {
                log,
                source: error.into(),
            }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LogError::Busy {
            log,
            waited_s: LOG_BUSY_TIMEOUT.as_secs(),
        },
        Some(ErrorCode::DatabaseCorrupt) => LogError::Corrupt {
            log,
            source: error.into(),
        },
        Some(ErrorCode::NotADatabase) => LogError::NotALog {
            log,
            problem: "it is not an SQLite database".to_owned(),
        },
        _ => LogError::Storage {
            log,
            doing,
            source: error.into(),
        },
    }
}
