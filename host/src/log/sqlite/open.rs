//! Opening a log: what state a file is in, creating a log, and bringing an older one up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use sqlx::ConnectOptions;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use uuid::Uuid;

use super::connection::{open_reader, open_writer};
use super::errors::explain;
use crate::limits::LOG_BUSY_TIMEOUT;
use crate::log::{LogError, OpenMode, chain};

/// What a log says of itself.
pub(super) struct Identity {
    pub(super) log_id: String,
}

/// What is at a path.
enum State {
    /// No file.
    Missing,
    /// A database without tables.
    Empty,
    /// A log whose schema is older than this version's; 0: its creation was interrupted.
    Older(i64),
    Current(Identity),
}

/// Another process may create or migrate the same log at the same time; then one of the two fails
/// and looks again.
const MIGRATE_ATTEMPTS: u32 = 4;
/// Larger than SQLite's own 4 KiB: an event takes some hundred bytes, and bulk appending and reading
/// are about a fifth faster. Only a new file can take it.
const PAGE_BYTES: u32 = 8 << 10;
const MIGRATE_PAUSE: Duration = Duration::from_millis(50);

/// Opens, creates or migrates as the mode allows. Returns whether anything was changed.
pub(super) async fn prepare(
    path: &Path,
    mode: OpenMode,
    now_us: i64,
) -> Result<(Identity, bool), LogError> {
    match inspect(path)? {
        State::Current(identity) => return Ok((identity, false)),
        State::Missing | State::Empty if mode == OpenMode::Existing => {
            return Err(LogError::Missing { log: path.into() });
        }
        State::Older(found) if found > 0 && mode != OpenMode::CreateOrMigrate => {
            return Err(older(path, found));
        }
        State::Older(0) if mode == OpenMode::Existing => return Err(older(path, 0)),
        State::Missing | State::Empty | State::Older(_) => {}
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| LogError::Create {
            log: path.into(),
            source: error.into(),
        })?;
    }
    let mut attempt = 1;
    loop {
        let migrated = migrate(path, now_us).await;
        // Whoever did it: what counts is the state afterwards.
        match (inspect(path), migrated) {
            (Ok(State::Current(identity)), _) => return Ok((identity, true)),
            (Err(error @ LogError::Newer { .. }), _) => return Err(error),
            (_, Err(error)) if attempt == MIGRATE_ATTEMPTS => return Err(error),
            (Err(error), Ok(())) => return Err(error),
            (Ok(_), Ok(())) => return Err(older(path, 0)),
            (_, Err(_)) => {}
        }
        attempt += 1;
        tokio::time::sleep(MIGRATE_PAUSE).await;
    }
}

fn older(path: &Path, found: i64) -> LogError {
    LogError::Older {
        log: path.into(),
        found,
        wanted: schema_version(),
    }
}

/// The log's migrations. The catalog shares the database file and keeps a table of its own.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("host/migrations/sqlite/log");
    migrator.dangerous_set_table_name("retell_log_migrations");
    migrator
}

/// The schema that this version writes and reads.
fn schema_version() -> i64 {
    migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Looks at a file without changing it.
fn inspect(path: &Path) -> Result<State, LogError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => {
            return Err(LogError::ReadOnly {
                log: path.into(),
                source: error.into(),
            });
        }
        Ok(metadata) if metadata.is_dir() => {
            return Err(not_a_log(path, "it is a folder"));
        }
        // SQLite makes the file before it writes the first page; nothing is lost by starting over.
        Ok(metadata) if metadata.len() == 0 => return Ok(State::Empty),
        Ok(_) => {}
    }
    let connection =
        open_reader(path).map_err(|error| explain(path, "opening the database", error))?;
    let doing = "reading its schema";
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| row.get(0))
                .and_then(Iterator::collect)
        })
        .map_err(|error| explain(path, doing, error))?;
    if tables.is_empty() {
        return Ok(State::Empty);
    }
    if !tables.iter().any(|name| name == "retell_log_migrations") {
        return Err(not_a_log(
            path,
            "it is an SQLite database with other tables",
        ));
    }
    let found: i64 = connection
        .query_row(
            "SELECT coalesce(max(version), 0) FROM retell_log_migrations WHERE success",
            [],
            |row| row.get(0),
        )
        .map_err(|error| explain(path, doing, error))?;
    let supported = schema_version();
    if found > supported {
        return Err(newer(path, found, supported));
    }
    if found < supported {
        return Ok(State::Older(found));
    }
    identify(path, &connection)
}

fn identify(path: &Path, connection: &Connection) -> Result<State, LogError> {
    let head = connection
        .query_row("SELECT log_id, format FROM log_head", [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?))
        })
        .optional()
        .map_err(|error| explain(path, "reading the head", error))?;
    match head {
        None => Ok(State::Older(0)),
        Some((_, format)) if format > i64::from(chain::FORMAT) => {
            Err(newer(path, format, i64::from(chain::FORMAT)))
        }
        Some((log_id, _)) => Ok(State::Current(Identity { log_id })),
    }
}

fn not_a_log(path: &Path, problem: &str) -> LogError {
    LogError::NotALog {
        log: path.into(),
        problem: problem.to_owned(),
    }
}

fn newer(path: &Path, found: i64, supported: i64) -> LogError {
    LogError::Newer {
        log: path.into(),
        found,
        supported,
    }
}

/// Runs what is missing of the migrations, and gives a new log its id.
async fn migrate(path: &Path, now_us: i64) -> Result<(), LogError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(LOG_BUSY_TIMEOUT);
    let failed = |error| not_prepared(path, error);
    let mut connection = options.connect().await.map_err(failed)?;
    migrator()
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(found) => newer(path, found, schema_version()),
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                failed(error)
            }
            other => LogError::Create {
                log: path.into(),
                source: other.into(),
            },
        })?;
    sqlx::Connection::close(connection).await.map_err(failed)?;
    write_identity(path, now_us).map_err(|error| explain(path, "writing the head", error))
}

/// What is in the way of creating or migrating a log.
fn not_prepared(path: &Path, error: sqlx::Error) -> LogError {
    let log = path.into();
    let database = error.as_database_error();
    // SQLite's own codes: its disk is full, or a quota was met; somebody else has it locked.
    match database.and_then(DatabaseError::code).as_deref() {
        Some("13" | "778") => LogError::Full {
            log,
            source: error.into(),
        },
        Some("5" | "517") => LogError::Busy {
            log,
            waited_s: LOG_BUSY_TIMEOUT.as_secs(),
        },
        _ => LogError::Create {
            log,
            source: error.into(),
        },
    }
}

fn write_identity(path: &Path, now_us: i64) -> rusqlite::Result<()> {
    let millis = u64::try_from(now_us / 1000).unwrap_or(0);
    let log_id = uuid::Builder::from_unix_timestamp_millis(millis, &rand::random())
        .into_uuid()
        .hyphenated()
        .encode_lower(&mut Uuid::encode_buffer())
        .to_owned();
    open_writer(path)?.execute(
        "INSERT INTO log_head (one, log_id, format, position, hash, recorded_at)
         SELECT 1, ?1, ?2, 0, ?3, 0 WHERE NOT EXISTS (SELECT 1 FROM log_head)",
        (&log_id, chain::FORMAT, chain::first_previous(&log_id)),
    )?;
    Ok(())
}
