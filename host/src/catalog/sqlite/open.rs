//! Opening, making and migrating the catalog.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};

use super::{Result, SqliteCatalog, doing};
use crate::catalog::CatalogError;
use crate::limits;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("host/migrations/sqlite/catalog");
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
});
const MIGRATIONS_TABLE: &str = "retell_catalog_migrations";
/// How often a migration is tried that another process may be running, too …
const MIGRATION_TRIES: usize = 20;
/// … and how long it waits in between.
const MIGRATION_RETRY_INTERVAL: Duration = Duration::from_millis(50);

impl SqliteCatalog {
    /// Opens the catalog in an existing log. Changes no schema.
    pub async fn open(path: &Path) -> Result<Self> {
        let catalog = Self::connect(path).await?;
        let known = MIGRATOR.iter().map(|it| it.version).max().unwrap_or(0);
        let made: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = ?")
            .bind(MIGRATIONS_TABLE)
            .fetch_one(&catalog.pool)
            .await
            .map_err(doing("look for its tables"))?;
        if made == 0 {
            return Err(CatalogError::Missing);
        }
        let found: Option<i64> =
            sqlx::query_scalar("SELECT max(version) FROM retell_catalog_migrations")
                .fetch_one(&catalog.pool)
                .await
                .map_err(doing("read its migrations"))?;
        match found {
            Some(found) if found > known => Err(CatalogError::Newer { found }),
            Some(found) if found == known => Ok(catalog),
            // Its making was cut off before the first migration.
            None => Err(CatalogError::Missing),
            Some(_) => Err(CatalogError::Older),
        }
    }

    /// Closes all connections, after which nobody of this process has the file open.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Opens the catalog, or makes it where there is none. An older one is left alone and refused.
    /// Returns whether it was made.
    pub async fn open_or_create(path: &Path) -> Result<(Self, bool)> {
        let mut tries_left = MIGRATION_TRIES;
        loop {
            match Self::open(path).await {
                Err(CatalogError::Missing) => return Self::migrate(path).await,
                // Another process may be making it just now, one migration after the other.
                Err(CatalogError::Older) if tries_left > 0 => tries_left -= 1,
                opened => return opened.map(|catalog| (catalog, false)),
            }
            tokio::time::sleep(MIGRATION_RETRY_INTERVAL).await;
        }
    }

    /// Brings the catalog up to date, or makes it, in an existing log. Several processes may do so
    /// at once: one wins, and the others find it done. Returns whether anything was to be done.
    pub async fn migrate(path: &Path) -> Result<(Self, bool)> {
        let mut tries_left = MIGRATION_TRIES;
        let mut tried = false;
        loop {
            match Self::open(path).await {
                Err(CatalogError::Older | CatalogError::Missing) => {}
                opened => return opened.map(|catalog| (catalog, tried)),
            }
            let catalog = Self::connect(path).await?;
            tried = true;
            match MIGRATOR.run(&catalog.pool).await {
                Ok(()) => return Ok((catalog, true)),
                Err(sqlx::migrate::MigrateError::VersionMissing(found)) => {
                    return Err(CatalogError::Newer { found });
                }
                Err(source) if tries_left == 0 => return Err(CatalogError::Migration { source }),
                Err(_) => tries_left -= 1,
            }
            tokio::time::sleep(MIGRATION_RETRY_INTERVAL).await;
        }
    }

    async fn connect(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(limits::LOG_BUSY_TIMEOUT);
        match Self::connect_with(path, options).await {
            Err(CatalogError::Storage { source, .. }) if is_write_refused(&source) => {
                // To look at, it is good enough. Where there is no WAL, nobody writes.
                let mut wal = path.as_os_str().to_owned();
                wal.push("-wal");
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .read_only(true)
                    .immutable(!Path::new(&wal).exists());
                Self::connect_with(path, options).await
            }
            connected => connected,
        }
    }

    async fn connect_with(path: &Path, options: SqliteConnectOptions) -> Result<Self> {
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            // Without these, sqlx has no task that looks for idle connections. That task counts them
            // without a lock, may count to below zero when one is taken while another is given back,
            // and then never ends (seen with sqlx 0.9.0).
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(doing("open"))?;
        let home = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            pool,
            leases: home.join("read-models"),
        })
    }

    /// A writing transaction; it holds the write lock from its start, so nothing it read can change.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(doing("begin a change"))
    }
}

/// Whether the disk, or its owner, does not let this process write (`SQLITE_READONLY`, `SQLITE_CANTOPEN`).
fn is_write_refused(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    let code: Option<i32> = code.and_then(|it| it.parse().ok());
    code.is_some_and(|code| matches!(code & 0xff, 8 | 14))
}
