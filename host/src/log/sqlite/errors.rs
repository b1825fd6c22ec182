//! SQLite's result codes, turned into what a person can act on.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::LogError;

/// What a failed step means for the log at `path`.
pub(super) fn explain(path: &Path, doing: &'static str, error: rusqlite::Error) -> LogError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LogError::Full {
            path,
            source: error.into(),
        },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            LogError::ReadOnly {
                path,
                source: error.into(),
            }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LogError::Busy {
            path,
            waited_s: LOG_BUSY_TIMEOUT.as_secs(),
        },
        Some(ErrorCode::DatabaseCorrupt) => LogError::Corrupt {
            path,
            source: error.into(),
        },
        Some(ErrorCode::NotADatabase) => LogError::NotALog {
            path,
            problem: "it is not an SQLite database".to_owned(),
        },
        _ => LogError::Storage {
            path,
            doing,
            source: error.into(),
        },
    }
}
