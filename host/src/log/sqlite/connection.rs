//! Connections to the log's database file, set up for what they are used for.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::limits::LOG_BUSY_TIMEOUT;

/// Between two looks at whether another process's transaction is over. Short, because a process
/// that imports leaves the others only short gaps.
const BUSY_POLL: Duration = Duration::from_millis(1);
/// Statements kept prepared on one connection.
const STATEMENTS_MAX: usize = 64;

/// A connection that appends. The file must exist.
pub(super) fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    set_up(&connection)?;
    // FULL: what was acknowledged survives a power cut. The page cache holds the hot parts of the
    // three indexes. Who moves the WAL into the file, and when, is the writer's (see `wal`); it is
    // cut back after a burst.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    Ok(connection)
}

/// A connection that can't write, not even by mistake.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    set_up(&connection)?;
    // Most pages are read past SQLite; those that it reads are read once and copied from. For them a
    // page cache that fits the processor's own is faster than a larger one or a mapped file (by a
    // fifth), and mapped pages count as the process's memory.
    connection.execute_batch(
        "PRAGMA query_only = ON;
         PRAGMA cache_size = -1024;
         PRAGMA mmap_size = 0;",
    )?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_a_little))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

fn wait_a_little(polls: i32) -> bool {
    let polls = u32::try_from(polls).unwrap_or(u32::MAX);
    if BUSY_POLL.saturating_mul(polls) >= LOG_BUSY_TIMEOUT {
        return false;
    }
    std::thread::sleep(BUSY_POLL);
    true
}
