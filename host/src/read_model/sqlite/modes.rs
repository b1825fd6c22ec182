//! How a connection keeps what it writes, at each stage of a build's life.

use rusqlite::Connection;

use super::open::boot_id;
use crate::limits;

/// Whether rows are changed where they are, which is when there is a WAL.
pub(super) fn is_changed_in_place(connection: &Connection) -> rusqlite::Result<bool> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// Nobody else knows the file yet, and it does not survive an error.
pub(super) fn unfinished_mode(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.pragma_update(None, "synchronous", "OFF")
}

/// Only retell's own row is changed, which is on one page; all else comes with a new file. So there is
/// no need for a journal, and no journal that could be taken for the next file's.
pub(super) fn rewriting_mode(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", replaying_synchronous())
}

/// Where a reboot can't be noticed, nothing may rest in the page cache alone.
fn replaying_synchronous() -> &'static str {
    if boot_id().is_some() { "OFF" } else { "NORMAL" }
}

/// Fast, and safe against everything but the death of the machine (which is noticed).
pub(super) fn replaying_mode(connection: &Connection) -> rusqlite::Result<()> {
    wal(connection)?;
    connection.pragma_update(None, "synchronous", replaying_synchronous())?;
    connection.pragma_update(
        None,
        "cache_size",
        kib(limits::READ_MODEL_REPLAY_CACHE_BYTES),
    )?;
    connection.pragma_update(
        None,
        "wal_autocheckpoint",
        limits::READ_MODEL_REPLAY_WAL_PAGES,
    )
}

/// Every commit survives; the last ones may be lost with the machine, and the checkpoint with them.
pub(super) fn following_mode(connection: &Connection) -> rusqlite::Result<()> {
    wal(connection)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", kib(limits::READ_MODEL_CACHE_BYTES))?;
    connection.pragma_update(None, "wal_autocheckpoint", limits::READ_MODEL_WAL_PAGES)
}

/// Runs what creates an index. SQLite sorts the entries in pieces of the page cache's size: small ones
/// stay in the processor's cache, and are sorted and merged in less time than large ones.
pub(super) fn create_index(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let before: i64 = connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
    connection.pragma_update(None, "cache_size", kib(limits::READ_MODEL_SORT_BYTES))?;
    let created = connection.execute_batch(sql);
    connection.pragma_update(None, "cache_size", before)?;
    created
}

/// For rows that the writer's cache has forgotten.
pub(super) fn reading_mode(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", kib(limits::READ_MODEL_CACHE_BYTES))
}

/// Rows are changed in place from now on, beside readers.
pub(super) fn wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(
        None,
        "journal_size_limit",
        limits::READ_MODEL_WAL_BYTES_KEPT,
    )
}

/// SQLite takes a negative cache size as KiB.
fn kib(bytes: usize) -> i64 {
    -i64::try_from(bytes / 1024).expect("limits are small")
}
