//! A copy of the log, and of the catalog in it, as they are at one moment.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::errors::explain;
use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::LogError;

/// Copies the log into a file that must not exist, durably.
pub(super) fn copy(path: &Path, to: &Path) -> Result<(), LogError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let text = to.to_string_lossy();
    Connection::open_with_flags(path, flags)
        .and_then(|connection| {
            connection.busy_timeout(LOG_BUSY_TIMEOUT)?;
            connection.execute("VACUUM INTO ?1", [&*text])
        })
        .map_err(|error| explain(to, "copying the log", error))?;
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| LogError::Storage {
        log: to.into(),
        doing: "syncing the copy",
        source: error.into(),
    })
}
