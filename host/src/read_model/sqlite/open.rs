//! Creating and opening read model files.
//!
//! Journal: WAL, so that readers never wait and never stop the writer. A build that begins from nothing
//! has none at first: its file is laid out anew by each flush, until changing rows in it is cheaper
//! (see [`rewrite`](super::rewrite)). While a build is replaying, `synchronous` is OFF: the death of the process loses nothing (the page cache has it all), and
//! only the death of the machine could leave a torn file. That case is noticed, because the file
//! names the run of the machine in which it was last written without syncing.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::fault::{Doing, fault, io_fault};
use super::modes;
use super::provenance::{self, Stored};
use super::schema::TableSql;
use crate::limits;
use crate::read_model::{Provenance, ReadModelError, ReadModelStatus};
use crate::sqlite_format::OpenFile;

/// Makes the file with its tables and its row of provenance; refuses a file that exists.
///
/// It is made under another name and linked to its own when it is whole, so whoever finds a file of
/// that name finds a read model, also after a crash.
pub(super) fn create(
    path: &Path,
    tables: &[TableSql],
    provenance: &Provenance,
    epoch: u64,
    time: i64,
) -> Result<Connection, ReadModelError> {
    let io = |error| io_fault(path, Doing::Create, error);
    let exists = || ReadModelError::Exists { model: path.into() };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    // A journal left by an earlier file of the same name would be played into the new one.
    if path.exists() || side_file(path, "-wal").exists() || side_file(path, "-journal").exists() {
        return Err(exists());
    }
    let unfinished = unfinished_file(path);
    remove_unfinished(path).map_err(io)?;
    File::create_new(&unfinished).map_err(io)?;
    fill(&unfinished, tables, provenance, epoch, time).map_err(|error| {
        // Best effort: the next attempt sweeps it up, too.
        let _ = remove_database(&unfinished);
        error.at(path)
    })?;
    fs::hard_link(&unfinished, path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => io(error),
    })?;
    fs::remove_file(&unfinished).map_err(io)?;
    connect_rewritable(path)
}

/// A connection to a file that flushes rewrite.
pub(super) fn connect_rewritable(path: &Path) -> Result<Connection, ReadModelError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    modes::rewriting_mode(&connection).map_err(|error| fault(path, Doing::Open, error))?;
    Ok(connection)
}

/// Fills an empty file with tables without rows.
pub(super) fn fill(
    path: &Path,
    tables: &[TableSql],
    provenance: &Provenance,
    epoch: u64,
    time: i64,
) -> Result<(), ReadModelError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let made = (|| {
        connection.pragma_update(None, "page_size", limits::READ_MODEL_PAGE_BYTES)?;
        modes::unfinished_mode(&connection)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute_batch(provenance::CREATE)?;
        connection.execute_batch(provenance::CREATE_PROGRESS)?;
        let boot = boot_id();
        provenance::insert(&connection, provenance, epoch, time, boot.as_deref())?;
        for table in tables {
            connection.execute_batch(&table.create)?;
            for index in table.indexes.iter().filter(|index| index.unique) {
                connection.execute_batch(&index.create)?;
            }
        }
        connection.execute_batch("COMMIT")
    })();
    made.map_err(|error| fault(path, Doing::Create, error))?;
    connection
        .close()
        .map_err(|(_, error)| fault(path, Doing::Create, error))
}

/// Removes a database and the files that belong to it; none need be there. The database goes first:
/// what is left without it is harmless.
pub(super) fn remove_database(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(side_file(path, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The name under which a read model is made.
pub(super) fn unfinished_file(path: &Path) -> PathBuf {
    side_file(path, ".new")
}

/// Removes what a killed `create` left, be it a beginning or a second name of the whole file.
pub(super) fn remove_unfinished(path: &Path) -> std::io::Result<()> {
    remove_database(&unfinished_file(path))
}

/// Opens a read model for writing, after looking whether it is the one expected, and takes it over
/// for `epoch`.
pub(super) fn open(
    path: &Path,
    tables: &[TableSql],
    expected: &Provenance,
    epoch: u64,
) -> Result<(Connection, Stored), ReadModelError> {
    let opening = |error| fault(path, Doing::Open, error);
    loop {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        keep_wal_on_close(&connection, true).map_err(opening)?;
        let taken = take_over_build(&connection, path, tables, expected, epoch);
        // A writer that is shut out only now may have put another file in this one's place before
        // that; then the other one is to be taken over.
        if has_moved(&connection, path)? {
            continue;
        }
        let stored = taken?;
        keep_wal_on_close(&connection, false).map_err(opening)?;
        // Only now: until it is shut out, an earlier writer may be at work on it.
        remove_unfinished(path).map_err(|error| io_fault(path, Doing::Open, error))?;
        if !stored.status.ready {
            note_unsynced(&connection, boot_id().as_deref()).map_err(opening)?;
            if stored.unsynced_boot.is_none() {
                // Before anything else is written without syncing: the note must not be the part of it
                // that a dying machine loses.
                sync(&connection, path)?;
                set_mode(&connection, false).map_err(opening)?;
            }
        }
        return Ok((connection, stored));
    }
}

/// A connection to a file whose place another one has taken finds that one's WAL by its name. When it is
/// closed as the last one of its file, SQLite would move that WAL into it, and remove it.
fn keep_wal_on_close(connection: &Connection, keep: bool) -> rusqlite::Result<bool> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
}

/// How a build that is there keeps what is written.
fn set_mode(connection: &Connection, is_ready: bool) -> rusqlite::Result<()> {
    if is_ready {
        modes::following_mode(connection)
    } else if modes::is_changed_in_place(connection)? {
        modes::replaying_mode(connection)
    } else {
        modes::rewriting_mode(connection)
    }
}

/// Whether a file has a name and nothing in it, which is what some file systems make of one that was
/// renamed just before the machine died. Asks for its size alone: closing a second handle would drop
/// the locks that SQLite has on it.
fn is_blank(path: &Path) -> std::io::Result<bool> {
    Ok(fs::metadata(path)?.len() == 0)
}

/// Whether another file is at the path by now than the connection has.
pub(super) fn has_moved(connection: &Connection, path: &Path) -> Result<bool, ReadModelError> {
    OpenFile::has_moved(connection).map_err(|error| fault(path, Doing::Open, error))
}

fn take_over_build(
    connection: &Connection,
    path: &Path,
    tables: &[TableSql],
    expected: &Provenance,
    epoch: u64,
) -> Result<Stored, ReadModelError> {
    if is_blank(path).map_err(|error| io_fault(path, Doing::Open, error))? {
        return Err(ReadModelError::Unsynced { model: path.into() });
    }
    let stored = provenance::read(connection, path)?;
    stored.status.provenance.check(expected, path.into())?;
    let boot = boot_id();
    if stored.unsynced_boot.is_some() && stored.unsynced_boot != boot {
        return Err(ReadModelError::Unsynced { model: path.into() });
    }
    for table in tables {
        let has = provenance::has_table(connection, &table.name)
            .map_err(|error| fault(path, Doing::Open, error))?;
        if !has {
            return Err(ReadModelError::Malformed {
                model: path.into(),
                message: format!("its table `{}` is missing", table.name),
            });
        }
    }
    let opening = |error| fault(path, Doing::Open, error);
    set_mode(connection, stored.status.ready).map_err(opening)?;
    take_over(connection, path, epoch)?;
    // Whoever was still writing has committed by now, or never will.
    let taken = provenance::read(connection, path)?;
    if taken.status.ready != stored.status.ready {
        set_mode(connection, taken.status.ready).map_err(opening)?;
    }
    Ok(taken)
}

/// Writes the epoch, unless a later one is there already, or another file has taken this one's place.
pub(super) fn take_over(
    connection: &Connection,
    path: &Path,
    epoch: u64,
) -> Result<(), ReadModelError> {
    let result = (|| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let stored: i64 = connection.query_row(provenance::SELECT_EPOCH, [], |row| row.get(0))?;
        let stored = stored.cast_unsigned();
        // Whoever puts another file in its place has this lock while it does, so now is the time to ask.
        if stored <= epoch && !OpenFile::has_moved(connection)? {
            connection.execute(provenance::UPDATE_EPOCH, [epoch.cast_signed()])?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(stored)
    })();
    let stored = result.map_err(|error| fault(path, Doing::Open, error))?;
    if stored > epoch {
        return Err(ReadModelError::FencedOff {
            model: path.into(),
            ours: epoch,
            theirs: stored,
        });
    }
    Ok(())
}

/// Notes which run of the machine writes without syncing; none: everything is synced.
pub(super) fn note_unsynced(connection: &Connection, boot: Option<&str>) -> rusqlite::Result<()> {
    connection.execute(provenance::UPDATE_UNSYNCED_BOOT, [boot])?;
    Ok(())
}

/// What a read model says of itself. Never makes a file where none is.
pub(super) fn status(path: &Path) -> Result<ReadModelStatus, ReadModelError> {
    let connection = snapshot(path)?;
    Ok(provenance::read(&connection, path)?.status)
}

/// A connection that can only read, of a file that must exist.
///
/// A database in WAL mode can't be read without its `-wal` and `-shm` files. Where they are gone and
/// the folder is not ours to write in, nobody is writing either: then the file is read as it stands.
pub(super) fn connect_read_only(path: &Path) -> Result<Connection, ReadModelError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())) {
        Ok(()) => Ok(connection),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) && !has_journal(path) =>
        {
            let uri = format!("file:{}?mode=ro&immutable=1", escape_uri(path));
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(uri, flags)
                .map_err(|error| fault(path, Doing::Open, error))?;
            settle(&connection).map_err(|error| fault(path, Doing::Open, error))?;
            Ok(connection)
        }
        Err(error) => Err(fault(path, Doing::Open, error)),
    }
}

/// Whether there is a journal beside the file, which belongs to what it holds.
pub(super) fn has_journal(path: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .any(|suffix| side_file(path, suffix).exists())
}

/// A connection that can only read, and one snapshot, of the file that the path leads to. A build that
/// is laid out anew may be replaced between any two looks at it; within a snapshot it is not.
pub(super) fn snapshot(path: &Path) -> Result<Connection, ReadModelError> {
    loop {
        let connection = connect_read_only(path)?;
        connection
            .execute_batch("BEGIN")
            .and_then(|()| {
                let first = "SELECT count(*) FROM sqlite_schema";
                connection.query_row(first, [], |_| Ok(()))
            })
            .map_err(|error| fault(path, Doing::Read, error))?;
        if !has_moved(&connection, path)? {
            return Ok(connection);
        }
    }
}

/// A connection to a file that exists.
pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, ReadModelError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            return Err(ReadModelError::NotAReadModel {
                model: path.into(),
                reason: "it is not a file".to_owned(),
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(ReadModelError::Missing { model: path.into() });
        }
        Err(error) => return Err(io_fault(path, Doing::Open, error)),
    }
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| fault(path, Doing::Open, error))?;
    settle(&connection).map_err(|error| fault(path, Doing::Open, error))?;
    Ok(connection)
}

/// What every connection keeps to: the schema is data of a module and not to be trusted.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(limits::READ_MODEL_BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
    // Else a misspelt "column" is taken for a text.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_prepared_statement_cache_capacity(limits::READ_MODEL_STATEMENTS_MAX);
    Ok(())
}

/// Names the running system's boot, where there is a way to know it.
pub(super) fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// Moves the WAL into the file and makes both durable, and the folder entry with them.
pub(super) fn sync(connection: &Connection, path: &Path) -> Result<(), ReadModelError> {
    // FULL makes SQLite itself sync what this checkpoint writes; what earlier ones wrote with
    // `synchronous=OFF` is synced with the file as a whole.
    let checkpointed = (|| {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        OpenFile::database(connection).sync()
    })();
    checkpointed.map_err(|error| fault(path, Doing::Sync, error))?;
    sync_around(path).map_err(|error| io_fault(path, Doing::Sync, error))
}

/// Never opens the database file itself: closing it would drop the locks that SQLite's connections
/// of this process hold on it.
fn sync_around(path: &Path) -> std::io::Result<()> {
    // A reader may have kept the checkpoint from moving the last frames out of the WAL.
    match File::open(side_file(path, "-wal")) {
        Ok(wal) => wal.sync_all()?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for folder in path.ancestors().skip(1).take(2) {
        if !folder.as_os_str().is_empty() {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}

/// The file that SQLite keeps beside the database.
pub(super) fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn escape_uri(path: &Path) -> String {
    let mut out = String::new();
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => {
                use std::fmt::Write as _;
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
