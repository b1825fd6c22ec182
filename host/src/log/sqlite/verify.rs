//! Recomputing the hash chain.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::errors::explain;
use crate::event::{Hash, Position};
use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::check_chain::{EVENTS_AT_ONCE, Walk};
use crate::log::{ChainCheck, ChainFault, ChainProgress, Head, LogError, chain};

/// Walks the whole log; a file that is whole as a chain is then looked through for the rest: its
/// indexes, by which readers find events.
pub(super) fn check_chain(path: &Path, progress: ChainProgress) -> Result<ChainCheck, LogError> {
    let explained = |error| explain(path, "checking the hash chain", error);
    let connection = connect(path).map_err(explained)?;
    let mut check = walk(&connection, progress).map_err(explained)?;
    if check.fault.is_none() {
        check.fault = what_is_damaged(&connection).map_err(explained)?;
    }
    Ok(check)
}

/// A connection that also reads what is left of a file whose end is gone, which SQLite refuses to look
/// into otherwise.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOG_BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    Ok(connection)
}

fn walk(connection: &Connection, progress: ChainProgress) -> rusqlite::Result<ChainCheck> {
    let sql = "SELECT log_id, position, hash FROM log_head";
    let read = connection.query_row(sql, [], |row| {
        let noted = Head {
            position: row.get(1)?,
            hash: row.get(2)?,
        };
        Ok((row.get::<_, String>(0)?, noted))
    });
    let (log_id, noted) = match read {
        Ok(read) => read,
        Err(error) if is_damage(&error) => return Ok(Walk::impossible(error.to_string())),
        Err(error) => return Err(error),
    };
    let mut walk = Walk::new(chain::first_previous(&log_id), noted, progress);
    let mut statement = connection.prepare(
        "SELECT position, stream, revision, id, type, occurred_at, recorded_at, subject, key_id,
                salt, metadata, payload, hash
         FROM events WHERE position >= ?1 ORDER BY position LIMIT ?2",
    )?;
    let mut buffer = Vec::new();
    loop {
        let mut rows = statement.query((walk.from(), EVENTS_AT_ONCE))?;
        let mut read_any = false;
        loop {
            let read = match rows.next() {
                Ok(None) => break,
                Ok(Some(row)) => link(row, walk.hash(), &mut buffer),
                Err(error) => Err(error),
            };
            read_any = true;
            if !walk.take(read, is_damage)? {
                return Ok(walk.end());
            }
        }
        if !read_any {
            return Ok(walk.end());
        }
    }
}

/// An event's position, the hash that follows for it, and the one it has.
fn link(
    row: &Row<'_>,
    previous: &Hash,
    buffer: &mut Vec<u8>,
) -> rusqlite::Result<(Position, Hash, Hash)> {
    let salt: [u8; chain::SALT_BYTES] = row.get(9)?;
    let link = chain::Link {
        position: row.get(0)?,
        stream: row.get_ref(1)?.as_str()?,
        revision: row.get(2)?,
        id: row.get_ref(3)?.as_str()?,
        event_type: row.get_ref(4)?.as_str()?,
        occurred_at: row.get(5)?,
        recorded_at: row.get(6)?,
        subject: row.get_ref(7)?.as_str_or_null()?,
        key_id: row.get_ref(8)?.as_str_or_null()?,
        metadata_digest: &chain::content_digest(&salt, json(row, 10)?),
        payload_digest: &chain::content_digest(&salt, json(row, 11)?),
    };
    let hash = chain::link(previous, &link, buffer);
    Ok((link.position, hash, row.get(12)?))
}

/// A JSON text, or none. An empty text is neither, and has the digest of none.
fn json<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<Option<&'r str>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some("") => Err(rusqlite::Error::InvalidColumnType(
            column,
            "JSON".to_owned(),
            rusqlite::types::Type::Text,
        )),
        text => Ok(text),
    }
}

/// Whether the file holds something that no log does, in contrast to a file that can't be read now.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::SystemIoFailure
                // A table is gone.
                | ErrorCode::Unknown
        ),
        _ => true,
    }
}

fn what_is_damaged(connection: &Connection) -> rusqlite::Result<Option<ChainFault>> {
    let found: rusqlite::Result<String> =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => what_is_missing(connection),
        Ok(message) => Ok(Some(ChainFault::Storage { message })),
        Err(error) if is_damage(&error) => Ok(Some(ChainFault::Storage {
            message: error.to_string(),
        })),
        Err(error) => Err(error),
    }
}

/// What keeps the log append-only, and finds events in it. Somebody may have dropped it.
const GUARDS: [&str; 9] = [
    "events_delete",
    "events_id",
    "events_insert",
    "events_stream",
    "events_type",
    "events_update",
    "log_head_delete",
    "log_head_insert",
    "log_head_update",
];

fn what_is_missing(connection: &Connection) -> rusqlite::Result<Option<ChainFault>> {
    let mut statement = connection
        .prepare("SELECT 1 FROM sqlite_schema WHERE type IN ('index', 'trigger') AND name = ?1")?;
    for name in GUARDS {
        if !statement.exists([name])? {
            return Ok(Some(ChainFault::Unguarded { name }));
        }
    }
    Ok(None)
}
