//! Raw prepared inserts of finished rows into tables and indexes like the log's: no hash chain, no
//! triggers that guard, no ids or revisions to look up.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::Value;

/// Columns of `events` that the log fills.
const COLUMNS: &str = "position, stream, revision, id, type, occurred_at, recorded_at, salt, hash, \
                       metadata, payload";

/// A row of `events`, in memory.
pub(crate) type Row = Vec<Value>;

/// All rows of a log, in order.
pub(crate) fn rows(log: &Connection) -> rusqlite::Result<Vec<Row>> {
    let sql = format!("SELECT {COLUMNS} FROM events ORDER BY position");
    let mut statement = log.prepare(&sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns).map(|column| row.get(column)).collect()
    })?;
    rows.collect()
}

/// A new database with the log's table and its indexes, opened as the log's writer is but for its WAL: it
/// moves into the file within commits, after as many pages, and not on a thread beside them.
pub(crate) fn create(path: &Path, like: &Connection) -> rusqlite::Result<Connection> {
    let raw = Connection::open(path)?;
    raw.execute_batch(
        "PRAGMA page_size = 8192;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 2048;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    let mut statement = like.prepare(
        "SELECT sql FROM sqlite_schema
         WHERE tbl_name = 'events' AND type IN ('table', 'index') AND sql IS NOT NULL
         ORDER BY type DESC",
    )?;
    let mut made = statement.query([])?;
    while let Some(row) = made.next()? {
        raw.execute_batch(row.get_ref(0)?.as_str()?)?;
    }
    Ok(raw)
}

/// Inserts the rows, so many in each transaction.
pub(crate) fn insert(raw: &Connection, rows: &[Row], commit_every: usize) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO events ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)");
    let mut insert = raw.prepare(&sql)?;
    for rows in rows.chunks(commit_every) {
        raw.execute_batch("BEGIN IMMEDIATE")?;
        for row in rows {
            insert.execute(rusqlite::params_from_iter(row))?;
        }
        raw.execute_batch("COMMIT")?;
    }
    Ok(())
}
