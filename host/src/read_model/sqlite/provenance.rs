//! The one-row table `retell_read_model`, by which any program can tell what it reads.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{Doing, fault};
use super::journal;
use crate::event::{Hash, Position};
use crate::read_model::{Checkpoint, Provenance, ReadModelError, ReadModelStatus, Role};

/// `time` is when the checkpoint was committed, in microseconds since the Unix epoch, UTC.
/// `unsynced_boot` names the run of the machine whose page cache may hold what the disk lacks.
pub(super) const CREATE: &str = "CREATE TABLE retell_read_model (
    projection TEXT NOT NULL,
    version TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('none', 'live', 'previous')),
    position INTEGER NOT NULL,
    time INTEGER NOT NULL,
    log_id TEXT NOT NULL,
    log_hash BLOB NOT NULL,
    module_digest TEXT NOT NULL,
    sdk TEXT NOT NULL,
    contract TEXT NOT NULL,
    build INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    events_per_s REAL NOT NULL,
    ready INTEGER NOT NULL CHECK (ready IN (0, 1)),
    unsynced_boot TEXT
) STRICT";

/// How far a build is that is not ready: its flushes may be ahead of its checkpoint.
pub(super) const CREATE_PROGRESS: &str =
    "CREATE TABLE retell_progress (flushed INTEGER NOT NULL) STRICT;
     INSERT INTO retell_progress VALUES (0)";

pub(super) const TABLE: &str = "retell_read_model";

const PROGRESS_TABLE: &str = "retell_progress";

const INSERT: &str = "INSERT INTO retell_read_model
    (projection, version, role, position, time, log_id, log_hash, module_digest, sdk, contract,
     build, epoch, events_per_s, ready, unsynced_boot)
    VALUES (?1, ?2, 'none', 0, ?3, ?4, zeroblob(32), ?5, ?6, ?7, ?8, ?9, 0.0, 0, ?10)";

const SELECT: &str = "SELECT projection, version, role, position, time, log_id, log_hash,
    module_digest, sdk, contract, build, epoch, events_per_s, ready, unsynced_boot
    FROM retell_read_model";

pub(super) const SELECT_EPOCH: &str = "SELECT epoch FROM retell_read_model";

const UPDATE_CHECKPOINT: &str =
    "UPDATE retell_read_model SET position = ?1, log_hash = ?2, time = ?3, events_per_s = ?4";

pub(super) const UPDATE_EPOCH: &str = "UPDATE retell_read_model SET epoch = ?1";

pub(super) const UPDATE_ROLE: &str = "UPDATE retell_read_model SET role = ?1";

pub(super) const UPDATE_READY: &str = "UPDATE retell_read_model SET ready = 1";

pub(super) const UPDATE_UNSYNCED_BOOT: &str = "UPDATE retell_read_model SET unsynced_boot = ?1";

/// What the table's row says, and which run of the machine has not synced it yet.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) status: ReadModelStatus,
    pub(super) unsynced_boot: Option<String>,
}

/// Writes the row of a fresh read model.
pub(super) fn insert(
    connection: &Connection,
    provenance: &Provenance,
    epoch: u64,
    time: i64,
    unsynced_boot: Option<&str>,
) -> rusqlite::Result<()> {
    connection.execute(
        INSERT,
        params![
            provenance.projection,
            provenance.version,
            time,
            provenance.log_id,
            provenance.module_digest,
            provenance.sdk,
            provenance.contract,
            provenance.build,
            epoch.cast_signed(),
            unsynced_boot,
        ],
    )?;
    Ok(())
}

/// Moves the row on to a checkpoint.
pub(super) fn update_checkpoint(
    connection: &Connection,
    checkpoint: Checkpoint,
    time: i64,
    events_per_s: f64,
) -> rusqlite::Result<()> {
    let rate = if events_per_s.is_finite() {
        events_per_s
    } else {
        0.0
    };
    let mut statement = connection.prepare_cached(UPDATE_CHECKPOINT)?;
    statement.execute(params![
        checkpoint.position.cast_signed(),
        checkpoint.log_hash,
        time,
        rate,
    ])?;
    Ok(())
}

/// Notes up to where everything was flushed, where there is room for that.
pub(super) fn update_flushed(connection: &Connection, flushed: Position) -> rusqlite::Result<()> {
    if !has_table(connection, PROGRESS_TABLE)? {
        return Ok(());
    }
    connection
        .prepare_cached("UPDATE retell_progress SET flushed = ?1")?
        .execute([flushed.cast_signed()])?;
    Ok(())
}

/// As [`update_flushed`] left it; 0 in read models of earlier versions.
fn flushed(connection: &Connection) -> rusqlite::Result<Position> {
    if !has_table(connection, PROGRESS_TABLE)? {
        return Ok(0);
    }
    let flushed = "SELECT flushed FROM retell_progress";
    let flushed: i64 = connection.query_row(flushed, [], |row| row.get(0))?;
    Ok(flushed.cast_unsigned())
}

/// Reads the row; the error says why the file is not a read model.
pub(super) fn read(connection: &Connection, path: &Path) -> Result<Stored, ReadModelError> {
    let not_ours = |reason: &str| ReadModelError::NotAReadModel {
        model: path.into(),
        reason: reason.to_owned(),
    };
    if !has_table(connection, TABLE).map_err(|error| fault(path, Doing::Open, error))? {
        return Err(not_ours("it has no table `retell_read_model`"));
    }
    let open_entries =
        journal::count_open(connection).map_err(|error| fault(path, Doing::Open, error))?;
    let flushed = flushed(connection).map_err(|error| fault(path, Doing::Open, error))?;
    connection
        .query_row(SELECT, [], |row| {
            let position = row.get::<_, i64>(3)?.cast_unsigned();
            let role: String = row.get(2)?;
            let log_hash: Hash = row.get(6)?;
            Ok(Stored {
                status: ReadModelStatus {
                    provenance: Provenance {
                        projection: row.get(0)?,
                        version: row.get(1)?,
                        log_id: row.get(5)?,
                        module_digest: row.get(7)?,
                        sdk: row.get(8)?,
                        contract: row.get(9)?,
                        build: row.get(10)?,
                    },
                    role: Role::parse(&role).unwrap_or(Role::None),
                    checkpoint: Checkpoint { position, log_hash },
                    flushed: flushed.max(position),
                    time: row.get(4)?,
                    epoch: row.get::<_, i64>(11)?.cast_unsigned(),
                    events_per_s: row.get(12)?,
                    ready: row.get(13)?,
                    dead_letters: open_entries,
                },
                unsynced_boot: row.get(14)?,
            })
        })
        .optional()
        .map_err(|error| match error {
            rusqlite::Error::SqliteFailure(_, _) => fault(path, Doing::Open, error),
            other => not_ours(&format!(
                "its table `retell_read_model` is of another make ({other})"
            )),
        })?
        .ok_or_else(|| not_ours("its table `retell_read_model` is empty"))
}

pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?
        .exists([name])
}
