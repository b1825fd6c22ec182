//! Dropping a read model for good.
//!
//! Unlinking the file alone would leave readers that have it open with stale rows for ever, so the
//! tables go first: their next statement fails, and they open the live read model again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::fault::{Doing, fault, io_fault};
use super::schema::quote;
use super::{open, provenance};
use crate::read_model::ReadModelError;

pub(super) fn drop_read_model(path: &Path, log_id: &str) -> Result<(), ReadModelError> {
    let dropped = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| drop_tables(&connection, path, log_id));
    match dropped {
        Err(error @ ReadModelError::Other { .. }) => {
            tracing::warn!("{error}; it is left alone");
            return Ok(());
        }
        // Gone already, by a run that did not come to its end.
        Ok(()) | Err(ReadModelError::Missing { .. }) => {}
        // Damaged: nobody can read stale rows out of it.
        Err(ReadModelError::Malformed { .. } | ReadModelError::NotADatabase { .. }) => {}
        Err(error) => return Err(error),
    }
    open::remove_database(path)
        .and_then(|()| open::remove_unfinished(path))
        .map_err(|error| io_fault(path, Doing::Drop, error))?;
    let Some(folder) = path.parent().filter(|folder| folder.is_dir()) else {
        return Ok(());
    };
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io_fault(path, Doing::Drop, error))
}

/// Removes the journals of builds that are gone. A reader that opened a build just before it was
/// dropped makes them anew.
pub(super) fn sweep(folder: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let database = ["-wal", "-shm", "-journal"]
            .iter()
            .find_map(|it| name.strip_suffix(it));
        if let Some(database) = database.filter(|it| it.starts_with("build-"))
            && !path.with_file_name(database).exists()
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

/// The files of builds in a folder of read models, which has a folder for each projection.
pub fn files_of_builds(folder: &Path) -> Result<Vec<PathBuf>, ReadModelError> {
    let entries = |folder: &Path| match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_fault(folder, Doing::Read, error)),
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
    };
    let mut files = Vec::new();
    for projection in entries(folder)? {
        if projection.is_dir() {
            files.extend(entries(&projection)?.into_iter().filter(|file| {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let is_build = name.starts_with("build-") && name.ends_with(".db");
                is_build && !file.is_symlink()
            }));
        }
    }
    Ok(files)
}

fn drop_tables(connection: &Connection, path: &Path, log_id: &str) -> Result<(), ReadModelError> {
    let dropping = |error| fault(path, Doing::Drop, error);
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(dropping)?;
    let things = things(connection).map_err(dropping)?;
    if things.is_empty() {
        return Ok(());
    }
    // The path comes from a catalog; still, what is not a read model, or not of this log, is not ours to
    // destroy.
    let stored = provenance::read(connection, path)?;
    let provenance = stored.status.provenance;
    provenance.check_log(log_id, path.into())?;
    let emptied = (|| {
        for (kind, name) in things {
            // A virtual table takes the tables it is made of with it.
            connection.execute_batch(&format!("DROP {kind} IF EXISTS {}", quote(&name)))?;
        }
        connection.execute_batch("COMMIT")
    })();
    match emptied.map_err(dropping) {
        Ok(()) => {}
        // Whoever retires a version to make room gets it, even if readers that have it open don't notice.
        Err(full @ ReadModelError::Full { .. }) => {
            tracing::warn!("{full}; programs that have it open read its old rows on");
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    // Readers that come by the file's own name, without its WAL, must not find rows either.
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    Ok(())
}

/// Views, triggers and tables, virtual tables before plain ones; retell's own table at the very end.
fn things(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare(
        "SELECT type, name FROM sqlite_schema
         WHERE type IN ('table', 'view', 'trigger') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         ORDER BY name = 'retell_read_model', type = 'table',
             coalesce(sql, '') NOT LIKE 'create virtual%', name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
