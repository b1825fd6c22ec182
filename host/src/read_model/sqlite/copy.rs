//! A copy of a read model as it is at one moment, beside whoever writes it.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::fault::{Doing, fault, io_fault};
use super::{modes, open, provenance};
use crate::read_model::{Checkpoint, ReadModelError};
use crate::sqlite_format::DatabasePages;

/// Copies the read model into a file, durably, in the place of one that is there, and returns where it
/// stood.
pub(super) fn copy(path: &Path, to: &Path) -> Result<Checkpoint, ReadModelError> {
    let io = |error| io_fault(to, Doing::Create, error);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    open::remove_database(to).map_err(io)?;
    while !copy_once(path, to)? {
        open::remove_database(to).map_err(io)?;
    }
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(io)?;
    let copied = open::snapshot(to)?;
    Ok(provenance::read(&copied, to)?.status.checkpoint)
}

/// False: what was copied may be a mixture, as another file with a WAL took the place of the one that was
/// open.
fn copy_once(path: &Path, to: &Path) -> Result<bool, ReadModelError> {
    let text = to.to_string_lossy();
    let from = open::connect_read_only(path)?;
    from.execute("VACUUM INTO ?1", [&*text])
        .map_err(|error| fault(to, Doing::Create, error))?;
    if open::has_moved(&from, path)? && open::has_journal(path) {
        return Ok(false);
    }
    // SQLite makes the copy without a WAL. Of a build that is not ready, the WAL is what tells that rows
    // were changed in place, so that they are in no order in which they could be laid out anew.
    let copied = open::connect(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let is_ready = provenance::read(&copied, to)?.status.ready;
    let was_in_place = has_wal(&from).map_err(|error| fault(path, Doing::Read, error))?;
    let settled = || {
        if was_in_place && !is_ready {
            modes::wal(&copied)?;
        }
        // The copy is synced, whatever ran on when it was made.
        open::note_unsynced(&copied, None)
    };
    settled().map_err(|error| fault(to, Doing::Create, error))?;
    copied
        .close()
        .map_err(|(_, error)| fault(to, Doing::Create, error))?;
    Ok(true)
}

/// Whether its pages say that the file has a WAL, also where that can't be used.
fn has_wal(connection: &Connection) -> rusqlite::Result<bool> {
    if modes::is_changed_in_place(connection)? || !DatabasePages::are_readable(connection)? {
        return modes::is_changed_in_place(connection);
    }
    let version = "SELECT substr(data, 19, 1) = x'02' FROM sqlite_dbpage WHERE pgno = 1";
    connection.query_row(version, [], |row| row.get(0))
}
